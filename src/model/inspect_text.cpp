// inspection_text(): an Inspection as a page for a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/strings.h"
#include "model/inspect.h"

namespace moeopt {
namespace {

constexpr int kBarColumns = 24;

// "151,936"
std::string grouped(std::int64_t value) {
  const std::string digits = std::to_string(value);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

// `fraction` of kBarColumns, in eighths of a column.
std::string bar(double fraction) {
  static constexpr std::array<std::string_view, 8> kEighths = {"",  "▏", "▎", "▍",
                                                               "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::lround(fraction * kBarColumns * 8));
  std::string out;
  for (int i = 0; i < eighths / 8; ++i) out += "█";
  return out + std::string(kEighths[static_cast<std::size_t>(eighths % 8)]);
}

class Page {
 public:
  void title(const std::string& text) { text_ += text + "\n\n"; }
  void row(std::string_view label, const std::string& value) {
    text_ += fmt::format("  {:<12}  {}", label, value);
    text_.erase(text_.find_last_not_of(' ') + 1);
    text_ += '\n';
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

const MoeSpec* first_moe(const ModelSpec& spec) {
  for (const LayerSpec& layer : spec.layers) {
    if (layer.moe) return &*layer.moe;
  }
  return nullptr;
}

std::string layers_text(const ModelSpec& spec) {
  const auto n_moe = std::count_if(spec.layers.begin(), spec.layers.end(),
                                   [](const LayerSpec& layer) { return layer.moe.has_value(); });
  const auto n_dense = static_cast<std::ptrdiff_t>(spec.layers.size()) - n_moe;
  std::string text = fmt::format("{}, ", spec.layers.size());
  if (n_dense == 0) return text + "all MoE";
  const auto dense = std::find_if(spec.layers.begin(), spec.layers.end(),
                                  [](const LayerSpec& layer) { return !layer.moe.has_value(); });
  return text + fmt::format("{} MoE and {} dense ({} → {} → {})", n_moe, n_dense, spec.hidden,
                            dense->dense_intermediate, spec.hidden);
}

std::string experts_text(const ModelSpec& spec, const MoeSpec& moe) {
  return fmt::format("{} a layer, {} a token, each {} → {} → {}", moe.n_experts, moe.top_k,
                     spec.hidden, moe.intermediate, spec.hidden);
}

std::string router_text(const MoeSpec& moe) {
  const RouterSpec& router = moe.router;
  std::string text = router.score == RouterScore::kSoftmax ? "softmax" : "sigmoid";
  if (router.correction_bias) text += " + choice bias";
  if (router.n_groups > 1) {
    text += fmt::format(", best {} of {} groups ({})", router.top_k_groups, router.n_groups,
                        router.group_score == GroupScore::kMax ? "best score" : "two best scores");
  }
  if (router.renormalise) text += ", renormalised";
  if (router.scale != 1.0) text += fmt::format(", × {}", router.scale);
  return text;
}

std::string shared_text(const MoeSpec& moe) {
  if (moe.shared_intermediate == 0) return "none";
  const int size = moe.shared_intermediate;
  std::string text = fmt::format("one of size {}", size);
  if (size % moe.intermediate == 0 && size > moe.intermediate && !moe.shared_expert_gate) {
    text = fmt::format("{} of size {}", size / moe.intermediate, moe.intermediate);
  }
  return text + (moe.shared_expert_gate ? ", behind a sigmoid gate" : "");
}

std::string attention_text(const ModelSpec& spec) {
  const AttentionSpec& a = spec.layers.front().attention;
  std::string text;
  if (a.kind == AttentionKind::kMla) {
    text = fmt::format("MLA, {} heads of {} + {} rotary, latent of {}", a.n_heads, a.qk_nope_dim,
                       a.qk_rope_dim, a.kv_lora_rank);
    text += a.q_lora_rank > 0 ? fmt::format(", queries through {}", a.q_lora_rank) : "";
  } else {
    text = fmt::format("GQA, {} heads of {} on {} key/value heads", a.n_heads, a.qk_head_dim,
                       a.n_kv_heads);
  }
  if (a.qk_norm) text += ", q/k norm";
  if (a.qkv_bias) text += ", bias";
  std::set<int> windows;
  std::ptrdiff_t n_windowed = 0;
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.attention.sliding_window) continue;
    windows.insert(*layer.attention.sliding_window);
    ++n_windowed;
  }
  if (n_windowed > 0) {
    text += fmt::format(", window of {} in {} layers", grouped(*windows.begin()), n_windowed);
  }
  return text;
}

void add_weights(const Inspection& inspection, Page& page) {
  std::string dtypes;
  for (const auto& [name, bytes] : inspection.bytes_by_dtype) {
    dtypes += fmt::format(", {} {}", name, format_bytes(bytes));
  }
  page.row("weights",
           fmt::format("{}{} ({})", format_bytes(inspection.weight_bytes), dtypes,
                       inspection.exact ? "from the files" : "estimated from the config"));
  std::array<int, kWeightClasses> order{};
  std::iota(order.begin(), order.end(), 0);
  const auto bytes_of = [&](int i) {
    return inspection.classes[static_cast<std::size_t>(i)].bytes;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return bytes_of(a) > bytes_of(b); });
  for (const int i : order) {
    if (bytes_of(i) == 0) continue;
    const double share =
        static_cast<double>(bytes_of(i)) / static_cast<double>(inspection.weight_bytes);
    page.row("", fmt::format("{:<14} {:>9} {:>5.1f}%  {}",
                             weight_class_name(static_cast<WeightClass>(i)),
                             format_bytes(bytes_of(i)), 100 * share, bar(share)));
  }
}

void add_needs(const Inspection& inspection, Page& page) {
  const std::int64_t context = inspection.spec.max_position;
  page.row("KV cache",
           fmt::format(
               "{} a token in bf16, {} at {} tokens", format_bytes(inspection.kv_bytes_per_token),
               format_bytes(inspection.kv_bytes_per_token * static_cast<std::uint64_t>(context)),
               grouped(context)));
  std::string gpus;
  for (const GpuNeed& gpu : inspection.gpus) {
    gpus += fmt::format("{}{} × {}", gpus.empty() ? "" : "   ",
                        gpu.count == 0 ? "over 1024" : std::to_string(gpu.count), gpu.name);
  }
  page.row("GPUs", gpus);
  page.row("", fmt::format("({})", kGpuRule));
}

}  // namespace

std::string inspection_text(const Inspection& inspection) {
  const ModelSpec& spec = inspection.spec;
  const ModelCounts& counts = inspection.counts;
  Page page;
  page.title(fmt::format("{} · {}", inspection.name, spec.architecture));
  page.row("parameters",
           fmt::format(
               "{} in all, {} a token ({:.1f}%)", format_count(static_cast<double>(counts.total)),
               format_count(static_cast<double>(counts.active)),
               100.0 * static_cast<double>(counts.active) / static_cast<double>(counts.total)));
  page.row("layers", layers_text(spec));
  if (const MoeSpec* moe = first_moe(spec); moe != nullptr) {
    page.row("experts", experts_text(spec, *moe));
    page.row("router", router_text(*moe));
    page.row("shared", shared_text(*moe));
  }
  page.row("attention", attention_text(spec));
  page.row("vocabulary", fmt::format("{}{}", grouped(spec.vocab),
                                     spec.tied_embeddings ? ", tied to the output" : ""));
  page.row("context", grouped(spec.max_position) + " tokens");
  add_weights(inspection, page);
  add_needs(inspection, page);
  if (spec.not_runnable) {
    page.row("runs here", "no: " + *spec.not_runnable);
    if (!spec.not_runnable_hint.empty()) page.row("", spec.not_runnable_hint);
  } else if (inspection.weights_problem) {
    page.row("runs here", "no: " + *inspection.weights_problem);
  } else {
    page.row("runs here", inspection.exact ? "yes" : "yes, with its weights");
  }
  return page.take();
}

}  // namespace moeopt
