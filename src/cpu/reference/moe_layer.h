// The Mixture-of-Experts layer, plainly: what every implementation, on the CPU or a GPU, is held
// against. In float it is the reference backend's layer; in double it is the tests' specification.
// Invariant: row r of every output depends on row r of the inputs alone.
//
// Per row x, with expert e's matrices G, U [intermediate, hidden] and D [hidden, intermediate]:
//   logits = R x;  (e_s, w_s), s = 0 .. top_k - 1: route(logits), or as given
//   h_s = silu(G x) * (U x);  y_s = D h_s        silu(g) = g / (1 + exp(-g))
//   out = sum over s, in slot order, of w_s * y_s, plus the shared expert's y times sigmoid(S x)
//   when it has a gate. Each w_s is applied once, to y_s. A slot whose expert is not here adds
//   nothing.
#pragma once

#include <cstdint>
#include <span>

#include "cpu/ops.h"

namespace moeopt::cpu::reference {

// How the input of a matrix product is stored.
enum class InputRounding {
  kNone,
  kBf16,
  kFp8,  // e4m3, one float32 scale per 128 inputs (rounding.h); the weights must be e4m3 too
};

// The rounding points of a dtype contract. Everything between two points is in the accumulation
// type. With e4m3 weights both kBf16 and kFp8 sum 128 products at a time, scale that sum by the
// weight's block scale (times the input's), and add it to the total: that is the fp8 promotion.
struct MoeRounding {
  InputRounding x;   // before G, U and the shared expert; the router reads x in bf16 if not kNone
  InputRounding h;   // silu(g) * u, before D; straight from the accumulation type
  bool y_bf16;       // each slot's row, the shared expert's too, before its weight
  bool output_bf16;  // the combined row; the combination itself is never rounded
};

inline constexpr MoeRounding kMoeF32 = {InputRounding::kNone, InputRounding::kNone, false, false};
inline constexpr MoeRounding kMoeBf16 = {InputRounding::kBf16, InputRounding::kBf16, true, true};
inline constexpr MoeRounding kMoeFp8 = {InputRounding::kFp8, InputRounding::kFp8, true, true};
// What the CPU backends run on bf16 and on fp8 checkpoints (cpu/ops.h's stored contract): weights
// as stored, x and h in bf16, rows and output in float32.
inline constexpr MoeRounding kMoeCpuStored = {InputRounding::kBf16, InputRounding::kBf16, false,
                                              false};

struct MoeLayerInput {
  std::span<const float> x;  // [rows, hidden]
  int rows = 0;
  int hidden = 0;
  const MoeWeights* weights = nullptr;  // weights->experts: those that are here
  MoeRounding rounding = kMoeF32;

  // Routing made elsewhere, [rows, top_k] each; empty: weights->router decides.
  std::span<const std::int32_t> given_ids;
  std::span<const float> given_weights;

  // Global expert id -> index into weights->experts, -1: not here. Empty: all are, in order.
  std::span<const std::int32_t> expert_map;
};

// Where the results go; h and y may be empty.
template <typename Real>
struct MoeLayerOutput {
  std::span<Real> output;       // [rows, hidden]
  std::span<std::int32_t> ids;  // [rows, top_k], global
  std::span<Real> weights;      // [rows, top_k]
  std::span<Real> h;  // [rows, top_k, intermediate], as D reads it (dequantised); 0 when not here
  std::span<Real> y;  // [rows, top_k, hidden], before the weight; 0 when not here
};

// Elements of scratch for one call, whatever its rows.
std::size_t moe_layer_scratch(const MoeSpec& spec, int hidden);

template <typename Real>
void moe_layer(const MoeLayerInput& input, const MoeLayerOutput<Real>& output,
               std::span<Real> scratch);

// out = D (silu(G x) * (U x)) of one row, by the same rules; h_out may be empty. Scratch:
// swiglu_scratch() elements.
std::size_t swiglu_scratch(int hidden, int intermediate);
template <typename Real>
void swiglu_row(std::span<const Real> x, const SwigluWeights& w, const MoeRounding& rounding,
                std::span<Real> out, std::span<Real> h_out, std::span<Real> scratch);

}  // namespace moeopt::cpu::reference
