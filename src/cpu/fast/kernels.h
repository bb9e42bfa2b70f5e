// The inner loops that differ by instruction set, as one table of functions each.
// Called by cpu/fast alone, on plain memory: no containers, no exceptions, no allocation.
// Invariant: an output element's order of summation depends on K and the kind of weight alone,
// never on how many rows or features a call has, so that a row's bits are the same in any batch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moeopt::cpu::fast {

inline constexpr int kStripFeatures = 32;  // consecutive output features of one product call
inline constexpr int kTileRows = 16;       // activation rows that are packed together
inline constexpr int kBlockRows = 256;     // rows of one product call at most
inline constexpr int kScaleBlock = 128;    // inputs that share a scale in e4m3 weights
inline constexpr int kPositionTile = 32;   // cached positions of one attention step
inline constexpr int kMaxQueries = 64;     // queries of one attention call at most

enum class WeightKind : std::uint8_t { kF32, kF16, kBf16, kE4m3 };

// How activations lie in memory for a product.
enum class Packing : std::uint8_t {
  kExact,    // float32, as they are; for weights of any kind
  kRounded,  // float32, rounded to bf16; for weights of any kind
  kPairs,    // bf16 in whatever order this instruction set likes; for bf16 and e4m3 weights
};

// Rows [features, k] of a weight matrix as stored; `stride_bytes` between rows, any alignment that
// the element has.
struct Strip {
  const unsigned char* weights = nullptr;
  std::size_t stride_bytes = 0;
  int features = 0;  // 1 .. kStripFeatures
  int k = 0;
  const float* scales = nullptr;  // e4m3: of each kScaleBlock inputs
};

// What the calling thread will read next: a hint.
struct Upcoming {
  const unsigned char* data = nullptr;
  std::size_t bytes = 0;
};

// Keys and values of one head group in the paged cache: bf16, position p of part i at
// block(p) + offset_bytes[i] + (p % block_tokens) * stride_bytes[i].
struct PagedKeys {
  const unsigned char* data = nullptr;  // the layer's blocks
  const std::int32_t* block_table = nullptr;
  std::size_t block_bytes = 0;
  int block_tokens = 0;
  int key_parts = 0;  // a key is the concatenation of 1 or 2 parts
  int key_width[2] = {0, 0};
  std::size_t key_offset_bytes[2] = {0, 0};
  std::size_t key_stride_bytes[2] = {0, 0};
  int value_width = 0;
  std::size_t value_offset_bytes = 0;
  std::size_t value_stride_bytes = 0;
};

// A query attends to positions [begin, end), end > begin.
struct Query {
  const float* q = nullptr;  // [sum of key_width]
  float* out = nullptr;      // [value_width]
  int begin = 0;
  int end = 0;
};

struct Kernels {
  // Bytes of kTileRows packed rows of k inputs.
  std::size_t (*packed_tile_bytes)(Packing packing, int k);
  // Packs rows[0 .. n_rows), n_rows <= kTileRows.
  void (*pack_tile)(Packing packing, const float* const* rows, int n_rows, int k, void* out);
  // out[r * out_stride + f] = sum over k of w[f, k] * x[r, k], of n_rows <= kBlockRows rows in
  // consecutive tiles at `packed`. `scratch`: kProductScratchBytes, of the calling thread.
  void (*product)(Packing packing, WeightKind kind, const Strip& strip, const void* packed,
                  int n_rows, float* out, std::size_t out_stride, void* scratch, Upcoming next);
  // h = silu(gate) * up
  void (*swiglu)(const float* gate, const float* up, int n, float* h);
  // out += weight * y
  void (*add_scaled)(float weight, const float* y, int n, float* out);
  // out = x / sqrt(mean(x^2) + epsilon) * weight
  void (*rms_norm)(const float* x, const float* weight, int n, double epsilon, float* out);
  void (*to_bf16)(const float* x, int n, std::uint16_t* out);
  void (*from_bf16)(const unsigned char* x, int n, float* out);
  // out += scale * sum over i < n of c[i] * w[i, 0 .. width), w's rows `stride_bytes` apart.
  void (*weighted_sum)(WeightKind kind, const unsigned char* w, std::size_t stride_bytes,
                       const float* c, int n, int width, float scale, float* out);
  // Rotates pairs (first[i], second[i]) by the angles whose cosines and sines are given.
  void (*rotate)(float* first, float* second, const float* cosines, const float* sines, int n);
  std::size_t (*attention_scratch_bytes)(int key_width, int value_width);
  // Softmax attention of up to kMaxQueries queries; scores are multiplied by `scale`. Each
  // query's result depends on itself and its positions alone. `scratch`: of the calling thread.
  void (*attention)(const PagedKeys& keys, const Query* queries, int n_queries, float scale,
                    void* scratch);
};

inline constexpr std::size_t kProductScratchBytes = std::size_t{128} << 10;

const Kernels& portable_kernels();
#if defined(__x86_64__)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& avx512bf16_kernels();
const Kernels& amx_kernels();
#endif

}  // namespace moeopt::cpu::fast
