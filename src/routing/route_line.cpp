#include "routing/route_line.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

constexpr std::uint32_t kMostTokens = std::numeric_limits<std::int32_t>::max();

class Scanner {
 public:
  explicit Scanner(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  void space() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }
  bool eat(char c) {
    space();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  bool done() {
    space();
    return at_ == end_;
  }
  // Printable ASCII without escapes; anything else is left to the strict parser.
  bool text(std::string_view& into) {
    if (!eat('"')) return false;
    const char* begin = at_;
    while (at_ < end_ && *at_ != '"') {
      if (*at_ == '\\' || *at_ < 0x20 || *at_ > 0x7e) return false;
      ++at_;
    }
    if (at_ == end_) return false;
    into = {begin, static_cast<std::size_t>(at_ - begin)};
    ++at_;
    return true;
  }
  bool word(std::string_view wanted) {
    space();
    if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(wanted))
      return false;
    at_ += wanted.size();
    return true;
  }
  template <typename T>
  bool integer(T& into, std::uint64_t most) {
    space();
    const char* begin = at_;
    std::uint64_t value = 0;
    while (at_ < end_ && *at_ >= '0' && *at_ <= '9' && at_ - begin < 12) {
      value = value * 10 + static_cast<std::uint64_t>(*at_++ - '0');
    }
    const auto digits = at_ - begin;
    if (digits == 0 || (digits > 1 && *begin == '0') || value > most || starts_fraction())
      return false;
    into = static_cast<T>(value);
    return true;
  }
  bool number(float& into) {
    space();
    const char* begin = at_;
    if (at_ < end_ && *at_ == '-') ++at_;
    const char* whole = at_;
    if (!digits() || (at_ - whole > 1 && *whole == '0')) return false;
    if (at_ < end_ && *at_ == '.') {
      ++at_;
      if (!digits()) return false;
    }
    if (at_ < end_ && (*at_ == 'e' || *at_ == 'E')) {
      ++at_;
      if (at_ < end_ && (*at_ == '+' || *at_ == '-')) ++at_;
      if (!digits()) return false;
    }
    double value = 0;  // through double, as the strict parser does
    const auto [end, failed] = std::from_chars(begin, at_, value);
    if (failed != std::errc() || end != at_) return false;
    into = static_cast<float>(value);
    return std::isfinite(into);
  }

 private:
  bool starts_fraction() const {
    return at_ < end_ &&
           (*at_ == '.' || *at_ == 'e' || *at_ == 'E' || (*at_ >= '0' && *at_ <= '9'));
  }
  bool digits() {
    const char* begin = at_;
    while (at_ < end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    return at_ > begin;
  }

  const char* at_;
  const char* end_;
};

template <typename Element>
bool scan_list(Scanner& scanner, int& n, Element element) {
  n = 0;
  if (!scanner.eat('[')) return false;
  do {
    if (n == kMaxTopK || !element(n)) return false;
    ++n;
  } while (scanner.eat(','));
  return scanner.eat(']');
}

bool phase_from(std::string_view name, RoutePhase& phase) {
  if (name == "prefill") {
    phase = RoutePhase::kPrefill;
  } else if (name == "decode") {
    phase = RoutePhase::kDecode;
  } else {
    return false;
  }
  return true;
}

enum Field : unsigned {
  kType = 1,
  kRequest = 2,
  kToken = 4,
  kLayer = 8,
  kPhase = 16,
  kReplayed = 32,
  kIds = 64,
  kWeights = 128
};
constexpr unsigned kNeeded = kType | kRequest | kToken | kLayer | kIds;

// Reads one member's value; returns its bit, 0 when this is not for the scanner.
unsigned scan_member(Scanner& scanner, std::string_view key, RouteLine& line) {
  std::string_view text;
  if (key == "type") return scanner.text(text) && text == "route" ? kType : 0u;
  if (key == "req_id") {
    if (!scanner.text(text) || text.size() > 256) return 0;
    line.request = text;
    return kRequest;
  }
  if (key == "token_idx") return scanner.integer(line.token, kMostTokens) ? kToken : 0u;
  if (key == "layer") return scanner.integer(line.layer, 1'000'000) ? kLayer : 0u;
  if (key == "phase") return scanner.text(text) && phase_from(text, line.phase) ? kPhase : 0u;
  if (key == "replayed") {
    line.replayed = scanner.word("true");
    return line.replayed || scanner.word("false") ? kReplayed : 0u;
  }
  if (key == "topk_ids") {
    const auto id = [&](int i) {
      return scanner.integer(line.ids[static_cast<std::size_t>(i)], kMaxExperts - 1);
    };
    return scan_list(scanner, line.n_ids, id) ? kIds : 0u;
  }
  if (key == "topk_weights") {
    const auto weight = [&](int i) {
      return scanner.number(line.weights[static_cast<std::size_t>(i)]);
    };
    return scan_list(scanner, line.n_weights, weight) ? kWeights : 0u;
  }
  return 0;
}

[[noreturn]] void refuse(std::string_view where, const char* field, const std::string& why) {
  throw_error(ErrorCode::kInvalidData, "{}: \"{}\" {}", where, field, why);
}

const Json& member(const Json& json, std::string_view where, const char* name) {
  if (!json.contains(name)) refuse(where, name, "is missing");
  return json[name];
}

std::uint64_t whole(const Json& value, std::string_view where, const char* name,
                    std::uint64_t most) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most) {
    refuse(where, name,
           fmt::format("is {}, it must be a whole number up to {}",
                       printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 40),
                       most));
  }
  return value.get<std::uint64_t>();
}

const Json& list(const Json& json, std::string_view where, const char* name) {
  const Json& value = member(json, where, name);
  if (!value.is_array() || value.empty() || value.size() > kMaxTopK) {
    refuse(where, name, fmt::format("must be a list of 1 ... {} entries", kMaxTopK));
  }
  return value;
}

}  // namespace

bool scan_route_line(std::string_view text, RouteLine& line) {
  line.phase = RoutePhase::kUnknown;
  line.replayed = false;
  line.n_weights = -1;
  Scanner scanner(text);
  if (!scanner.eat('{')) return false;
  unsigned seen = 0;
  do {
    std::string_view key;
    if (!scanner.text(key) || !scanner.eat(':')) return false;
    const unsigned bit = scan_member(scanner, key, line);
    if (bit == 0 || (seen & bit) != 0) return false;
    seen |= bit;
  } while (scanner.eat(','));
  if (!scanner.eat('}') || !scanner.done() || (seen & kNeeded) != kNeeded) return false;
  return line.n_weights < 0 || line.n_weights == line.n_ids;
}

void read_route(const Json& json, std::string_view where, RouteLine& line) {
  const Json& request = member(json, where, "req_id");
  if (!request.is_string() || request.get_ref<const std::string&>().size() > 256) {
    refuse(where, "req_id", "must be a text of at most 256 bytes");
  }
  line.request = request.get<std::string>();
  line.token = static_cast<std::uint32_t>(
      whole(member(json, where, "token_idx"), where, "token_idx", kMostTokens));
  line.layer = static_cast<int>(whole(member(json, where, "layer"), where, "layer", 1'000'000));
  line.phase = RoutePhase::kUnknown;
  if (json.contains("phase")) {
    const Json& phase = json["phase"];
    if (!phase.is_string() || !phase_from(phase.get<std::string>(), line.phase)) {
      refuse(where, "phase", "must be prefill or decode");
    }
  }
  line.replayed = false;
  if (json.contains("replayed")) {
    if (!json["replayed"].is_boolean()) refuse(where, "replayed", "must be true or false");
    line.replayed = json["replayed"].get<bool>();
  }
  const Json& ids = list(json, where, "topk_ids");
  line.n_ids = static_cast<int>(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    line.ids[i] = static_cast<std::uint16_t>(whole(ids[i], where, "topk_ids", kMaxExperts - 1));
  }
  line.n_weights = -1;
  if (!json.contains("topk_weights")) return;
  const Json& weights = list(json, where, "topk_weights");
  if (weights.size() != ids.size()) {
    refuse(where, "topk_weights",
           fmt::format("has {} entries, topk_ids {}", weights.size(), ids.size()));
  }
  line.n_weights = line.n_ids;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const bool number = weights[i].is_number();
    line.weights[i] = number ? static_cast<float>(weights[i].get<double>()) : 0.0f;
    if (!number || !std::isfinite(line.weights[i])) {
      refuse(where, "topk_weights", "must hold finite numbers");
    }
  }
}

}  // namespace moeopt
