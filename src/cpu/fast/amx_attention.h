#pragma once
#include "cpu/fast/attention_lanes.h"
namespace moeopt::cpu::fast {
namespace {
std::size_t amx_attention_scratch_bytes(int key_width, int value_width) {
  return lanes_attention_scratch_bytes(key_width, value_width);
}
void amx_attention(const PagedKeys& keys, const Query* queries, int n_queries, float scale,
                   void* scratch) {
  lanes_attention(keys, queries, n_queries, scale, scratch);
}
}  // namespace
}  // namespace moeopt::cpu::fast
