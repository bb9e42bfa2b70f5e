#include "cpu/machine.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "base/cpu_features.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace moeopt::bench {
namespace {

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::uint64_t sum_portable(const std::byte* data, std::size_t n) {
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i + 64 <= n; i += 64) {
    std::uint64_t words[8];
    std::memcpy(words, data + i, 64);
    for (int lane = 0; lane < 8; ++lane) sums[lane] += words[lane];
  }
  std::uint64_t total = 0;
  for (const std::uint64_t sum : sums) total += sum;
  return total;
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) std::uint64_t sum_avx512(const std::byte* data, std::size_t n) {
  __m512i sums[4] = {};
  for (std::size_t i = 0; i + 256 <= n; i += 256) {
    for (std::size_t lane = 0; lane < 4; ++lane) {
      sums[lane] = _mm512_add_epi64(sums[lane], _mm512_loadu_si512(data + i + 64 * lane));
    }
  }
  std::uint64_t words[8];
  _mm512_storeu_si512(words, sums[0] + sums[1] + sums[2] + sums[3]);
  std::uint64_t total = 0;
  for (const std::uint64_t word : words) total += word;
  return total;
}

__attribute__((target("avx2"))) std::uint64_t sum_avx2(const std::byte* data, std::size_t n) {
  __m256i sums[4] = {};
  for (std::size_t i = 0; i + 128 <= n; i += 128) {
    for (std::size_t lane = 0; lane < 4; ++lane) {
      const auto* from = reinterpret_cast<const __m256i*>(data + i + 32 * lane);
      sums[lane] = _mm256_add_epi64(sums[lane], _mm256_loadu_si256(from));
    }
  }
  std::uint64_t words[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), sums[0] + sums[1] + sums[2] + sums[3]);
  return words[0] + words[1] + words[2] + words[3];
}

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

constexpr int kTileSteps = 400000;

__attribute__((target("amx-tile,amx-bf16"))) void multiply_tiles() {
  static constexpr TileConfig kConfig;
  alignas(64) static std::uint8_t zeros[4096];
  _tile_loadconfig(&kConfig);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int i = 0; i < kTileSteps; ++i) {
    _tile_loadd(4, zeros, 64);
    _tile_loadd(5, zeros + 1024, 64);
    _tile_loadd(6, zeros + 2048, 64);
    _tile_loadd(7, zeros + 3072, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

constexpr int kVectorSteps = 2000000;
constexpr int kVectorSums = 16;      // more than latency times throughput
constexpr int kVectorSumsAvx2 = 12;  // what 16 registers hold

__attribute__((target("avx2,fma"))) void multiply_avx2() {
  __m256 sums[kVectorSumsAvx2];  // all different, or one would be computed for all
  for (int i = 0; i < kVectorSumsAvx2; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  __m256 a = _mm256_set1_ps(0.5f);
  for (int i = 0; i < kVectorSteps; ++i) {
    __asm__ volatile("" : "+x"(a));  // keeps the loop
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(a, a, sum);
  }
  for (__m256& sum : sums) __asm__ volatile("" : "+x"(sum));
}

__attribute__((target("avx512f"))) void multiply_avx512() {
  __m512 sums[kVectorSums];
  for (int i = 0; i < kVectorSums; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512 a = _mm512_set1_ps(0.5f);
  for (int i = 0; i < kVectorSteps; ++i) {
    __asm__ volatile("" : "+v"(a));  // keeps the loop
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(a, a, sum);
  }
  for (__m512& sum : sums) __asm__ volatile("" : "+v"(sum));
}

__attribute__((target("avx512f,avx512bf16"))) void multiply_avx512_dots() {
  __m512 sums[kVectorSums];
  for (int i = 0; i < kVectorSums; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
  for (int i = 0; i < kVectorSteps; ++i) {
    __asm__ volatile("" : "+v"(a));  // keeps the loop
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, a, a);
  }
  for (__m512& sum : sums) __asm__ volatile("" : "+v"(sum));
}
#endif

std::uint64_t sum_bytes(const std::byte* data, std::size_t n) {
#if defined(__x86_64__)
  if (cpu_features().avx512) return sum_avx512(data, n);
  if (cpu_features().avx2) return sum_avx2(data, n);
#endif
  return sum_portable(data, n);
}

}  // namespace

double read_bandwidth(ThreadPool& pool, std::span<const std::byte> memory) {
  const std::size_t share = memory.size() / static_cast<std::size_t>(pool.threads());
  std::atomic<std::uint64_t> sink{0};
  double best = 1e30;
  for (int pass = 0; pass < 5; ++pass) {
    best = std::min(best, seconds_of([&] {
                      pool.run([&](int member) {
                        sink += sum_bytes(memory.data() + static_cast<std::size_t>(member) * share,
                                          share);
                      });
                    }));
  }
  return static_cast<double>(share * static_cast<std::size_t>(pool.threads())) / best;
}

MultiplyPeak multiply_peak(ThreadPool& pool) {
#if defined(__x86_64__)
  const auto best_seconds = [&](void (*work)()) {
    double best = 1e30;
    for (int pass = 0; pass < 5; ++pass) {
      best = std::min(best, seconds_of([&] { pool.run([&](int /*member*/) { work(); }); }));
    }
    return best;
  };
  if (cpu_features().amx_bf16) {
    return {"bf16 tiles",
            4.0 * kTileSteps * 16 * 16 * 32 * 2 * pool.threads() / best_seconds(multiply_tiles)};
  }
  if (cpu_features().avx512) {
    const double sums = 2.0 * 16 * kVectorSums * kVectorSteps * pool.threads();
    const MultiplyPeak floats{"AVX-512 float32", sums / best_seconds(multiply_avx512)};
    if (!cpu_features().avx512_bf16) return floats;
    // Two products a sum; on some processors slower than float32 all the same.
    const MultiplyPeak dots{"AVX-512 bf16 dots", 2 * sums / best_seconds(multiply_avx512_dots)};
    return dots.flops_per_s > floats.flops_per_s ? dots : floats;
  }
  if (cpu_features().avx2) {
    return {"AVX2 float32", 2.0 * 8 * kVectorSumsAvx2 * kVectorSteps * pool.threads() /
                                best_seconds(multiply_avx2)};
  }
#else
  static_cast<void>(pool);
#endif
  return {};
}

}  // namespace moeopt::bench
