#include "cuda/moe/config.h"

#include <algorithm>

namespace moeopt::cuda::moe {

std::string Config::name() const {
  return std::string(variant.dtype == Dtype::kBf16 ? "bf16" : "fp8") + " m" +
         std::to_string(128 * variant.m_tiles) + " n" + std::to_string(variant.n_max) +
         (route_everywhere ? " route-everywhere" : "");
}

Config choose_config(const Shape& shape) {
  // Rows that an expert gets when every expert is asked for equally often.
  const double rows = 1.0 * shape.max_tokens * shape.top_k / shape.experts;
  Config config{};
  config.variant.dtype = shape.dtype;
  config.variant.n_max = rows <= 12 ? 32 : rows <= 40 ? 64 : 128;
  config.variant.m_tiles = shape.dtype == Dtype::kFp8 || config.variant.n_max > 32 ? 2 : 1;
  config.gate_tokens = shape.max_tokens <= 64 ? 8 : 32;
  // About one task a block while tokens are few; whole mma tiles of 16 rows when they are many.
  const int tiles = (shape.max_tokens + config.gate_tokens - 1) / config.gate_tokens;
  config.gate_rows = std::clamp((shape.experts * tiles + 119) / 120, 2, 16);
  if (config.images()) {
    // Two tasks a block: x and router rows come from the cache once for 32 tokens x 32 rows.
    config.gate_rows =
        std::clamp((shape.experts * tiles + 263) / 264 + 15, kGateRows, kWideGateRows) / 16 * 16;
  }
  // Where an expert's tokens are few, the other units would wait for the first.
  config.gathers = config.images() && rows > 256;
  config.route_everywhere = shape.max_tokens <= kRouteEverywhereTokens &&
                            shape.max_tokens * shape.top_k <= kRouteEverywhereSlots;
  return config;
}

}  // namespace moeopt::cuda::moe
