// Where everything lies in a workspace. Owned here: the offsets, computed alike by the host (sizes,
// kernel parameters) and by tests. No CUDA header. Invariant: [0, control_bytes) is zero before the
// first launch and between launches the kernel leaves it ready for the next; nothing beyond it is
// read before the same launch wrote it.
#pragma once

#include <cstdint>

#include "cuda/moe/config.h"
#include "cuda/moe/layout.h"

namespace moeopt::cuda::moe {

// Counters that one launch uses while it clears the other launch's.
struct CounterSet {
  std::uint32_t routed;     // dispatched token tiles
  std::uint32_t quantised;  // token tiles whose x is in e4m3
  std::uint32_t padding[30];
  // then: rows[slots], ready[token tiles + shared tiles], gate_arrived[gate tiles],
  //       y_arrived[max_tokens]
};

// The launch's number after `number`. It never is 0xffffffff, whose tag (shared_state.cuh) would be
// that of unwritten words; behind it comes 1, so that counter sets still take turns and no two
// launches in a row have one tag.
MOEOPT_HOST_DEVICE constexpr std::uint32_t number_after(std::uint32_t number) {
  return number == 0xfffffffeu ? 1 : number + 1;
}

struct WorkspaceLayout {
  int token_tiles;   // most (expert, token tile) pairs of the routed experts
  int shared_tiles;  // most token tiles of the shared expert
  int gate_tiles;
  std::uint64_t set_bytes;
  // Offsets in bytes; the moeopt_moe_counters are at 0.
  std::uint64_t ticket;  // u64: the launch's number, below it (32 bits) the next ticket
  std::uint64_t sets;    // CounterSet x 2
  // With local_lists, words (ptx.cuh): a value and the launch that wrote it, so that nobody clears
  // them.
  std::uint64_t logit_words;   // [max_tokens][logits_stride]: f32
  std::uint64_t choice_words;  // [max_tokens][k]: route.cuh's Choice
  std::uint64_t weight_words;  // [max_tokens][k]: f32
  // With few tokens, words of a pair of columns in bf16, h in fp8 layers of one in f32; instead of
  // h, h_shared and y.
  std::uint64_t h_words;         // [max_tokens * k][I]
  std::uint64_t h_shared_words;  // [max_tokens][I_shared]
  std::uint64_t y_words;         // [max_tokens][k + shared][H]
  std::uint64_t control_bytes;
  std::uint64_t logits;       // f32 [max_tokens][logits_stride: experts, shared gate, padding]
  std::uint64_t y_slot;       // i32 [max_tokens][k]: which y row a slot reads, -1: none
  std::uint64_t weights;      // f32 [max_tokens][k + shared]
  std::uint64_t expected;     // i32 [max_tokens]: y rows that will arrive
  std::uint64_t lists;        // i32 [slots][max_tokens]: token * k + slot, in order of arrival
  std::uint64_t x_quantised;  // e4m3 [max_tokens][H]; fp8 alone, as the next
  std::uint64_t x_scales;     // f32 [max_tokens][H / 128]
  std::uint64_t x_images;     // x gathered, and its scales: as h is laid out; with images alone
  std::uint64_t x_image_scales;
  std::uint64_t h;         // bf16 or e4m3 [max_tokens * k][I]; or in images (layout.h)
  std::uint64_t h_scales;  // f32 [max_tokens * k][I / 128]; likewise
  std::uint64_t h_shared;  // [max_tokens][I_shared]
  std::uint64_t h_shared_scales;
  std::uint64_t y;  // bf16 [max_tokens][k + shared][H]
  std::uint64_t bytes;
};

inline WorkspaceLayout workspace_layout(const Shape& s, const Config& c) {
  WorkspaceLayout w{};
  const std::uint64_t tokens = static_cast<std::uint64_t>(s.max_tokens);
  const std::uint64_t rows = tokens * static_cast<std::uint64_t>(s.top_k);
  const int n = c.variant.n_max;
  // Sum of ceil(rows_e / n) over slots is at most slots + all rows / n, and no more than a tile a
  // row.
  w.token_tiles = static_cast<int>(rows / static_cast<std::uint64_t>(n)) + s.slots;
  w.shared_tiles = s.shared() ? ceil_div(s.max_tokens, n) : 0;
  w.gate_tiles = ceil_div(s.max_tokens, c.gate_tokens);

  std::uint64_t at = 256;  // the counters
  const auto take = [&at](std::uint64_t bytes) {
    const std::uint64_t here = at;
    at = align_up(at + bytes, 256);
    return here;
  };
  const auto u64 = [](int v) { return static_cast<std::uint64_t>(v); };
  w.ticket = take(128);
  w.set_bytes =
      align_up(sizeof(CounterSet) + 4 * (u64(s.slots) + u64(w.token_tiles) + u64(w.shared_tiles) +
                                         u64(w.gate_tiles) + tokens),
               256);
  w.sets = take(2 * w.set_bytes);
  const std::uint64_t local_tokens = c.local_lists ? tokens : 0;
  w.logit_words = take(8 * local_tokens * u64(logits_stride(s.experts)));
  w.choice_words = take(8 * local_tokens * u64(s.top_k));
  w.weight_words = take(8 * local_tokens * u64(s.top_k));
  const bool fp8 = s.dtype == Dtype::kFp8;
  const std::uint64_t few_tokens = c.few() ? tokens : 0;
  const auto words_of_h = [&](int width) { return few_tokens * u64(fp8 ? width : width / 2); };
  w.h_words = take(8 * words_of_h(s.intermediate) * u64(s.top_k));
  w.h_shared_words = take(8 * words_of_h(s.shared_intermediate));
  w.y_words = take(8 * few_tokens * u64(s.y_rows()) * u64(s.hidden / 2));
  w.control_bytes = at;
  w.logits = take(4 * tokens * u64(logits_stride(s.experts)));
  w.y_slot = take(4 * rows);
  w.weights = take(4 * tokens * u64(s.y_rows()));
  w.expected = take(4 * tokens);
  w.lists = take(4 * tokens * u64(s.slots));
  const std::uint64_t element = u64(s.element_bytes());
  w.x_quantised = take(fp8 ? tokens * u64(s.hidden) : 0);
  w.x_scales = take(fp8 ? tokens * u64(s.hidden / 128) * 4 : 0);
  const std::uint64_t h_rows =
      c.few()      ? 0
      : c.images() ? align_up(rows, u64(kImageRows)) + u64(kImageRows) * u64(s.slots)
                   : rows;
  const std::uint64_t h_tokens = c.few()      ? 0
                                 : c.images() ? align_up(tokens, u64(kImageRows))
                                              : tokens;
  const std::uint64_t x_rows = c.gathers ? h_rows : 0;
  w.x_images = take(x_rows * u64(s.hidden) * element);
  w.x_image_scales = take(fp8 ? x_rows * u64(s.hidden / 128) * 4 : 0);
  w.h = take(h_rows * u64(s.intermediate) * element);
  w.h_scales = take(fp8 ? h_rows * u64(s.intermediate / 128) * 4 : 0);
  w.h_shared = take(h_tokens * u64(s.shared_intermediate) * element);
  w.h_shared_scales = take(fp8 ? h_tokens * u64(s.shared_intermediate / 128) * 4 : 0);
  w.y = take((tokens - few_tokens) * u64(s.y_rows()) * u64(s.hidden) * 2);
  w.bytes = at;
  return w;
}

}  // namespace moeopt::cuda::moe
