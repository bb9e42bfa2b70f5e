// What a layer may be: the limits of moeopt_moe_desc, and the bytes of its packed experts.
// Invariant: a Shape that check_desc made keeps every limit and has its defaults filled in; nothing
// else in the library asks again.
#pragma once

#include <cstdint>

#include "cuda/moe/config.h"
#include "cuda/moe/layout.h"
#include "moeopt.h"

namespace moeopt::cuda::moe {

inline constexpr int kMaxHidden = 16384;
inline constexpr int kMaxIntermediate = 32768;
inline constexpr int kMaxExperts = 512;
inline constexpr int kMaxTopK = 16;
inline constexpr int kMaxTokens = 65536;
inline constexpr int kMaxGroups = 32;

// Reads as much as the caller's struct_size says. Throws Refusal.
Shape check_desc(const moeopt_moe_desc* given);

// The shared expert's layout is for layers that have one.
ExpertLayout expert_layout(const Shape& shape);
ExpertLayout shared_layout(const Shape& shape);
std::uint64_t shared_bytes(const Shape& shape);  // 0 when there is none

}  // namespace moeopt::cuda::moe
