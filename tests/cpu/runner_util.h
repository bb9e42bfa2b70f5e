// Drives a CpuBackend step by step without the engine: one sequence per slot, blocks as told.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "checkpoint/tensor_source.h"
#include "cpu/cpu_backend.h"
#include "model/model_spec.h"

namespace moeopt::cpu {

struct LoadedModel {
  ModelSpec spec;
  std::unique_ptr<TensorSource> source;
};
LoadedModel load_model(const std::filesystem::path& folder);

// Room for `sequences` of up to `length` tokens, every row's logits.
ExecutionLimits small_limits(int sequences, int length, int block_tokens, int kv_blocks);

// Block ids 0, 1, ... for one sequence of `length` tokens.
std::vector<std::int32_t> plain_table(const ExecutionLimits& limits, int first_block = 0);

// One step of one sequence: literal tokens from `first_position` on. Logits of every row.
std::vector<float> logits_of(CpuBackend& backend, int slot, std::span<const std::int32_t> tokens,
                             int first_position, std::span<const std::int32_t> table);

// Greedy ids after `prompt`, each step's token a reference to the one before, launched ahead.
std::vector<std::int32_t> greedy_ids(CpuBackend& backend, int slot,
                                     std::span<const std::int32_t> prompt, int n,
                                     std::span<const std::int32_t> table);

}  // namespace moeopt::cpu
