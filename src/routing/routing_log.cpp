#include "routing/routing_log.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

int layer_number(std::string_view text, std::string_view whole) {
  int value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || value < 0) {
    throw Error(
        ErrorCode::kUsage,
        fmt::format("layers \"{}\": \"{}\" is no layer number", printable(whole), printable(text)),
        "all, or a list such as 0,2,5-7");
  }
  return value;
}

}  // namespace

std::string_view route_phase_name(RoutePhase phase) {
  switch (phase) {
    case RoutePhase::kPrefill:
      return "prefill";
    case RoutePhase::kDecode:
      return "decode";
    case RoutePhase::kUnknown:
      return "";
  }
  return "";
}

std::size_t RequestRoutes::tokens() const {
  std::size_t n = 0;
  for (const RouteSpan& span : spans) n += span.n_tokens;
  return n;
}

std::size_t RequestRoutes::replayed_tokens() const {
  std::size_t n = 0;
  for (const RouteSpan& span : spans) n += span.replayed ? span.n_tokens : 0;
  return n;
}

std::size_t RequestRoutes::bytes() const {
  return sizeof(RequestRoutes) + id.capacity() + spans.capacity() * sizeof(RouteSpan) +
         (ids.capacity() + weights.capacity()) * sizeof(std::uint16_t);
}

std::vector<int> select_layers(std::string_view text, const std::vector<int>& layers) {
  if (text == "all") return layers;
  std::set<int> chosen;
  for (const std::string& part : split(text, ',')) {
    const std::size_t dash = part.find('-');
    const std::string_view view = part;
    const int first = layer_number(view.substr(0, dash), text);
    const int last = dash == std::string::npos ? first : layer_number(view.substr(dash + 1), text);
    if (last < first) {
      throw_error(ErrorCode::kUsage, "layers \"{}\": {} runs backwards", printable(text), part);
    }
    const auto from = std::ranges::lower_bound(layers, first);
    const auto to = std::ranges::upper_bound(layers, last);
    if (from == to) {
      throw Error(
          ErrorCode::kUsage,
          fmt::format("layers \"{}\": the model has no MoE layer in {}", printable(text), part),
          fmt::format("its MoE layers are {}", fmt::join(layers, ",")));
    }
    chosen.insert(from, to);
  }
  return {chosen.begin(), chosen.end()};
}

void check_header(const RoutingHeader& header, std::string_view where) {
  const auto refuse = [&](std::string_view field, auto value, auto limit) {
    throw_error(ErrorCode::kInvalidData, "{}: {} is {}, it must be within 1 ... {}", where, field,
                value, limit);
  };
  if (header.n_experts < 1 || header.n_experts > kMaxExperts) {
    refuse("n_experts", header.n_experts, kMaxExperts);
  }
  if (header.top_k < 1 || header.top_k > std::min(kMaxTopK, header.n_experts)) {
    refuse("top_k", header.top_k, std::min(kMaxTopK, header.n_experts));
  }
  if (header.layers.empty() || header.layers.size() > kMaxLoggedLayers) {
    refuse("the number of layers_logged", header.layers.size(), kMaxLoggedLayers);
  }
  if (header.layers.front() < 0 ||
      std::ranges::adjacent_find(header.layers, std::greater_equal<>()) != header.layers.end()) {
    throw_error(ErrorCode::kInvalidData, "{}: layers_logged is not ascending layer numbers", where);
  }
}

}  // namespace moeopt
