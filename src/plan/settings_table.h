// The rows behind setting_table(): each with the member of Settings it fills. For src/plan alone.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "plan/settings.h"

namespace moeopt {

using SettingMember = std::variant<Setting<int> Settings::*, Setting<std::int64_t> Settings::*,
                                   Setting<double> Settings::*, Setting<std::string> Settings::*,
                                   Setting<KvDtype> Settings::*>;

struct SettingRow {
  SettingInfo info;
  SettingMember member;
  std::string default_text;
};

std::span<const SettingRow> setting_rows();
// By key ("max_model_len"); nullptr when there is none.
const SettingRow* find_setting(std::string_view key);

// Reads `text` as the row's type and stores it with its origin. Error(kUsage) opens with `where`.
void assign_setting(const SettingRow& row, std::string_view text, std::string_view where,
                    Origin origin, Settings& settings);

// As it would be written in a file ("auto", "0.9"), and where it came from.
std::string setting_text(const SettingRow& row, const Settings& settings);
const Origin& setting_origin(const SettingRow& row, const Settings& settings);

// "off", "prefer" or "require". Error(kUsage) opens with `where`.
Ask parse_ask(std::string_view text, std::string_view where);

}  // namespace moeopt
