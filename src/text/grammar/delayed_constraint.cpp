#include "text/grammar/delayed_constraint.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"

namespace moeopt {
namespace {

class DelayedConstraint final : public TokenConstraint {
 public:
  DelayedConstraint(std::int32_t begin_id, std::int32_t n_ids,
                    std::span<const std::int32_t> end_ids,
                    std::unique_ptr<TokenConstraint> constraint)
      : begin_id_(begin_id), constraint_(std::move(constraint)) {
    const auto n = static_cast<std::size_t>(n_ids);
    before_.assign((n + 63) / 64, ~std::uint64_t{0});
    if (n % 64 != 0) before_.back() >>= 64 - n % 64;
    for (const std::int32_t id : end_ids) {
      before_[static_cast<std::size_t>(id) / 64] &= ~(std::uint64_t{1} << (id % 64));
    }
  }

  void fill_mask(std::span<std::uint64_t> allowed) override {
    if (begun_) return constraint_->fill_mask(allowed);
    MOEOPT_CHECK(allowed.size() >= before_.size());
    std::fill(std::copy(before_.begin(), before_.end(), allowed.begin()), allowed.end(), 0);
  }

  void accept(std::int32_t id) override {
    if (begun_) return constraint_->accept(id);
    begun_ = id == begin_id_;
  }

  bool complete() const override { return begun_ && constraint_->complete(); }

 private:
  std::int32_t begin_id_;
  std::unique_ptr<TokenConstraint> constraint_;
  std::vector<std::uint64_t> before_;
  bool begun_ = false;
};

}  // namespace

std::unique_ptr<TokenConstraint> constrained_after(std::int32_t begin_id, std::int32_t n_ids,
                                                   std::span<const std::int32_t> end_ids,
                                                   std::unique_ptr<TokenConstraint> constraint) {
  MOEOPT_CHECK(begin_id >= 0);
  MOEOPT_CHECK(begin_id < n_ids);
  for (const std::int32_t id : end_ids) {
    MOEOPT_CHECK(id >= 0);
    MOEOPT_CHECK(id < n_ids);
  }
  return std::make_unique<DelayedConstraint>(begin_id, n_ids, end_ids, std::move(constraint));
}

}  // namespace moeopt
