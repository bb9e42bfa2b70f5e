"""Wrong MoE layers: each entry breaks the shipped source in one place, as a text replacement.

The suite must fail on every one of them; run.py shows it. `search` must occur exactly once in
`file`, so that a change of the source cannot turn a mutation into nothing unnoticed.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    name: str
    file: str
    search: str
    replace: str


LAYER = "src/cpu/reference/moe_layer.cpp"
ROUTER = "src/cpu/reference/router.cpp"
MATRIX = "src/cpu/reference/matrix.cpp"
MATRIX_H = "src/cpu/reference/matrix.h"
ROUNDING = "src/cpu/reference/rounding.h"
FAST = "src/cpu/fast/moe.cpp"
FAST_EXPERTS = "src/cpu/fast/experts.cpp"
FAST_DOT = "src/cpu/fast/dot_product.h"
FAST_WIDE = "src/cpu/fast/wide_product.h"
FAST_STRIPS = "src/cpu/fast/strips.cpp"

CALL_EXPERT = "swiglu<Real>(x, weights_.experts[here], input_.rounding, y_, h_out, scratch_);"
ADD_EXPERT = """    if (!y_out.empty()) std::ranges::copy(y_, y_out.begin());
    for (std::size_t j = 0; j < hidden_; ++j) sum_[j] += weight * y_[j];"""


def add_expert(term):
    return ADD_EXPERT.replace("sum_[j] += weight * y_[j];", term)


SPECIFICATION = [
    Mutation(
        "gate and up swapped in one expert", LAYER, CALL_EXPERT,
        """const SwigluWeights& w = weights_.experts[here];
    swiglu<Real>(x, here == 1 ? SwigluWeights{w.up, w.gate, w.down} : w, input_.rounding, y_, h_out,
                 scratch_);"""),
    Mutation("the neighbour's expert", LAYER, CALL_EXPERT,
             CALL_EXPERT.replace("[here]", "[(here + 1) % weights_.experts.size()]")),
    Mutation("an expert elsewhere is taken for the first one here", LAYER,
             "input_.expert_map.empty() ? id : input_.expert_map[id];",
             "input_.expert_map.empty() ? id : std::max(input_.expert_map[id], 0);"),
    Mutation("output of zeros", LAYER, "std::ranges::copy(sum_, out.begin());",
             "std::ranges::fill(out, Real{0});"),
    Mutation("stale sum of the row before", LAYER, "std::ranges::fill(sum_, Real{0});", ""),
    Mutation("combine in bf16", LAYER, ADD_EXPERT,
             add_expert("sum_[j] = round_bf16(sum_[j] + weight * y_[j]);")),
    Mutation("weight applied twice", LAYER, ADD_EXPERT,
             add_expert("sum_[j] += weight * weight * y_[j];")),
    Mutation("weight not applied", LAYER, ADD_EXPERT, add_expert("sum_[j] += y_[j];")),
    Mutation("last slot dropped", LAYER, "for (std::size_t slot = 0; slot < top_k; ++slot) {\n      const std::size_t place",
             "for (std::size_t slot = 0; slot + 1 < top_k; ++slot) {\n      const std::size_t place"),
    Mutation("slots added in reverse order", LAYER,
             "const std::size_t place = r * top_k + slot;",
             "const std::size_t place = r * top_k + slot;\n      "
             "slot = top_k - 1 - slot;  // and back, below\n      "
             "struct Back {\n        std::size_t& s;\n        std::size_t n;\n        "
             "~Back() { s = n - 1 - s; }\n      } back{slot, top_k};"),
    Mutation("h not rounded", LAYER, "round_row<Real>(h, rounding.h,",
             "round_row<Real>(h, InputRounding::kNone,"),
    Mutation("x not rounded", LAYER, "round_row<Real>(x_, input_.rounding.x, x_rounded_)",
             "round_row<Real>(x_, InputRounding::kNone, x_rounded_)"),
    Mutation("router reads x unrounded", LAYER, "if (input_.rounding.x == InputRounding::kNone) {",
             "if (input_.rounding.x != InputRounding::kFp8 + 9) {".replace(
                 "InputRounding::kFp8 + 9", "static_cast<InputRounding>(9)")),
    Mutation("y not rounded", LAYER, "if (rounding.y_bf16) round_bf16<Real>(y, y);", ""),
    Mutation("output not rounded", LAYER,
             "if (input_.rounding.output_bf16) round_bf16<Real>(sum_, sum_);", ""),
    Mutation("gate used without its sigmoid", LAYER, "return g / (1 + std::exp(-g));", "return g;"),
    Mutation("shared expert forgotten", LAYER, "if (spec_.shared_intermediate > 0) add_shared(rounded);",
             ""),
    Mutation("shared expert's gate forgotten", LAYER, "if (spec_.shared_expert_gate) {",
             "if (false) {"),
    Mutation("router weights x 0.8", ROUTER, "weights[slot] *= static_cast<Real>(router.scale);",
             "weights[slot] *= static_cast<Real>(router.scale * 0.8);"),
    Mutation("missing renormalisation", ROUTER, "if (router.renormalise) weights",
             "if (false) weights"),
    Mutation("renormalised though the model does not", ROUTER, "if (router.renormalise) weights",
             "weights"),
    Mutation("epsilon forgotten", ROUTER,
             "sum + static_cast<Real>(router.renormalise_epsilon)", "sum"),
    Mutation("scale forgotten", ROUTER, "weights[slot] *= static_cast<Real>(router.scale);", ""),
    Mutation("correction bias added to the weights", ROUTER, "weights[slot] = scores[expert];",
             "weights[slot] = scores[expert] + (bias.empty() ? 0 : bias[expert]);"),
    Mutation("correction bias left out of the selection", ROUTER,
             "bias.empty() ? scores[e] : scores[e] + bias[e];", "scores[e];"),
    Mutation("ties go to the higher id", ROUTER, "values[i] > values[best]",
             "values[i] >= values[best]"),
    Mutation("groups ignored", ROUTER, "if (router.n_groups > 1) {", "if (router.n_groups > 99) {"),
    Mutation("groups by their best expert alone", ROUTER, ": best + second;", ": best;"),
    Mutation("groups always by their best two", ROUTER, "kind == GroupScore::kMax || ", ""),
    Mutation("softmax taken for sigmoid", ROUTER, "router.score == RouterScore::kSoftmax",
             "router.score == router.score"),
    Mutation("NaN logits may be chosen", ROUTER,
             "std::isnan(logits[e]) ? kLowest<Real> : or_lowest(corrected)", "or_lowest(corrected)"),
    Mutation("K tail dropped", MATRIX_H,
             "for (; i < n; ++i) sums[i % kLanes] += x[i] * static_cast<Real>(widen(load<Element>(w, i)));",
             ""),
    Mutation("accumulation in bf16", MATRIX_H,
             "sums[lane] += x[i + lane] * static_cast<Real>(widen(load<Element>(w, i + lane)));",
             "sums[lane] = round_bf16(sums[lane] + x[i + lane] * "
             "static_cast<Real>(widen(load<Element>(w, i + lane))));"),
    Mutation("fp8 K tail dropped", MATRIX, "start < w.in(); start += kFp8Block",
             "start + kFp8Block <= w.in(); start += kFp8Block"),
    Mutation("fp8 promotion missing: one scale for the whole row", MATRIX,
             "Real scale = block_scale(w, row, start);", "Real scale = block_scale(w, row, 0);"),
    Mutation("fp8 activation scales forgotten", MATRIX,
             "if (x_scales != nullptr) scale *= x_scales[start / kFp8Block];", ""),
    Mutation("fp8 scales of the first rows for all rows", MATRIX_H,
             "static_cast<std::int64_t>(row / kFp8Block) * fp8_blocks(w.in())",
             "static_cast<std::int64_t>(row * 0) * fp8_blocks(w.in())"),
    Mutation("fp8 codes quantised against 240", ROUNDING, "kLargest = 448.0f", "kLargest = 240.0f"),
    Mutation("double rounding to bf16", ROUNDING, "std::bit_cast<std::uint32_t>(truncated) | 1u",
             "std::bit_cast<std::uint32_t>(nearest)"),
]

FAST_EXPERT = ".weights = &w_.experts[static_cast<std::size_t>(e)]"
FAST_ADD = "team_.kernels.add_scaled(routing.weights[static_cast<std::size_t>(i)],"
FAST_SWIGLU = """team_.kernels.swiglu(gate_out + offset(r, kStripFeatures),
                             up_out + offset(r, kStripFeatures), features, h + item.first_feature);"""
FAST_CODE = [
    Mutation("fast: the neighbour's expert", FAST, FAST_EXPERT,
             ".weights = &w_.experts[static_cast<std::size_t>((e + 1) % spec_.n_experts)]"),
    Mutation("fast: router weights x 0.8", FAST, FAST_ADD,
             "team_.kernels.add_scaled(0.8f * routing.weights[static_cast<std::size_t>(i)],"),
    Mutation("fast: weight applied twice", FAST, FAST_ADD,
             "team_.kernels.add_scaled(routing.weights[static_cast<std::size_t>(i)] * "
             "routing.weights[static_cast<std::size_t>(i)],"),
    Mutation("fast: stale output", FAST, "std::fill_n(row, hidden_, 0.0f);", ""),
    Mutation("fast: last slot dropped", FAST, "i < (r + 1) * spec_.top_k; ++i",
             "i + 1 < (r + 1) * spec_.top_k; ++i"),
    Mutation("fast: another row's input", FAST,
             "scratch_.inputs[slot_row] = x + offset(i / spec_.top_k, hidden_);",
             "scratch_.inputs[slot_row] = x + offset(i / spec_.top_k / 2, hidden_);"),
    Mutation("fast: correction bias forgotten", FAST, "spec_, w_.router_bias,", "spec_, {},"),
    Mutation("fast: shared expert forgotten", FAST,
             "if (spec_.shared_intermediate == 0) return;\n      const float", "return;\n      const float"),
    Mutation("fast: shared expert's gate forgotten", FAST,
             "spec_.shared_expert_gate ? 1.0f / (1.0f + std::exp(-scratch_.shared_gates[r])) : 1.0f",
             "1.0f"),
    Mutation("fast: gate and up swapped", FAST_EXPERTS, FAST_SWIGLU,
             FAST_SWIGLU.replace("gate_out +", "swapped +").replace("up_out +", "gate_out +").replace(
                 "swapped +", "up_out +")),
    Mutation("fast: h not rounded", FAST_EXPERTS,
             "group.between = packing_for(kind_of(w.down), round_inputs);",
             "group.between = packing_for(kind_of(w.down), false);"),
    Mutation("fast: x not rounded", FAST_EXPERTS,
             "const Packing up = packing_for(kind_of(w.up), round_inputs);\n"
             "    group.in = packing_for(kind_of(w.gate), round_inputs);\n",
             "const Packing up = packing_for(kind_of(w.up), false);\n"
             "    group.in = packing_for(kind_of(w.gate), false);\n"),
    Mutation("fast: K tail dropped", FAST_DOT, "if (k == end) return;", "return;"),
    Mutation("fast: K tail of widened weights dropped", FAST_WIDE, "    if (k < end) {\n      store(to + (k - begin),",
             "    if (k < begin) {\n      store(to + (k - begin),"),
    Mutation("fast: earlier blocks of K forgotten", FAST_WIDE, "if (!block.first) {", "if (block.first && !block.last) {"),
    Mutation("fast: fp8 scales of the first block of K for all", FAST_WIDE,
             "kScaled ? strip.scales + begin / kScaleBlock : nullptr", "kScaled ? strip.scales : nullptr"),
    Mutation("fast: one fp8 scale for the whole row", FAST_STRIPS,
             "scales[block] = scale_at(w, first, block * kScaleBlock);",
             "scales[block] = scale_at(w, first, 0);"),
    Mutation("fast: fp8 scales of the first rows for all rows", FAST_STRIPS,
             "scales[block] = scale_at(w, first, block * kScaleBlock);",
             "scales[block] = scale_at(w, 0, block * kScaleBlock);"),
]

MUTATIONS = SPECIFICATION + FAST_CODE
