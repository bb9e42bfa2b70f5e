#include "routing/log_format.h"

#include <algorithm>
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

// Text put together in a buffer that the caller made large enough.
class Cursor {
 public:
  explicit Cursor(char* at) : at_(at) {}
  char* at() const { return at_; }
  void text(std::string_view text) { at_ = std::ranges::copy(text, at_).out; }
  void number(std::uint32_t value) {
    if (value < 10) {
      *at_++ = static_cast<char>('0' + value);
    } else {
      at_ = std::to_chars(at_, at_ + kMostDigits, value).ptr;
    }
  }
  // All of `chars`, of which the first `size` are meant: a copy of constant length is a move.
  template <std::size_t kSize>
  void front_of(const std::array<char, kSize>& chars, std::size_t size) {
    std::memcpy(at_, chars.data(), kSize);
    at_ += size;
  }

  static constexpr std::size_t kMostDigits = 10;

 private:
  char* at_;
};

// weight_text() takes a microsecond, and few of the 2^16 weights are common: those of 2^-8 ... 1
// have a place each, others share them.
class WeightTexts {
 public:
  static constexpr std::size_t kMost = 13;

  void put(std::uint16_t bits, Cursor& into) {
    Text& text = texts_[bits % texts_.size()];
    if (text.size == 0 || text.bits != bits) {
      std::array<char, 32> buffer;
      const std::string_view made = weight_text(bits, buffer);
      MOEOPT_CHECK(made.size() <= kMost);
      std::ranges::copy(made, text.chars.begin());
      text.bits = bits;
      text.size = static_cast<std::uint8_t>(made.size());
    }
    into.front_of(text.chars, text.size);
  }

 private:
  struct Text {
    std::uint16_t bits = 0;
    std::uint8_t size = 0;  // 0: none yet
    std::array<char, kMost> chars{};
  };
  std::vector<Text> texts_ = std::vector<Text>(std::size_t{1} << 13);
};

class JsonlEncoder final : public LogEncoder {
 public:
  std::string header(const RoutingHeader& header) const override {
    return header_json(header) + "\n";
  }
  std::string totals(const RoutingTotals& totals) const override {
    return totals_json(totals) + "\n";
  }
  std::string request(const RoutingHeader& header, const RequestRoutes& routes) override {
    const std::string id = Json(routes.id).dump(-1, ' ', false, Json::error_handler_t::replace);
    OrderedJson head = {{"type", "request"},
                        {"req_id", routes.id},
                        {"prompt_tokens", routes.prompt_tokens},
                        {"tokens", routes.tokens()},
                        {"cached_tokens", routes.cached_tokens},
                        {"replayed_tokens", routes.replayed_tokens()}};
    if (!routes.complete) head["partial"] = true;
    std::string out = head.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
    line_.resize(kMostFixed + id.size() +
                 static_cast<std::size_t>(header.top_k) *
                     (Cursor::kMostDigits + WeightTexts::kMost + 2));
    std::size_t row = 0;
    for (const RouteSpan& span : routes.spans) {
      for (std::uint32_t t = 0; t < span.n_tokens; ++t, ++row) {
        Cursor line(line_.data());  // as far as all layers' are the same
        put_token(line, id, span, span.first_token + t);
        for (std::size_t layer = 0; layer < header.layers.size(); ++layer) {
          append_route(out, line, header, layer, row, routes);
        }
      }
    }
    return out;
  }

 private:
  static void put_token(Cursor& line, std::string_view id, const RouteSpan& span,
                        std::uint32_t token) {
    line.text(R"({"type":"route","req_id":)");
    line.text(id);
    line.text(R"(,"token_idx":)");
    line.number(token);
    if (span.phase != RoutePhase::kUnknown) {
      line.text(R"(,"phase":")");
      line.text(route_phase_name(span.phase));
      line.text("\"");
    }
    if (span.replayed) line.text(R"(,"replayed":true)");
    line.text(R"(,"layer":)");
  }

  void append_route(std::string& out, Cursor line, const RoutingHeader& header, std::size_t layer,
                    std::size_t row, const RequestRoutes& routes) {
    const auto top_k = static_cast<std::size_t>(header.top_k);
    const std::size_t first = (row * header.layers.size() + layer) * top_k;
    const auto ids = std::span(routes.ids).subspan(first, top_k);
    std::size_t n = 0;
    while (n < top_k && ids[n] != kNoExpert) ++n;
    if (n == 0) return;
    line.number(static_cast<std::uint32_t>(header.layers[layer]));
    line.text(R"(,"topk_ids":[)");
    for (std::size_t i = 0; i < n; ++i) {
      if (i > 0) line.text(",");
      line.number(ids[i]);
    }
    if (!routes.weights.empty()) {
      line.text(R"(],"topk_weights":[)");
      for (std::size_t i = 0; i < n; ++i) {
        if (i > 0) line.text(",");
        texts_.put(routes.weights[first + i], line);
      }
    }
    line.text("]}\n");
    out.append(line_.data(), line.at());
  }

  static constexpr std::size_t kMostFixed = 160;  // of a line: its names, token and layer
  std::string line_;                              // room for the longest
  WeightTexts texts_;
};

// Little-endian, which every machine this program runs on is.
template <typename T>
void put(std::string& out, T value) {
  std::array<char, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  out.append(bytes.data(), bytes.size());
}

constexpr std::size_t kBlockHead = 12;  // bytes before the payload

// `block`: kBlockHead bytes of whatever, then the payload.
std::string sealed(std::uint32_t tag, std::string block) {
  const auto payload = std::as_bytes(std::span(block)).subspan(kBlockHead);
  MOEOPT_CHECK(payload.size() <= kMaxBlockBytes);
  const std::array head{tag, static_cast<std::uint32_t>(payload.size()), crc32(payload)};
  static_assert(sizeof(head) == kBlockHead);
  std::memcpy(block.data(), head.data(), kBlockHead);
  return block;
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
    return sealed(kTotalsTag, std::string(kBlockHead, '\0') + totals_json(totals));
  }
  std::string request(const RoutingHeader& header, const RequestRoutes& routes) override {
    std::string block(kBlockHead, '\0');
    block.reserve(64 + routes.spans.size() * 12 +
                  routes.ids.size() * static_cast<std::size_t>(header.id_bytes()) +
                  routes.weights.size() * sizeof(std::uint16_t));
    put(block, static_cast<std::uint32_t>(routes.id.size()));
    put(block, routes.prompt_tokens);
    put(block, routes.cached_tokens);
    put(block, static_cast<std::uint32_t>(routes.complete ? 0 : 1));
    put(block, static_cast<std::uint32_t>(routes.spans.size()));
    block += routes.id;
    for (const RouteSpan& span : routes.spans) {
      put(block, span.first_token);
      put(block, span.n_tokens);
      put(block, static_cast<std::uint32_t>(static_cast<std::uint32_t>(span.phase) |
                                            (span.replayed ? 0x100u : 0u)));
    }
    if (header.id_bytes() == 1) {
      const std::size_t at = block.size();
      block.resize(at + routes.ids.size());
      std::ranges::transform(routes.ids, block.begin() + static_cast<std::ptrdiff_t>(at),
                             [](std::uint16_t id) { return static_cast<char>(id & 0xffu); });
    } else {
      const auto bytes = std::as_bytes(std::span(routes.ids));
      block.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    const auto weights = std::as_bytes(std::span(routes.weights));
    block.append(reinterpret_cast<const char*>(weights.data()), weights.size());
    return sealed(kRequestTag, std::move(block));
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
