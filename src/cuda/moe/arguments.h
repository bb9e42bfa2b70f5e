// What the caller passes to pack and forward, read and checked. No CUDA call: addresses are looked
// at, never followed. Invariant: what these functions return has its defaults filled in and can be
// launched as it is.
#pragma once

#include <cstdint>

#include "cuda/moe/config.h"
#include "cuda/moe/layout.h"
#include "moeopt.h"

namespace moeopt::cuda::moe {

// Throws Refusal. `name` is the parameter's name in the message.
void check_pointer(const char* name, const void* pointer, unsigned alignment_bytes);

// An expert's matrices for an expert of this layout; strides filled in.
moeopt_expert_source check_source(const ExpertLayout& layout, const moeopt_expert_source* given);

// A forward call; strides filled in.
moeopt_moe_args check_args(const Shape& shape, const moeopt_moe_args* given);

// Whether [rows, columns] at `a` and at `b` share an element; strides in elements of 2 bytes.
bool rows_overlap(const void* a, std::int64_t a_stride, const void* b, std::int64_t b_stride,
                  std::int64_t rows, std::int64_t columns);

}  // namespace moeopt::cuda::moe
