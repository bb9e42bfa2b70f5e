// From text to a value of a setting's type, with the message for what is not one.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/strings.h"
#include "plan/settings_table.h"

namespace moeopt {
namespace {

[[noreturn]] void refuse(std::string_view where, std::string_view text, std::string_view expected,
                         std::string hint = {}) {
  throw Error(ErrorCode::kUsage,
              fmt::format("{}: \"{}\" is not {}", where, printable(text, 60), expected),
              std::move(hint));
}

std::string nearest_hint(std::string_view text, std::span<const std::string> names) {
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string_view nearest = nearest_match(text, views);
  return nearest.empty() ? std::string() : fmt::format("did you mean {}?", nearest);
}

std::string one_of(const std::vector<std::string>& choices) {
  return fmt::format("one of {}", fmt::join(choices, ", "));
}

std::int64_t parse_integer(const SettingInfo& info, std::string_view text, std::string_view where) {
  if (info.may_be_auto && text == "auto") return 0;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!info.choices.empty()) {
    if (std::ranges::find(info.choices, std::string(text)) == info.choices.end()) {
      refuse(where, text, one_of(info.choices));
    }
  } else if (!whole || static_cast<double>(value) < info.minimum ||
             static_cast<double>(value) > info.maximum) {
    refuse(where, text,
           fmt::format("a whole number from {:.0f} to {:.0f}{}", info.minimum, info.maximum,
                       info.may_be_auto ? ", or auto" : ""));
  }
  return value;
}

double parse_real(const SettingInfo& info, std::string_view text, std::string_view where) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) ||
      value < info.minimum || value > info.maximum) {
    refuse(where, text, fmt::format("a number from {} to {}", info.minimum, info.maximum));
  }
  return value;
}

std::string parse_choice(const SettingInfo& info, std::string_view text, std::string_view where) {
  std::string value(text);
  if (std::ranges::find(info.choices, value) == info.choices.end()) {
    refuse(where, text, one_of(info.choices), nearest_hint(text, info.choices));
  }
  return value;
}

KvDtype kv_dtype_of(std::string_view name) {
  for (const KvDtype dtype : {KvDtype::kBf16, KvDtype::kF32, KvDtype::kFp8}) {
    if (kv_dtype_name(dtype) == name) return dtype;
  }
  return KvDtype::kAuto;
}

}  // namespace

Ask parse_ask(std::string_view text, std::string_view where) {
  for (const Ask ask : {Ask::kOff, Ask::kPrefer, Ask::kRequire}) {
    if (ask_name(ask) == text) return ask;
  }
  static const std::vector<std::string> asks = {"off", "prefer", "require"};
  refuse(where, text, one_of(asks), nearest_hint(text, asks));
}

void assign_setting(const SettingRow& row, std::string_view text, std::string_view where,
                    Origin origin, Settings& settings) {
  const SettingInfo& info = row.info;
  const auto store = [&]<typename T>(Setting<T> Settings::*member) {
    Setting<T>& setting = settings.*member;
    if constexpr (std::is_same_v<T, double>) {
      setting.value = parse_real(info, text, where);
    } else if constexpr (std::is_same_v<T, KvDtype>) {
      setting.value = kv_dtype_of(parse_choice(info, text, where));
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (text.empty()) refuse(where, text, "a name");
      setting.value = info.choices.empty() ? std::string(text) : parse_choice(info, text, where);
    } else {
      setting.value = static_cast<T>(parse_integer(info, text, where));
    }
    setting.origin = std::move(origin);
  };
  std::visit(store, row.member);
}

std::string setting_text(const SettingRow& row, const Settings& settings) {
  const auto text = [&]<typename T>(Setting<T> Settings::*member) {
    const T& value = (settings.*member).value;
    if constexpr (std::is_same_v<T, KvDtype>) {
      return std::string(kv_dtype_name(value));
    } else if constexpr (std::is_integral_v<T>) {
      return row.info.may_be_auto && value == 0 ? std::string("auto") : fmt::format("{}", value);
    } else {
      return fmt::format("{}", value);
    }
  };
  return std::visit(text, row.member);
}

const Origin& setting_origin(const SettingRow& row, const Settings& settings) {
  return std::visit([&](auto member) -> const Origin& { return (settings.*member).origin; },
                    row.member);
}

}  // namespace moeopt
