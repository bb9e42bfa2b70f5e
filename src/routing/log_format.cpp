#include "routing/log_format.h"

#include <array>
#include <charconv>
#include <cstring>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "base/strings.h"
#include "routing/crc32.h"
#include "tensor/dtype.h"

namespace moeopt {
namespace {

void append_number(std::string& out, std::uint64_t value) {
  std::array<char, 24> text;
  const auto [end, failed] = std::to_chars(text.data(), text.data() + text.size(), value);
  MOEOPT_CHECK(failed == std::errc());
  out.append(text.data(), end);
}

class JsonlEncoder final : public LogEncoder {
 public:
  std::string header(const RoutingHeader& header) const override {
    return header_json(header) + "\n";
  }
  std::string totals(const RoutingTotals& totals) const override {
    return totals_json(totals) + "\n";
  }
  std::string request(const RoutingHeader& header, const RequestRoutes& routes) const override {
    const std::string id = Json(routes.id).dump(-1, ' ', false, Json::error_handler_t::replace);
    OrderedJson line = {{"type", "request"},
                        {"req_id", routes.id},
                        {"prompt_tokens", routes.prompt_tokens},
                        {"tokens", routes.tokens()},
                        {"cached_tokens", routes.cached_tokens},
                        {"replayed_tokens", routes.replayed_tokens()}};
    if (!routes.complete) line["partial"] = true;
    std::string out = line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
    std::size_t row = 0;
    for (const RouteSpan& span : routes.spans) {
      for (std::uint32_t t = 0; t < span.n_tokens; ++t, ++row) {
        for (std::size_t layer = 0; layer < header.layers.size(); ++layer) {
          append_route(out, id, span, span.first_token + t, header, layer, row, routes);
        }
      }
    }
    return out;
  }

 private:
  static void append_route(std::string& out, const std::string& id, const RouteSpan& span,
                           std::uint32_t token, const RoutingHeader& header, std::size_t layer,
                           std::size_t row, const RequestRoutes& routes) {
    const auto top_k = static_cast<std::size_t>(header.top_k);
    const std::size_t first = (row * header.layers.size() + layer) * top_k;
    const auto ids = std::span(routes.ids).subspan(first, top_k);
    std::size_t n = 0;
    while (n < top_k && ids[n] != kNoExpert) ++n;
    if (n == 0) return;
    out += R"({"type":"route","req_id":)";
    out += id;
    out += R"(,"token_idx":)";
    append_number(out, token);
    if (span.phase != RoutePhase::kUnknown) {
      out += R"(,"phase":")";
      out += route_phase_name(span.phase);
      out += '"';
    }
    if (span.replayed) out += R"(,"replayed":true)";
    out += R"(,"layer":)";
    append_number(out, static_cast<std::uint64_t>(header.layers[layer]));
    out += R"(,"topk_ids":[)";
    for (std::size_t i = 0; i < n; ++i) {
      if (i > 0) out += ',';
      append_number(out, ids[i]);
    }
    if (!routes.weights.empty()) {
      out += R"(],"topk_weights":[)";
      std::array<char, 32> buffer;
      for (std::size_t i = 0; i < n; ++i) {
        if (i > 0) out += ',';
        out += weight_text(routes.weights[first + i], buffer);
      }
    }
    out += "]}\n";
  }
};

// Little-endian, which every machine this program runs on is.
template <typename T>
void put(std::string& out, T value) {
  std::array<char, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  out.append(bytes.data(), bytes.size());
}

std::string block(std::uint32_t tag, std::string_view payload) {
  MOEOPT_CHECK(payload.size() <= kMaxBlockBytes);
  std::string out;
  out.reserve(payload.size() + 12);
  put(out, tag);
  put(out, static_cast<std::uint32_t>(payload.size()));
  put(out, crc32(std::as_bytes(std::span(payload))));
  out += payload;
  return out;
}

class BinaryEncoder final : public LogEncoder {
 public:
  std::string header(const RoutingHeader& header) const override {
    const std::string json = header_json(header);
    std::string out(kBinaryMagic);
    put(out, kBinaryVersion);
    put(out, static_cast<std::uint32_t>(json.size()));
    put(out, crc32(std::as_bytes(std::span(json))));
    return out + json;
  }
  std::string totals(const RoutingTotals& totals) const override {
    return block(kTotalsTag, totals_json(totals));
  }
  std::string request(const RoutingHeader& header, const RequestRoutes& routes) const override {
    std::string payload;
    payload.reserve(64 + routes.spans.size() * 12 +
                    routes.ids.size() * static_cast<std::size_t>(header.id_bytes()) +
                    routes.weights.size() * sizeof(std::uint16_t));
    put(payload, static_cast<std::uint32_t>(routes.id.size()));
    put(payload, routes.prompt_tokens);
    put(payload, routes.cached_tokens);
    put(payload, static_cast<std::uint32_t>(routes.complete ? 0 : 1));
    put(payload, static_cast<std::uint32_t>(routes.spans.size()));
    payload += routes.id;
    for (const RouteSpan& span : routes.spans) {
      put(payload, span.first_token);
      put(payload, span.n_tokens);
      put(payload, static_cast<std::uint32_t>(static_cast<std::uint32_t>(span.phase) |
                                              (span.replayed ? 0x100u : 0u)));
    }
    if (header.id_bytes() == 1) {
      for (const std::uint16_t id : routes.ids) payload += static_cast<char>(id & 0xffu);
    } else {
      const auto bytes = std::as_bytes(std::span(routes.ids));
      payload.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    const auto weights = std::as_bytes(std::span(routes.weights));
    payload.append(reinterpret_cast<const char*>(weights.data()), weights.size());
    return block(kRequestTag, payload);
  }
};

}  // namespace

LogFormat log_format_from_name(std::string_view name) {
  if (name == "jsonl") return LogFormat::kJsonl;
  if (name == "binary") return LogFormat::kBinary;
  throw Error(ErrorCode::kUsage, fmt::format("routing format \"{}\"", printable(name)),
              "jsonl or binary");
}

std::unique_ptr<LogEncoder> make_log_encoder(LogFormat format) {
  if (format == LogFormat::kBinary) return std::make_unique<BinaryEncoder>();
  return std::make_unique<JsonlEncoder>();
}

std::string_view weight_text(std::uint16_t bits, std::span<char, 32> buffer) {
  const float value = to_float(F16{bits});
  for (int digits = 1; digits <= 5; ++digits) {
    const auto [end, failed] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                             std::chars_format::general, digits);
    MOEOPT_CHECK(failed == std::errc());
    float back = 0;
    std::from_chars(buffer.data(), end, back);
    if (digits == 5 || to_f16(back).bits == bits) {
      return {buffer.data(), static_cast<std::size_t>(end - buffer.data())};
    }
  }
  return {};
}

}  // namespace moeopt
