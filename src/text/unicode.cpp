#include "text/unicode.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace moeopt {
namespace {

bool contains(std::span<const CodePointRange> ranges, char32_t code_point) {
  const auto after = std::upper_bound(
      ranges.begin(), ranges.end(), code_point,
      [](char32_t value, const CodePointRange& range) { return value < range.first; });
  return after != ranges.begin() && code_point <= std::prev(after)->last;
}

}  // namespace

bool is_general_category(std::string_view name) {
  static constexpr std::array<std::string_view, 33> kNames = {
      "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",
      "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
      "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Cc", "Cf"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

std::string class_of_category(std::string_view name) {
  std::string members = fmt::format("\\p{{{}}}", name);
  const auto put = [&](char32_t first, char32_t last) {
    members += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", std::uint32_t{first}, std::uint32_t{last});
  };
  char32_t first = 1;
  char32_t last = 0;
  for (const CategoryRange& range : unicode_additions()) {
    if (!std::string_view(range.category).starts_with(name)) continue;
    if (range.first != last + 1 || first > last) {
      if (first <= last) put(first, last);
      first = range.first;
    }
    last = range.last;
  }
  if (first <= last) put(first, last);
  return members;
}

bool is_numeric(char32_t code_point) {
  if (code_point < 0x80) return code_point >= '0' && code_point <= '9';
  return contains(numeric_ranges(), code_point);
}

bool is_punctuation(char32_t code_point) {
  return contains(punctuation_ranges(), code_point);
}

bool is_word_character(char32_t code_point) {
  return contains(word_ranges(), code_point);
}

bool is_unnormalized(char32_t code_point) {
  return contains(unnormalized_ranges(), code_point);
}

bool is_white_space(char32_t code_point) {
  static constexpr std::array<CodePointRange, 10> kRanges = {{{0x09, 0x0D},
                                                              {0x20, 0x20},
                                                              {0x85, 0x85},
                                                              {0xA0, 0xA0},
                                                              {0x1680, 0x1680},
                                                              {0x2000, 0x200A},
                                                              {0x2028, 0x2029},
                                                              {0x202F, 0x202F},
                                                              {0x205F, 0x205F},
                                                              {0x3000, 0x3000}}};
  return contains(kRanges, code_point);
}

}  // namespace moeopt
