// Row operations between the products. Included only by kernels_*.cpp, see lanes.h.
#pragma once

#include "cpu/fast/lanes.h"

namespace moeopt::cpu::fast {
namespace {

// Calls full(i) for each whole vector of [0, n) and rest(i, count) for what remains.
template <typename Full, typename Rest>
inline void by_lanes(int n, Full full, Rest rest) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) full(i);
  if (i < n) rest(i, n - i);
}

inline F silu_times(F gate, F up) {
  return gate / (broadcast(1.0f) + exp(-gate)) * up;
}

inline void swiglu(const float* gate, const float* up, int n, float* h) {
  by_lanes(
      n, [&](int i) { store(h + i, silu_times(load(gate + i), load(up + i))); },
      [&](int i, int rest) {
        store_some(h + i, silu_times(load_some(gate + i, rest), load_some(up + i, rest)), rest);
      });
}

inline void add_scaled(float weight, const float* y, int n, float* out) {
  const F w = broadcast(weight);
  by_lanes(
      n, [&](int i) { store(out + i, load(out + i) + w * load(y + i)); },
      [&](int i, int rest) {
        store_some(out + i, load_some(out + i, rest) + w * load_some(y + i, rest), rest);
      });
}

inline void rms_norm(const float* x, const float* weight, int n, double epsilon, float* out) {
  F squares{};
  by_lanes(
      n, [&](int i) { squares = fma(load(x + i), load(x + i), squares); },
      [&](int i, int rest) {
        const F v = load_some(x + i, rest);
        squares = fma(v, v, squares);
      });
  const double mean = static_cast<double>(sum(squares)) / n;
  const F factor = broadcast(static_cast<float>(1.0 / __builtin_sqrt(mean + epsilon)));
  by_lanes(
      n, [&](int i) { store(out + i, load(x + i) * factor * load(weight + i)); },
      [&](int i, int rest) {
        store_some(out + i, load_some(x + i, rest) * factor * load_some(weight + i, rest), rest);
      });
}

inline void rotate(float* first, float* second, const float* cosines, const float* sines, int n) {
  by_lanes(
      n,
      [&](int i) {
        const F a = load(first + i), b = load(second + i);
        const F c = load(cosines + i), s = load(sines + i);
        store(first + i, a * c - b * s);
        store(second + i, b * c + a * s);
      },
      [&](int i, int rest) {
        for (int j = i; j < i + rest; ++j) {
          const float a = first[j], b = second[j];
          first[j] = a * cosines[j] - b * sines[j];
          second[j] = b * cosines[j] + a * sines[j];
        }
      });
}

inline void to_bf16(const float* x, int n, std::uint16_t* out) {
  const auto convert = [&](F v, int i, int count) {
    std::int32_t bits[kLanes];
    const I rounded = bf16_bits(v);
    __builtin_memcpy(bits, &rounded, sizeof(bits));
    for (int lane = 0; lane < count; ++lane) {
      out[i + lane] = static_cast<std::uint16_t>(bits[lane]);
    }
  };
  by_lanes(
      n, [&](int i) { convert(load(x + i), i, kLanes); },
      [&](int i, int rest) { convert(load_some(x + i, rest), i, rest); });
}

inline void from_bf16(const unsigned char* x, int n, float* out) {
  by_lanes(
      n, [&](int i) { store(out + i, load_bf16(x + 2 * static_cast<std::size_t>(i))); },
      [&](int i, int rest) {
        for (int lane = 0; lane < rest; ++lane) {
          std::uint16_t bits;
          __builtin_memcpy(&bits, x + 2 * static_cast<std::size_t>(i + lane), 2);
          const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
          __builtin_memcpy(out + i + lane, &wide, 4);
        }
      });
}

}  // namespace
}  // namespace moeopt::cpu::fast
