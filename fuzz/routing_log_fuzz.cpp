// Any bytes as a routing log, of either format: read within the header's promises or refused with
// an Error. What was read survives both formats, and the quick line scanner agrees with the strict
// parser.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "routing/log_format.h"
#include "routing/log_reader.h"
#include "routing/route_line.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

bool is_consistent(const moeopt::RoutingHeader& header, const moeopt::RequestRoutes& routes) {
  const auto top_k = static_cast<std::size_t>(header.top_k);
  if (routes.ids.size() != routes.tokens() * header.layers.size() * top_k) return false;
  if (routes.weights.size() != (header.has_weights ? routes.ids.size() : 0)) return false;
  for (const std::uint16_t id : routes.ids) {
    if (id >= header.n_experts && id != moeopt::kNoExpert) return false;
  }
  for (const std::uint16_t weight : routes.weights) {
    if ((weight & 0x7c00u) == 0x7c00u) return false;
  }
  return true;
}

void check_scanner(std::string_view text) {
  moeopt::RouteLine quick;
  if (!moeopt::scan_route_line(text, quick)) return;
  moeopt::RouteLine strict;
  moeopt::read_route(moeopt::parse_json(text, "line"), "line", strict);
  require(quick.request == strict.request && quick.token == strict.token);
  require(quick.layer == strict.layer && quick.phase == strict.phase);
  require(quick.n_ids == strict.n_ids && quick.n_weights == strict.n_weights);
  for (std::size_t i = 0; i < static_cast<std::size_t>(quick.n_ids); ++i) {
    require(quick.ids[i] == strict.ids[i]);
    require(quick.n_weights < 0 || quick.weights[i] == strict.weights[i]);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  check_scanner({reinterpret_cast<const char*>(data), size});
  try {
    const auto reader = moeopt::open_routing_log(bytes, "fuzz");
    const moeopt::RoutingHeader header = reader->header();
    moeopt::RequestRoutes routes;
    std::size_t slots = 0;
    while (slots < (1u << 20) && reader->next(routes)) {
      require(is_consistent(header, routes));
      slots += routes.ids.size() + 1;
      const auto encoder = moeopt::make_log_encoder(moeopt::LogFormat::kBinary);
      const std::string again = encoder->header(header) + encoder->request(header, routes);
      const auto second = moeopt::open_routing_log(std::as_bytes(std::span(again)), "again");
      moeopt::RequestRoutes copy;
      require(second->next(copy));
      require(copy.ids == routes.ids && copy.weights == routes.weights && copy.id == routes.id);
    }
  } catch (const moeopt::Error&) {
  }
  return 0;
}
