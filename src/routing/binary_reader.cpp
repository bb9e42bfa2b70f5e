#include "routing/binary_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "routing/crc32.h"
#include "routing/log_format.h"
#include "tensor/dtype.h"

namespace moeopt {
namespace {

constexpr std::uint32_t kMaxHeaderBytes = 1u << 20;

// Takes values off the front of a payload; what is missing is the file's fault.
class Payload {
 public:
  Payload(std::span<const std::byte> bytes, std::string where)
      : bytes_(bytes), where_(std::move(where)) {}

  std::uint32_t u32(const char* field) {
    std::uint32_t value = 0;
    const auto from = take(sizeof(value), field);
    std::memcpy(&value, from.data(), sizeof(value));
    return value;
  }
  std::span<const std::byte> take(std::uint64_t n, const char* field) {
    if (n > bytes_.size())
      refuse(fmt::format("{} needs {} bytes, {} are left", field, n, bytes_.size()));
    const auto taken = bytes_.first(static_cast<std::size_t>(n));
    bytes_ = bytes_.subspan(static_cast<std::size_t>(n));
    return taken;
  }
  std::size_t left() const { return bytes_.size(); }
  [[noreturn]] void refuse(const std::string& why) const {
    throw_error(ErrorCode::kInvalidData, "{}: {}", where_, why);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
};

void read_spans(Payload& payload, std::uint32_t n, RequestRoutes& routes) {
  if (std::uint64_t{n} * 12 > payload.left()) payload.refuse("spans run past the block");
  routes.spans.resize(n);
  std::uint64_t tokens = 0;
  for (RouteSpan& span : routes.spans) {
    span.first_token = payload.u32("spans");
    span.n_tokens = payload.u32("spans");
    const std::uint32_t kind = payload.u32("spans");
    if ((kind & ~0x103u) != 0 || (kind & 3u) > 2u) {
      payload.refuse(fmt::format("a span's kind is {:#x}", kind));
    }
    span.phase = static_cast<RoutePhase>(kind & 3u);
    span.replayed = (kind & 0x100u) != 0;
    tokens += span.n_tokens;
    if (std::uint64_t{span.first_token} + span.n_tokens > 0x7fffffffu || tokens > 0x7fffffffu) {
      payload.refuse("a span's tokens are out of range");
    }
  }
}

void check_ids(const Payload& payload, const RoutingHeader& header,
               std::vector<std::uint16_t>& ids) {
  if (header.id_bytes() == 1) {
    for (std::uint16_t& id : ids) id = id == 0xff ? kNoExpert : id;
  }
  const auto n = static_cast<std::uint16_t>(header.n_experts);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < n || ids[i] == kNoExpert) continue;
    payload.refuse(fmt::format("expert id {} of {} experts", ids[i], n));
  }
}

}  // namespace

BinaryReader::BinaryReader(LogInput input) : input_(std::move(input)) {
  read_header();
}

void BinaryReader::read_header() {
  std::array<std::byte, 20> fixed;
  const std::string where = input_.name() + ": header";
  if (!input_.read(fixed)) throw_error(ErrorCode::kInvalidData, "{}: cut short", where);
  Payload payload(std::span<const std::byte>(fixed).subspan(kBinaryMagic.size()), where);
  if (const std::uint32_t version = payload.u32("version"); version != kBinaryVersion) {
    throw_error(ErrorCode::kInvalidData, "{}: version {}, this program reads {}", where, version,
                kBinaryVersion);
  }
  const std::uint32_t n_bytes = payload.u32("length");
  const std::uint32_t checksum = payload.u32("checksum");
  if (n_bytes > kMaxHeaderBytes)
    payload.refuse(fmt::format("length {} is above {}", n_bytes, kMaxHeaderBytes));
  payload_.resize(n_bytes);
  if (!input_.read(payload_)) payload.refuse("cut short");
  if (crc32(payload_) != checksum) payload.refuse("checksum does not match");
  const std::string_view text(reinterpret_cast<const char*>(payload_.data()), payload_.size());
  header_ = parse_header(parse_json(text, where), where);
  check_header(header_, where);
}

bool BinaryReader::read_block(std::uint32_t& tag) {
  block_begin_ = input_.offset();
  if (input_.offset() == input_.size_bytes()) return false;
  std::array<std::byte, 12> fixed;
  if (!input_.read(fixed)) {
    truncated_ = true;
    return false;
  }
  Payload head(fixed, fmt::format("{}: byte {}", input_.name(), block_begin_));
  tag = head.u32("tag");
  const std::uint32_t n_bytes = head.u32("length");
  const std::uint32_t checksum = head.u32("checksum");
  if (tag != kRequestTag && tag != kTotalsTag)
    head.refuse(fmt::format("unknown block {:#010x}", tag));
  if (n_bytes > kMaxBlockBytes) head.refuse(fmt::format("block of {} bytes", n_bytes));
  if (n_bytes > input_.size_bytes() - input_.offset()) {  // before any memory is taken for it
    truncated_ = true;
    return false;
  }
  payload_.resize(n_bytes);
  if (!input_.read(payload_)) head.refuse("cannot be read");
  if (crc32(payload_) != checksum) head.refuse("checksum does not match");
  return true;
}

bool BinaryReader::next(RequestRoutes& routes) {
  std::uint32_t tag = 0;
  while (!truncated_ && read_block(tag)) {
    if (tag == kRequestTag) {
      parse_request(routes);
      return true;
    }
    const std::string_view text(reinterpret_cast<const char*>(payload_.data()), payload_.size());
    const std::string where = fmt::format("{}: byte {}", input_.name(), block_begin_);
    stated_ = parse_totals(parse_json(text, where), where);
  }
  return false;
}

void BinaryReader::parse_request(RequestRoutes& routes) {
  Payload payload(payload_, fmt::format("{}: block at byte {}", input_.name(), block_begin_));
  const std::uint32_t id_bytes = payload.u32("request id");
  routes.prompt_tokens = payload.u32("prompt tokens");
  routes.cached_tokens = payload.u32("cached tokens");
  routes.complete = payload.u32("flags") == 0;
  const std::uint32_t n_spans = payload.u32("spans");
  if (id_bytes > kMaxRequestIdBytes) payload.refuse("the request id is too long");
  const auto id = payload.take(id_bytes, "request id");
  routes.id.assign(reinterpret_cast<const char*>(id.data()), id.size());
  read_spans(payload, n_spans, routes);

  const std::uint64_t slots = static_cast<std::uint64_t>(routes.tokens()) * header_.layers.size() *
                              static_cast<std::uint64_t>(header_.top_k);
  const auto width = static_cast<std::uint64_t>(header_.id_bytes());
  const std::uint64_t wanted = slots * (width + (header_.has_weights ? 2 : 0));
  if (wanted != payload.left()) {
    payload.refuse(fmt::format("{} tokens need {} bytes of routes, {} are there", routes.tokens(),
                               wanted, payload.left()));
  }
  const auto ids = payload.take(slots * width, "ids");
  routes.ids.resize(static_cast<std::size_t>(slots));
  if (width == 1) {
    std::ranges::transform(ids, routes.ids.begin(),
                           [](std::byte b) { return static_cast<std::uint16_t>(b); });
  } else if (slots > 0) {
    std::memcpy(routes.ids.data(), ids.data(), ids.size());
  }
  check_ids(payload, header_, routes.ids);
  routes.weights.clear();
  if (header_.has_weights) {
    routes.weights.resize(routes.ids.size());
    const auto weights = payload.take(payload.left(), "weights");
    if (!weights.empty()) std::memcpy(routes.weights.data(), weights.data(), weights.size());
    for (const std::uint16_t bits : routes.weights) {
      if ((bits & 0x7c00u) == 0x7c00u) payload.refuse("a weight is not finite");
    }
  }
  const auto top_k = static_cast<std::size_t>(header_.top_k);
  for (std::size_t cell = 0; cell < routes.ids.size(); cell += top_k) {
    records_ += routes.ids[cell] == kNoExpert ? 0 : 1;
  }
}

}  // namespace moeopt
