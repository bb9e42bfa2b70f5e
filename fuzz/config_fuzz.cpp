// Any bytes as a config.json: parsed to a consistent spec or refused with an Error, nothing else.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "model/inspect.h"
#include "model/parse.h"

namespace {

// The promises of ModelSpec's invariant that readers divide and allocate by.
bool is_consistent(const moeopt::ModelSpec& spec) {
  if (spec.layers.empty() || spec.hidden <= 0 || spec.vocab <= 0 || spec.max_position <= 0) {
    return false;
  }
  for (const moeopt::LayerSpec& layer : spec.layers) {
    const moeopt::AttentionSpec& a = layer.attention;
    if (a.n_heads <= 0 || a.n_kv_heads <= 0 || a.n_heads % a.n_kv_heads != 0) return false;
    if (a.qk_head_dim <= 0 || a.v_head_dim <= 0 || !(a.softmax_scale > 0)) return false;
    if (!layer.moe) {
      if (layer.dense_intermediate <= 0) return false;
      continue;
    }
    const moeopt::MoeSpec& moe = *layer.moe;
    if (moe.top_k <= 0 || moe.top_k > moe.n_experts || moe.intermediate <= 0) return false;
    if (moe.router.n_groups <= 0 || moe.n_experts % moe.router.n_groups != 0) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const moeopt::ModelSpec spec =
        moeopt::parse_model_spec(moeopt::parse_json(text, "config.json"), "config.json");
    if (!is_consistent(spec)) std::abort();
    std::int64_t n_routed = 0;
    for (const moeopt::LayerSpec& layer : spec.layers) {
      n_routed += layer.moe ? layer.moe->n_experts : 0;
    }
    if (n_routed > 4096) return 0;  // right, and slow: each expert's names are made
    const moeopt::Inspection inspection = moeopt::inspect_model("fuzz", spec, nullptr);
    if (moeopt::inspection_text(inspection).empty()) std::abort();
    moeopt::inspection_json(inspection);
  } catch (const moeopt::Error&) {
  }
  return 0;
}
