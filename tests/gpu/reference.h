// The MoE layer in float64 on the device: the contract of cpu/reference/moe_layer.h, row for row,
// for sizes that a CPU cannot follow. cpu_equality.cpp holds the two together. Invariant: shares no
// code with the library under test; reads the weights before packing; every sum in float64, every
// rounding point of the dtype's contract where the contract has it and nowhere else.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/device.h"
#include "gpu/fill.h"

namespace moeopt::gpu_test {

// `count` matrices [rows, cols] one after another, `stride` elements from row to row. fp8: e4m3 and
// a dense scale [rows / 128, cols / 128] each; otherwise bf16 and scale null.
struct MatrixSet {
  const void* data = nullptr;
  const float* scale = nullptr;
  int rows = 0;
  int cols = 0;
  std::int64_t stride = 0;
};

// Experts of one size: gate and up [intermediate, hidden], down [hidden, intermediate].
struct ExpertSet {
  MatrixSet gate, up, down;
  int intermediate() const { return gate.rows; }
  bool present() const { return gate.data != nullptr; }
};

struct ReferenceLayer {
  int hidden = 0;
  bool fp8 = false;
  ExpertSet experts;
  ExpertSet shared;                       // not present: none
  const Bf16Bits* shared_gate = nullptr;  // [hidden]; null: no gate
  bool round_rows = true;                 // y and out to bf16, as the contract says
};

// Which expert each of a row's slots goes to, by its number in ReferenceLayer::experts, -1:
// nothing.
struct Assignment {
  int rows = 0;
  int top_k = 0;
  std::vector<std::int32_t> slots;  // [rows, top_k]
  std::vector<double> weights;      // [rows, top_k]
};

// Everything on the device, in the arena's current scope. Pairs are the (row, slot) that have an
// expert, ordered by expert.
struct ReferenceRun {
  double* out = nullptr;       // [rows, hidden]
  double* scale = nullptr;     // [rows]: sum of |w| ||y||, the shared expert's included
  double* h = nullptr;         // [pairs, intermediate] as the down projection reads it
  float* h_scale = nullptr;    // fp8: [pairs, intermediate / 128]
  double* y = nullptr;         // [pairs, hidden] before the weight
  double* shared_h = nullptr;  // [rows, shared intermediate]
  float* shared_h_scale = nullptr;
  int pairs = 0;
  std::vector<std::int32_t> pair_of_place;  // [rows * top_k]: -1 when the slot has no expert
  std::vector<std::int32_t> place_of_pair;
};

// An h to use instead of computing it, dequantised, at [row * top_k + slot][intermediate] and
// [row][shared intermediate].
struct GivenH {
  const float* routed = nullptr;
  const float* shared = nullptr;
};

// R x for all rows: [rows, experts] float64.
std::vector<double> reference_logits(Arena& arena, const Bf16Bits* x, std::int64_t x_stride,
                                     int rows, int hidden, const Bf16Bits* router, int experts);

ReferenceRun run_reference(Arena& arena, const ReferenceLayer& layer, const Bf16Bits* x,
                           std::int64_t x_stride, const Assignment& assignment,
                           const GivenH& given = {});

}  // namespace moeopt::gpu_test
