// What one launch is given, by value. Filled by the API (api.cu), read by the kernel alone. Device
// pointers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/moe/layout.h"
#include "cuda/moe/schedule.h"
#include "moeopt.h"

namespace moeopt::cuda::moe {

struct Params {
  // The call (moeopt_moe_args); strides with their defaults filled in, in elements.
  int tokens;
  const std::int32_t* tokens_device;
  const void* x;
  std::int64_t x_stride;
  void* out;
  std::int64_t out_stride;
  const std::byte* experts;
  std::uint64_t expert_stride;  // bytes
  const std::byte* shared;
  const void* router;
  const float* correction_bias;
  const void* shared_gate;
  const std::int32_t* ids;
  const float* given_weights;
  const std::int32_t* expert_map;
  std::int32_t* out_ids;
  float* out_weights;
  std::int32_t* out_counts;

  // The layer (Shape).
  int max_tokens;
  int hidden;
  int intermediate;
  int shared_intermediate;
  int experts_total;  // E
  int slots;
  int top_k;
  int y_rows;
  int score;
  int groups;
  int top_k_groups;
  int group_score;
  int renormalise;
  float renormalise_epsilon;
  float scale;
  ExpertLayout layout;
  ExpertLayout shared_layout;

  // The configuration.
  int gate_tokens;
  int gate_rows;
  int local_lists;
  Launch launch;  // but for the tokens

  // The workspace (WorkspaceLayout).
  moeopt_moe_counters* counters;
  unsigned long long* ticket;
  std::byte* sets;
  std::uint64_t set_bytes;
  int token_tiles;
  int shared_tiles;
  int gate_tiles;
  std::uint64_t* logit_words;  // local_lists alone, as the next two
  std::uint64_t* choice_words;
  std::uint64_t* weight_words;
  std::uint64_t* h_words;  // few tokens alone, as the next two: instead of h, h_shared and y
  std::uint64_t* h_shared_words;
  std::uint64_t* y_words;
  float* logits;
  std::int32_t* y_slot;
  float* weights;
  std::int32_t* expected;
  std::int32_t* lists;
  std::byte* x_quantised;
  float* x_scales;
  std::byte* x_images;
  float* x_image_scales;
  std::byte* h;
  float* h_scales;
  std::byte* h_shared;
  float* h_shared_scales;
  void* y;
};

}  // namespace moeopt::cuda::moe
