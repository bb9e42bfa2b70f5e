#include "cuda/moe/describe.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "cuda/moe/sized_struct.h"

namespace moeopt::cuda::moe {
namespace {

std::string is(const char* field, int value) {
  return std::string(field) + " is " + std::to_string(value);
}

void check_range(const char* field, int value, int low, int high) {
  const std::string text =
      is(field, value) + "; it must be " + std::to_string(low) + " .. " + std::to_string(high);
  if (value < low) refuse_argument(text);
  if (value > high) refuse_unsupported(text);
}

// A dimension that is cut into K blocks: a positive multiple of `multiple` up to `high`.
void check_dimension(const char* field, int value, int multiple, int high) {
  check_range(field, value, multiple, high);
  if (value % multiple != 0) {
    refuse_unsupported(is(field, value) + "; it must be a multiple of " + std::to_string(multiple) +
                       (multiple == 64 ? " (bf16)" : " (fp8)"));
  }
}

// An enumeration or a flag: a value outside means that the caller speaks of something else.
void check_choice(const char* field, int value, int choices, const char* names) {
  if (value < 0 || value >= choices) {
    refuse_argument(is(field, value) + "; it must be " + names);
  }
}

void check_groups(const moeopt_moe_desc& desc) {
  check_range("groups", desc.groups, 0, kMaxGroups);
  check_choice("group_score", desc.group_score, 2, "MOEOPT_GROUP_MAX or MOEOPT_GROUP_TOP2");
  if (desc.groups <= 1) {
    check_range("top_k_groups (without groups)", desc.top_k_groups, 0, 1);
    return;
  }
  if (desc.experts % desc.groups != 0) {
    refuse_unsupported(is("experts", desc.experts) + ", which " + std::to_string(desc.groups) +
                       " groups do not divide");
  }
  if (desc.top_k_groups < 1 || desc.top_k_groups > desc.groups) {
    refuse_argument(is("top_k_groups", desc.top_k_groups) + "; it must be 1 .. groups (" +
                    std::to_string(desc.groups) + ")");
  }
  const int group_size = desc.experts / desc.groups;
  if (desc.top_k > desc.top_k_groups * group_size) {
    refuse_argument(is("top_k", desc.top_k) + ", but " + std::to_string(desc.top_k_groups) +
                    " groups hold " + std::to_string(desc.top_k_groups * group_size) + " experts");
  }
  if (desc.group_score == MOEOPT_GROUP_TOP2 && group_size < 2) {
    refuse_argument("group_score is MOEOPT_GROUP_TOP2, but a group has one expert");
  }
}

void check_router(const moeopt_moe_desc& desc) {
  check_choice("score", desc.score, 2, "MOEOPT_SOFTMAX or MOEOPT_SIGMOID");
  check_groups(desc);
  check_choice("renormalise", desc.renormalise, 2, "0 or 1");
  if (!std::isfinite(desc.renormalise_epsilon) || desc.renormalise_epsilon < 0) {
    refuse_argument("renormalise_epsilon is " + std::to_string(desc.renormalise_epsilon) +
                    "; it must be finite and not negative");
  }
  if (!std::isfinite(desc.scale)) {
    refuse_argument("scale is " + std::to_string(desc.scale) + "; it must be finite");
  }
}

void check_parallelism(const moeopt_moe_desc& desc) {
  if (desc.world < 0) refuse_argument(is("world", desc.world) + "; it must not be negative");
  if (desc.world > 1) refuse_unsupported(is("world", desc.world) + "; this library runs one GPU");
  if (desc.rank != 0)
    refuse_argument(is("rank", desc.rank) + "; it must be 0 when world is 0 or 1");
}

Shape shape_of(const moeopt_moe_desc& desc) {
  const bool grouped = desc.groups > 1;
  Shape shape;
  shape.hidden = desc.hidden;
  shape.intermediate = desc.intermediate;
  shape.experts = desc.experts;
  shape.top_k = desc.top_k;
  shape.slots = desc.slots == 0 ? desc.experts : desc.slots;
  shape.max_tokens = desc.max_tokens;
  shape.dtype = desc.dtype == MOEOPT_FP8 ? Dtype::kFp8 : Dtype::kBf16;
  shape.score = desc.score;
  shape.groups = grouped ? desc.groups : 1;
  shape.top_k_groups = grouped ? desc.top_k_groups : 1;
  shape.group_score = desc.group_score;
  shape.renormalise = desc.renormalise == 1;
  shape.renormalise_epsilon = desc.renormalise_epsilon;
  shape.scale = desc.scale == 0.0f ? 1.0f : desc.scale;
  shape.shared_intermediate = desc.shared_intermediate;
  shape.shared_gate = desc.shared_gate == 1;
  shape.tile_tokens = desc.tile_tokens;
  return shape;
}

}  // namespace

Shape check_desc(const moeopt_moe_desc* given) {
  const auto desc = read_struct(given, kFirstDescBytes, "moeopt_moe_desc");
  check_choice("dtype", desc.dtype, 2, "MOEOPT_BF16 or MOEOPT_FP8");
  const int multiple = desc.dtype == MOEOPT_FP8 ? 128 : 64;
  check_dimension("hidden", desc.hidden, multiple, kMaxHidden);
  check_dimension("intermediate", desc.intermediate, multiple, kMaxIntermediate);
  check_range("experts", desc.experts, 1, kMaxExperts);
  check_range("top_k", desc.top_k, 1, std::min(kMaxTopK, desc.experts));
  check_range("slots", desc.slots, 0, kMaxExperts);
  check_range("max_tokens", desc.max_tokens, 1, kMaxTokens);
  if (desc.tile_tokens != 0 && desc.tile_tokens != kFewTokens && desc.tile_tokens != 32 &&
      desc.tile_tokens != 64 && desc.tile_tokens != 128) {
    refuse_argument(is("tile_tokens", desc.tile_tokens) + "; it must be 0, 8, 32, 64 or 128");
  }
  if (desc.tile_tokens == kFewTokens && desc.max_tokens > kFewTokens) {
    refuse_argument("tile_tokens is 8, but max_tokens is " + std::to_string(desc.max_tokens));
  }
  check_router(desc);
  if (desc.shared_intermediate != 0) {
    check_dimension("shared_intermediate", desc.shared_intermediate, multiple, kMaxIntermediate);
  }
  check_choice("shared_gate", desc.shared_gate, 2, "0 or 1");
  if (desc.shared_gate == 1 && desc.shared_intermediate == 0) {
    refuse_argument("shared_gate is 1, but shared_intermediate is 0: there is no shared expert");
  }
  check_parallelism(desc);
  return shape_of(desc);
}

ExpertLayout expert_layout(const Shape& shape) {
  return {shape.hidden, shape.intermediate, shape.element_bytes()};
}

ExpertLayout shared_layout(const Shape& shape) {
  return {shape.hidden, shape.shared_intermediate, shape.element_bytes()};
}

std::uint64_t shared_bytes(const Shape& shape) {
  return shape.shared() ? shared_layout(shape).bytes() : 0;
}

}  // namespace moeopt::cuda::moe
