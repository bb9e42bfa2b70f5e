// The router's decision in float64 on the host: what it must be, and whether another one is as good
// where scores tie.
// Invariant: the decision itself is cpu/reference/router.h's, the specification; only the judgement
// of near ties is made here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "moeopt.h"

namespace moeopt::gpu_test {

// Selection values that differ by less than this part of the larger may be taken in either order,
// where no logit is beyond kPlainLogit; above, the float32 error of a logit and so this part grow
// with it.
inline constexpr double kTie = 1e-5;
// Relative error of a weight, likewise: the logit's, through exp, and the sum's.
inline constexpr double kWeightTolerance = 2e-5;
inline constexpr double kPlainLogit = 4;

// By which the two above are multiplied for these logits.
double tolerance_factor(std::span<const double> logits);

struct RoutedRow {
  std::vector<std::int32_t> ids;
  std::vector<double> weights;
  bool has_nan = false;  // among the logits
};

class Router {
 public:
  // `bias` empty: none; kept by reference, like the description.
  Router(const moeopt_moe_desc& desc, const std::vector<float>& bias) : desc_(desc), bias_(bias) {}

  RoutedRow decide(std::span<const double> logits) const;
  // Why `ids` are no valid choice for these logits; nothing when they are one.
  std::optional<std::string> fault_of(std::span<const double> logits,
                                      std::span<const std::int32_t> ids) const;
  // The weights that belong to `ids`.
  std::vector<double> weights_of(std::span<const double> logits,
                                 std::span<const std::int32_t> ids) const;

 private:
  std::vector<double> scores_of(std::span<const double> logits) const;
  std::vector<double> choice_of(std::span<const double> logits) const;
  // Groups that may be chosen from, given that those with `taken` must be; nothing when that cannot
  // be.
  std::optional<std::vector<bool>> open_groups(std::span<const double> choice, double tie,
                                               const std::vector<bool>& taken) const;

  const moeopt_moe_desc& desc_;
  const std::vector<float>& bias_;
};

}  // namespace moeopt::gpu_test
