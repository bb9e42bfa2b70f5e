// Router logits of many tokens: wgmma on router rows and tokens that the consumers bring into the
// ring's memory themselves. Nothing else lies there while a block has such a task: the producer
// draws no ticket before it is done (let_consumers_finish). Invariant: the bits of gate.cuh: the
// same ranges and steps of K; mma and wgmma make the same sums of 16 products, in whatever order
// the 16 come (the suite's group `bits` holds it).
#pragma once

#include "cuda/moe/shared_state.cuh"
#include "cuda/moe/wgmma.cuh"

namespace moeopt::cuda::moe {

// Where range 0 .. 8 of `chunks` chunks of K begins.
inline constexpr int kGateRanges = 8;
static_assert(kGateRanges == kConsumerWarps);
__device__ inline int gate_range_begin(int chunks, int range) {
  return chunks * range / kGateRanges;
}
// Where the range ends to which chunk `chunk` belongs.
__device__ inline int gate_range_end(int chunks, int chunk) {
  return gate_range_begin(chunks, ceil_div(kGateRanges * (chunk + 1), chunks));
}

// What a task covers: rows [first_row, first_row + rows) of the launch's router matrix, tokens
// [first_token, end_token).
struct GateTask {
  int first_token;
  int end_token;
  int first_row;
  int rows;
};

// Up to 128 router rows (operand A, 64 a warpgroup) times up to 64 tokens (operand B). Lines that
// the task does not have are not loaded: wgmma keeps rows and columns apart, and theirs are
// dropped.
//
// A stage has two chunks of K of all lines, or more of fewer lines. In memory: chunks, of these
// lines (router rows, then tokens), of these 128 bytes in the swizzle.
class GateTile {
 public:
  // NOTE: of few instructions, which come cold from memory, and inlined: ptxas serialises all of a
  // kernel's wgmma where a callee has one.
  __device__ __forceinline__ GateTile(const Params& p, std::uint32_t memory, const GateTask& task,
                                      int consumer)
      : p_(p), memory_(memory), task_(task), consumer_(consumer) {
    tokens_ = task.end_token - task.first_token;
    row_lines_ = task.rows <= 16 ? 16 : task.rows <= 64 ? 64 : kRows;
    const int lines = row_lines_ + ceil_div(tokens_, 16) * 16;
    block_ = lines * kBlockBytes;
    stage_chunks_ = lines <= kLines / 4 ? 8 : lines <= kLines / 2 ? 4 : 2;
    chunks_ = p.hidden / 64;
  }

  __device__ __forceinline__ void logits() {
    float sum[kTokens / 2] = {};    // of a range
    float total[kTokens / 2] = {};  // of those before it
    bool begins = true;             // the range does
    const auto end_range = [&] {
      wgmma_wait<0>();
      pin(sum);
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) total[i] += sum[i];
      begins = true;
    };
#pragma unroll 1
    for (int stage = 0; stage < kStages - 1; ++stage) bring(stage);
    int range_end = gate_range_end(chunks_, 0);
    int chunk = 0;
#pragma unroll 1
    for (int stage = 0; chunk < chunks_; ++stage) {
      copies_wait<kStages - 2>();
      wgmma_wait<0>();       // the slot to be brought next is free
      fence_async_shared();  // wgmma reads what this thread has copied
      named_barrier(kConsumerBarrier, kConsumers);
      const int end = min(chunk + stage_chunks_, chunks_);
      std::uint32_t offset = stage % kStages * kStageBytes;
#pragma unroll 1
      for (; chunk < end; offset += block_) {
        if (chunk == range_end) {
          end_range();
          range_end = gate_range_end(chunks_, range_end);
        }
        multiply(sum, offset, begins);
        begins = false;
        ++chunk;
      }
      bring(stage + kStages - 1);  // beside the products
    }
    end_range();
    store(total);
    fence_async_shared();  // the copy engine writes here next
    named_barrier(kConsumerBarrier, kConsumers);
  }

 private:
  static constexpr int kRows = 128;
  static constexpr int kTokens = 64;
  static constexpr int kLines = kRows + kTokens;
  static constexpr int kStages = 4;
  static constexpr int kStageBytes = 2 * kLines * kBlockBytes;  // at most
  static_assert(kStages * kStageBytes <= kRingBytes);
  // wgmma reads 128 lines of rows and 64 of tokens, whatever there is of them: up to 4 KB behind
  // the ring, too, which is shared memory of the block as well.

  // A chunk's products, by as many columns as there are tokens.
  __device__ __forceinline__ void multiply(float (&sum)[kTokens / 2], std::uint32_t offset,
                                           bool begins) const {
    const int group = consumer_ / 128;
    const auto a = static_cast<std::uint32_t>(
        swizzled_operand(memory_ + offset + group * (kRows / 2) * kBlockBytes));
    const auto b =
        static_cast<std::uint32_t>(swizzled_operand(memory_ + offset + row_lines_ * kBlockBytes));
    if (group * (kRows / 2) >= row_lines_) return;
    if (tokens_ <= 16) {
      multiply_by<16>(reinterpret_cast<float(&)[8]>(sum), a, b, begins);
    } else {
      multiply_by<kTokens>(sum, a, b, begins);
    }
  }
  template <int kN>
  static __device__ __forceinline__ void multiply_by(float (&sum)[kN / 2], std::uint32_t a,
                                                     std::uint32_t b, bool begins) {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      wgmma_bf16<kN>(sum, swizzled_operand_of(a + step * 2), swizzled_operand_of(b + step * 2),
                     step > 0 || !begins);
    }
    wgmma_commit();
  }

  // A thread copies the same 16 bytes of every step-th line.
  __device__ __forceinline__ void bring(int stage) const {
    const int pieces = 8 * stage_chunks_;  // of 16 bytes, of a line in a stage
    const int piece = consumer_ % pieces;
    const int line = consumer_ / pieces;
    const int step = kConsumers / pieces;
    if (stage * stage_chunks_ + piece / 8 < chunks_) {
      const int column = stage * stage_chunks_ * kBlockBytes + piece * 16;
      const std::uint32_t to = memory_ + stage % kStages * kStageBytes + piece / 8 * block_ +
                               line * kBlockBytes + (piece % 8 ^ line % 8) * 16;
      const int experts = p_.ids == nullptr ? p_.experts_total : 0;
      const int rows = min(task_.rows, experts - task_.first_row);  // then the shared gate's
      const std::int64_t row_bytes = 2 * p_.hidden;
      copy_lines(
          to,
          static_cast<const std::byte*>(p_.router) + (task_.first_row + line) * row_bytes + column,
          row_bytes, step, rows - line);
      if (rows < task_.rows && rows % step == line) {
        copy_16((to + (rows - line) * kBlockBytes) ^ ((rows ^ line) & 4) * 16,
                static_cast<const std::byte*>(p_.shared_gate) + column);
      }
      copy_lines(to + row_lines_ * kBlockBytes,
                 static_cast<const std::byte*>(p_.x) +
                     (task_.first_token + line) * 2 * p_.x_stride + column,
                 2 * p_.x_stride, step, tokens_ - line);
    }
    copies_commit();
  }
  // Every step-th of `lines` lines, 16 bytes of each.
  static __device__ __forceinline__ void copy_lines(std::uint32_t to, const std::byte* from,
                                                    std::int64_t stride, int step, int lines) {
    constexpr int kMost = 8;  // of 128 lines every 16th, of 64 every eighth, of 32 every fourth
#pragma unroll
    for (int j = 0; j < kMost; ++j) {
      if (j * step < lines) copy_16(to, from);
      from += step * stride;
      to = (to + step * kBlockBytes) ^ (step & 4) * 16;
    }
  }

  __device__ __forceinline__ void store(const float (&total)[kTokens / 2]) const {
    const int lane = consumer_ % 32;
    const int line = consumer_ / 32 * 16 + lane / 4;
    const int stride = logits_stride(p_.experts_total);
    float* to = p_.logits + (task_.first_token + lane % 4 * 2) * static_cast<std::int64_t>(stride) +
                (p_.ids == nullptr ? task_.first_row + line : p_.experts_total);
    const int rows = task_.rows - line;
    const int tokens = tokens_ - lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kTokens / 2; ++i) {
      const int row = i / 2 % 2 * 8;
      const int token = i / 4 * 8 + i % 2;
      if (row < rows && token < tokens) to[token * stride + row] = total[i];
    }
  }

  const Params& p_;
  std::uint32_t memory_;
  GateTask task_;
  int consumer_;
  int tokens_;
  int row_lines_;
  int block_;  // bytes of a chunk
  int stage_chunks_;
  int chunks_;
};

}  // namespace moeopt::cuda::moe
