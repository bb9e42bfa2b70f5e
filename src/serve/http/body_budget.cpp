#include "serve/http/body_budget.h"

#include <algorithm>
#include <new>

namespace moeopt::serve {
namespace {

constexpr std::size_t kFirstBytes = 4096;

}  // namespace

bool BodyBudget::take(std::size_t bytes) {
  if (bytes > limit_ - used_) return false;
  used_ += bytes;
  return true;
}

bool BodyShare::append(std::string_view bytes) {
  const std::size_t needed = text_.size() + bytes.size();
  if (needed > taken_) {
    std::size_t wanted = std::max(kFirstBytes, 2 * taken_);
    if (length_) wanted = std::min(wanted, *length_);
    wanted = std::max(wanted, needed);
    if (!budget_.take(wanted - taken_)) return false;
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
  text_ += bytes;
  return true;
}

void BodyShare::drop() {
  text_ = {};
  budget_.give_back(taken_);
  taken_ = 0;
}

}  // namespace moeopt::serve
