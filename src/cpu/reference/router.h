// Which experts a row goes to, and with which weights: the one definition that every path of the
// CPU uses, and the specification of the GPU's gate.
// Sources: Shazeer et al. 1701.06538 (softmax top-k); DeepSeek-V2 2405.04434 section 2.1.2 (groups
// by their best expert); DeepSeek-V3 2412.19437 section 2.1.2 (sigmoid scores, a correction bias
// that counts for the selection alone, groups by the sum of their best two). Invariant: top_k
// distinct experts per row, ties to the lower id, in descending order of the value they were
// selected by.
#pragma once

#include <cstdint>
#include <span>

#include "model/model_spec.h"

namespace moeopt::cpu::reference {

// Elements of `scratch` that route() needs.
inline std::size_t route_scratch(const MoeSpec& spec) {
  return 2 * static_cast<std::size_t>(spec.n_experts) +
         static_cast<std::size_t>(spec.router.n_groups);
}

// logits [n_experts] of one row -> ids and weights [top_k].
// score = softmax or sigmoid of the logits; selected by score + bias among the best groups;
// weight = score [/ (sum of the chosen scores + epsilon)] * scale.
// A NaN logit counts as -inf: never selected before a number, score 0. When all are NaN, ids are
// the lowest and the weights NaN, so that the fault shows.
template <typename Real>
void route(std::span<const Real> logits, const MoeSpec& spec, std::span<const float> bias,
           std::span<Real> scratch, std::span<std::int32_t> ids, std::span<Real> weights);

}  // namespace moeopt::cpu::reference
