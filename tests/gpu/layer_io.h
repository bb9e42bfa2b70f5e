// The inputs and outputs of one forward call, made and described.
// Invariant: whatever the caller of the library may leave undefined (rows beyond T, gaps between
// rows, outputs, workspace) holds NaN before a call.
#pragma once

#include <string>
#include <vector>

#include "gpu/experts.h"
#include "gpu/routing.h"

namespace moeopt::gpu_test {

enum class Spread { kUniform, kZipf, kHot, kHalfEmpty };  // of tokens over experts

struct BatchPlan {
  int tokens = 0;
  bool device_tokens = false;  // T is read from device memory
  int x_padding = 0;           // elements between rows, multiples of 8
  int out_padding = 0;
  Spread spread = Spread::kUniform;
  bool given = false;       // ids and weights instead of the router
  bool repeat_ids = false;  // given: some slots name an expert twice
  bool absent_ids = false;  // given: some slots are -1
  bool signed_weights = false;
  bool bias = false;
  std::vector<std::int32_t> expert_map;  // empty: slot = id
  bool poison_unused = false;            // given: packed experts that no token names are NaN
  bool want_ids = true, want_weights = true, want_counts = true;
};

// What a layer reads besides its experts. Device pointers, and what the reference needs on the
// host.
struct Inputs {
  int rows = 0;  // that hold numbers
  int capacity = 0;
  Bf16Bits* x = nullptr;
  std::int64_t x_stride = 0;
  Bf16Bits* router = nullptr;  // null: ids given
  std::vector<float> bias;
  float* bias_device = nullptr;
  Bf16Bits* shared_gate = nullptr;
  std::vector<std::int32_t> ids;  // [rows, k] given
  std::vector<float> weights;
  std::int32_t* ids_device = nullptr;
  float* weights_device = nullptr;
  std::vector<std::int32_t> map;
  std::int32_t* map_device = nullptr;

  std::int32_t slot_of(std::int32_t id) const {
    if (id < 0) return -1;
    return map.empty() ? id : map[static_cast<std::size_t>(id)];
  }
};
// `capacity` >= plan.tokens rows of x exist, those beyond plan.tokens are NaN.
Inputs make_inputs(Arena& arena, const moeopt_moe_desc& desc, const BatchPlan& plan, int capacity,
                   std::uint64_t seed);

struct Outputs {
  int capacity = 0;
  Bf16Bits* out = nullptr;
  std::int64_t out_stride = 0;
  std::int32_t* ids = nullptr;
  float* weights = nullptr;
  std::int32_t* counts = nullptr;
};
Outputs make_outputs(Arena& arena, const moeopt_moe_desc& desc, int capacity, int padding);

// Workspace, poisoned and then made ready.
void* make_workspace(Arena& arena, const moeopt_moe* layer);

moeopt_moe_args make_args(const Experts& experts, const Inputs& inputs, const Outputs& outputs,
                          void* workspace, int tokens);

moeopt_moe_counters read_counters(const Arena& arena, const void* workspace);
std::string text_of(const moeopt_moe_counters& counters);

// One line that says which case this is.
std::string text_of(const moeopt_moe_desc& desc, const BatchPlan& plan);

}  // namespace moeopt::gpu_test
