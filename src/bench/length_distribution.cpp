#include "bench/length_distribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt::bench {
namespace {

constexpr int kMostTokens = 1'000'000;

// The number that all of `text` is; nullopt for anything else.
template <typename T>
std::optional<T> whole_number(std::string_view text) {
  T value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int> length(std::string_view text) {
  const auto value = whole_number<int>(text);
  if (!value || *value < 1 || *value > kMostTokens) return std::nullopt;
  return value;
}

struct Range {
  int low, high;
};

std::optional<Range> range(std::string_view text) {
  const auto dash = text.find('-');
  if (dash == text.npos) return std::nullopt;
  const auto low = length(text.substr(0, dash)), high = length(text.substr(dash + 1));
  if (!low || !high || *low > *high) return std::nullopt;
  return Range{*low, *high};
}

}  // namespace

LengthDistribution LengthDistribution::always(int tokens) {
  return parse(fmt::format("{}", tokens), "length");
}

LengthDistribution LengthDistribution::parse(std::string_view text, std::string_view flag) {
  const auto refuse = [&]() -> Error {
    return {ErrorCode::kUsage, fmt::format("{}: '{}' is no length", flag, printable(text)),
            fmt::format("128, uniform:64-256, normal:MEAN,DEVIATION, lognormal:MEDIAN,SIGMA, the "
                        "last two with bounds as in normal:128,32@16-512; at most {} tokens",
                        kMostTokens)};
  };
  LengthDistribution made;
  made.text_ = text;
  const auto colon = text.find(':');
  if (colon == text.npos) {
    const auto tokens = length(text);
    if (!tokens) throw refuse();
    made.low_ = made.high_ = *tokens;
    return made;
  }
  const std::string_view kind = text.substr(0, colon);
  std::string_view rest = text.substr(colon + 1);
  if (kind == "uniform") {
    const auto bounds = range(rest);
    if (!bounds) throw refuse();
    made.kind_ = Kind::kUniform;
    made.low_ = bounds->low;
    made.high_ = bounds->high;
    return made;
  }
  if (kind != "normal" && kind != "lognormal") throw refuse();
  made.kind_ = kind == "normal" ? Kind::kNormal : Kind::kLognormal;
  made.high_ = kMostTokens;
  if (const auto at = rest.find('@'); at != rest.npos) {
    const auto bounds = range(rest.substr(at + 1));
    if (!bounds) throw refuse();
    made.low_ = bounds->low;
    made.high_ = bounds->high;
    rest = rest.substr(0, at);
  }
  const auto comma = rest.find(',');
  if (comma == rest.npos) throw refuse();
  const auto centre = whole_number<double>(rest.substr(0, comma));
  const auto width = whole_number<double>(rest.substr(comma + 1));
  // Written so that NaN is refused too.
  if (!centre || !width || !(*centre >= 1 && *centre <= kMostTokens)) throw refuse();
  if (!(*width >= 0 && *width <= kMostTokens)) throw refuse();
  made.centre_ = *centre;
  made.width_ = *width;
  return made;
}

int LengthDistribution::draw(Random& random) const {
  double value = 0;
  switch (kind_) {
    case Kind::kAlways:
      return low_;
    case Kind::kUniform:
      return low_ + static_cast<int>(random.below(static_cast<std::uint64_t>(high_ - low_) + 1));
    case Kind::kNormal:
      value = centre_ + width_ * random.normal();
      break;
    case Kind::kLognormal:
      value = centre_ * std::exp(width_ * random.normal());
      break;
  }
  // Clamped before it is rounded: a tail may lie beyond what an int holds.
  value = std::clamp(value, static_cast<double>(low_), static_cast<double>(high_));
  return static_cast<int>(std::lround(value));
}

}  // namespace moeopt::bench
