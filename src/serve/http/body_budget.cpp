#include "serve/http/body_budget.h"

#include <algorithm>
#include <new>

namespace moeopt::serve {
namespace {

constexpr std::size_t kFirstBytes = 4096;
constexpr std::size_t kStepBytes = std::size_t{64} << 10;

}  // namespace

bool BodyBudget::take(std::size_t bytes, const BodyShare& asks) {
  if (bytes > limit_) return false;
  while (bytes > limit_ - used_) {
    const auto slowest = std::find_if(coming_.begin(), coming_.end(),
                                      [&asks](const BodyShare* share) { return share != &asks; });
    if (slowest == coming_.end() || Clock::now() - (*slowest)->last_step_ < patience_) return false;
    (*slowest)->give_way();
  }
  used_ += bytes;
  return true;
}

bool BodyShare::append(std::string_view bytes) {
  if (gave_way_) return false;
  const std::size_t needed = text_.size() + bytes.size();
  if (needed > taken_) {
    std::size_t wanted = std::max(kFirstBytes, 2 * taken_);
    if (length_) wanted = std::min(wanted, *length_);
    wanted = std::max(wanted, needed);
    if (!budget_.take(wanted - taken_, *this)) return false;
    taken_ = wanted;
    try {
      std::string larger;  // NOTE: text_.reserve() may allocate twice what it holds
      larger.reserve(wanted);
      larger += text_;
      text_ = std::move(larger);
    } catch (const std::bad_alloc&) {
      return false;
    }
  }
  const bool stepped = text_.empty() || needed / kStepBytes > text_.size() / kStepBytes;
  text_ += bytes;
  if (stepped) came_further();
  return true;
}

std::string BodyShare::take_text() {
  leave_line();
  return std::move(text_);
}

void BodyShare::drop() {
  leave_line();
  std::string().swap(text_);  // NOTE: `text_ = {}` would keep the memory
  budget_.used_ -= taken_;
  taken_ = 0;
}

void BodyShare::came_further() {
  leave_line();
  last_step_ = BodyBudget::Clock::now();
  place_ = budget_.coming_.insert(budget_.coming_.end(), this);
}

void BodyShare::leave_line() {
  if (place_ != budget_.coming_.end()) budget_.coming_.erase(place_);
  place_ = budget_.coming_.end();
}

void BodyShare::give_way() {
  drop();
  gave_way_ = true;
  if (on_give_way_) on_give_way_();
}

}  // namespace moeopt::serve
