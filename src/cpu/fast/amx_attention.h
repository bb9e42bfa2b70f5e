#pragma once
#include "cpu/fast/attention_lanes.h"
namespace moeopt::cpu::fast {
namespace {
void amx_attention(const PagedKeys& keys, const Query* queries, int n_queries, float scale,
                   void* scratch) {
  lanes_attention(keys, queries, n_queries, scale, scratch);
}
}  // namespace
}  // namespace moeopt::cpu::fast
