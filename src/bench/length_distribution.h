// How many tokens a prompt or an answer has: one number, or a distribution of them.
//
//   128                        always 128
//   uniform:64-256             every whole number from 64 to 256, equally likely
//   normal:128,32              mean 128, standard deviation 32, rounded
//   lognormal:128,0.5          median 128; the logarithm has standard deviation 0.5; rounded
//   normal:128,32@16-512       any of the last two, clamped to 16..512 (unsaid: 1..1000000)
//
// Invariant: every draw is within [low, high], and low is at least 1.
#pragma once

#include <string>
#include <string_view>

#include "bench/random.h"

namespace moeopt::bench {

class LengthDistribution {
 public:
  // Error(kUsage) names `flag` and shows the grammar.
  static LengthDistribution parse(std::string_view text, std::string_view flag);
  static LengthDistribution always(int tokens);

  int draw(Random& random) const;
  int low() const { return low_; }
  int high() const { return high_; }
  // As it was written.
  const std::string& text() const { return text_; }

 private:
  enum class Kind { kAlways, kUniform, kNormal, kLognormal };

  Kind kind_ = Kind::kAlways;
  double centre_ = 0, width_ = 0;
  int low_ = 1, high_ = 1;
  std::string text_;
};

}  // namespace moeopt::bench
