#include "text/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <span>

#include "text/jinja/case_table.h"

namespace moeopt::jinja {
namespace {

// Length of the valid sequence at `at`, or 0.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const std::size_t left = text.size() - at;
  const auto tail = [&](std::size_t i) { return i < left && (byte(i) & 0xC0) == 0x80; };
  const unsigned char head = byte(0);
  if (head < 0x80) return 1;
  if (head >= 0xC2 && head <= 0xDF) return tail(1) ? 2 : 0;
  if (head >= 0xE0 && head <= 0xEF) {
    if (!tail(1) || !tail(2)) return 0;
    if (head == 0xE0 && byte(1) < 0xA0) return 0;
    if (head == 0xED && byte(1) > 0x9F) return 0;
    return 3;
  }
  if (head >= 0xF0 && head <= 0xF4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    if (head == 0xF0 && byte(1) < 0x90) return 0;
    if (head == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

utf8proc_category_t category(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

bool in_ranges(std::span<const CodePoints> ranges, char32_t code_point) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), code_point,
                       [](char32_t left, const CodePoints& right) { return left < right.first; });
  return after != ranges.begin() && code_point <= std::prev(after)->last;
}

const FullCase* full_case(char32_t code_point) {
  const auto* end = std::end(kFullCase);
  const auto* entry = std::lower_bound(
      std::begin(kFullCase), end, code_point,
      [](const FullCase& left, char32_t right) { return left.code_point < right; });
  return entry != end && entry->code_point == code_point ? entry : nullptr;
}

void append_upper(std::string& out, char32_t code_point) {
  if (code_point < 0x80) {
    const bool lower = code_point >= 'a' && code_point <= 'z';
    out.push_back(static_cast<char>(lower ? code_point - 32 : code_point));
    return;
  }
  if (const FullCase* entry = full_case(code_point); entry && !entry->upper.empty()) {
    out += entry->upper;
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_toupper(static_cast<int>(code_point))));
  }
}

void append_title(std::string& out, char32_t code_point) {
  if (code_point < 0x80) return append_upper(out, code_point);
  if (const FullCase* entry = full_case(code_point); entry && !entry->title.empty()) {
    out += entry->title;
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_totitle(static_cast<int>(code_point))));
  }
}

bool is_cased(char32_t code_point) {
  return is_upper(code_point) || is_lower(code_point) || is_title(code_point);
}

// Unicode's Case_Ignorable: marks, formats, modifiers and the word-inner punctuation.
bool is_case_ignorable(char32_t code_point) {
  switch (category(code_point)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      break;
  }
  static constexpr char32_t kPunctuation[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                              0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                              0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
  return std::find(std::begin(kPunctuation), std::end(kPunctuation), code_point) !=
         std::end(kPunctuation);
}

// A capital sigma ends a word when a cased letter comes before it and none after.
bool is_final_sigma(std::u32string_view text, std::size_t at) {
  std::size_t before = at;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  std::size_t after = at + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

void append_lower(std::string& out, std::u32string_view text, std::size_t at) {
  const char32_t code_point = text[at];
  if (code_point < 0x80) {
    const bool upper = code_point >= 'A' && code_point <= 'Z';
    out.push_back(static_cast<char>(upper ? code_point + 32 : code_point));
  } else if (code_point == 0x3A3) {
    append_utf8(out, is_final_sigma(text, at) ? 0x3C2 : 0x3C3);
  } else if (code_point == 0x130) {
    out += "i\u0307";
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<int>(code_point))));
  }
}

std::u32string decode(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) out.push_back(decode_next(text, at));
  return out;
}

}  // namespace

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_valid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = sequence_length(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

char32_t decode_next(std::string_view text, std::size_t& at) {
  const std::size_t length = sequence_length(text, at);
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  char32_t code_point = byte(0);
  if (length == 2) code_point = (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
  if (length == 3) {
    code_point = (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  }
  if (length == 4) {
    code_point =
        (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
  at += std::max<std::size_t>(length, 1);
  return code_point;
}

void append_utf8(std::string& out, char32_t code_point) {
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
    return;
  }
  if (code_point < 0x800) {
    out.push_back(static_cast<char>(0xC0 | code_point >> 6));
  } else {
    if (code_point < 0x10000) {
      out.push_back(static_cast<char>(0xE0 | code_point >> 12));
    } else {
      out.push_back(static_cast<char>(0xF0 | code_point >> 18));
      out.push_back(static_cast<char>(0x80 | (code_point >> 12 & 0x3F)));
    }
    out.push_back(static_cast<char>(0x80 | (code_point >> 6 & 0x3F)));
  }
  out.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
}

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::size_t byte_of(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  while (index > 0 && at < text.size()) {
    decode_next(text, at);
    --index;
  }
  return at;
}

std::vector<char32_t> to_code_points(std::string_view text) {
  const std::u32string decoded = decode(text);
  return {decoded.begin(), decoded.end()};
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_upper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return utf8proc_isupper(static_cast<int>(c)) != 0;
}

bool is_lower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return utf8proc_islower(static_cast<int>(c)) != 0;
}

bool is_title(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LT;
}

bool is_alpha(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

bool is_decimal(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_digit(char32_t c) {
  return is_decimal(c) || in_ranges(kOtherDigits, c);
}

bool is_numeric(char32_t c) {
  const auto kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
         kind == UTF8PROC_CATEGORY_NO || in_ranges(kOtherNumerics, c);
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) append_upper(out, decode_next(text, at));
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const std::u32string decoded = decode(text);
  for (std::size_t at = 0; at < decoded.size(); ++at) append_lower(out, decoded, at);
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  const std::u32string decoded = decode(text);
  for (std::size_t at = 0; at < decoded.size(); ++at) {
    if (at == 0) {
      append_title(out, decoded[at]);
    } else {
      append_lower(out, decoded, at);
    }
  }
  return out;
}

std::string to_title(std::string_view text) {
  std::string out;
  const std::u32string decoded = decode(text);
  bool inside = false;
  for (std::size_t at = 0; at < decoded.size(); ++at) {
    if (inside) {
      append_lower(out, decoded, at);
    } else {
      append_title(out, decoded[at]);
    }
    inside = is_cased(decoded[at]);
  }
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  const std::u32string decoded = decode(text);
  for (std::size_t at = 0; at < decoded.size(); ++at) {
    if (is_upper(decoded[at])) {
      append_lower(out, decoded, at);
    } else if (is_lower(decoded[at])) {
      append_upper(out, decoded[at]);
    } else {
      append_utf8(out, decoded[at]);
    }
  }
  return out;
}

std::string_view strip_left(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    if (!is_space(decode_next(text, at))) return text.substr(start);
  }
  return {};
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 &&
           (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
      --start;
    }
    std::size_t at = start;
    if (!is_space(decode_next(text, at))) return text;
    text = text.substr(0, start);
  }
  return text;
}

std::string_view strip(std::string_view text) {
  return strip_right(strip_left(text));
}

}  // namespace moeopt::jinja
