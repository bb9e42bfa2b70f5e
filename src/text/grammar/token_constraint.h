// Which token may come next in one choice of one request: what the engine asks of a grammar.
// One object follows one text; it is used by one thread at a time.
// Invariant: a text made of allowed tokens alone can always be brought to its end by allowed
// tokens.
#pragma once

#include <cstdint>
#include <span>

namespace moeopt {

class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Bit i of `allowed` (bit i % 64 of word i / 64) says whether id i may come next; the whole span
  // is written. Allocates nothing.
  virtual void fill_mask(std::span<std::uint64_t> allowed) = 0;
  // `id` was sampled, and was allowed. Allocates nothing.
  virtual void accept(std::int32_t id) = 0;
  // The text so far is a whole value: end ids are allowed.
  virtual bool complete() const = 0;
};

}  // namespace moeopt
