// TokenConstraint: which ids may come next in one generated sequence. The engine asks for the mask
// before each sample and tells what was sampled; one sequence owns one object, on one thread.
// Invariant: an id whose bit was set may be accepted; nothing here allocates in fill_mask().
#pragma once

#include <cstdint>
#include <span>

namespace moeopt {

class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Sets bit i of `allowed` (words of 64, vocab bits) when id i may come next. Never allocates.
  virtual void fill_mask(std::span<std::uint64_t> allowed) = 0;
  virtual void accept(std::int32_t id) = 0;  // id was sampled (it was allowed)
  virtual bool complete() const = 0;  // the text so far is a whole value: end ids are allowed
};

}  // namespace moeopt
