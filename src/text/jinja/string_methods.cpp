#include <algorithm>

#include "text/jinja/arguments.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/string_search.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

Value pieces(Runtime& runtime, const Value& self, const std::vector<std::string_view>& parts) {
  Values items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) {
    items.push_back(text_like(runtime, self, std::string(part)));
  }
  return make_list(runtime, std::move(items));
}

std::optional<std::string_view> separator_of(Runtime& runtime, const Arguments& given) {
  if (given.value(0) == nullptr) return std::nullopt;
  const std::string_view separator = given.text(0);
  if (separator.empty()) runtime.fail("empty separator");
  return separator;
}

Value split(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "split", args, {"sep", "maxsplit"});
  runtime.step_characters(self.view().size());
  return pieces(runtime, self,
                split_text(self.view(), separator_of(runtime, given), given.integer(1, -1)));
}

Value rsplit(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "rsplit", args, {"sep", "maxsplit"});
  runtime.step_characters(self.view().size());
  return pieces(runtime, self,
                split_text_right(self.view(), separator_of(runtime, given), given.integer(1, -1)));
}

Value splitlines(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "splitlines", args, {"keepends"});
  runtime.step_characters(self.view().size());
  return pieces(runtime, self, split_lines(self.view(), given.truth(0, false)));
}

template <bool kRight>
Value partition(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, kRight ? "rpartition" : "partition", args, {""}, 1);
  const std::string_view text = self.view();
  const std::string_view separator = given.text(0);
  if (separator.empty()) runtime.fail("empty separator");
  runtime.step_bytes(text.size());
  const std::size_t hit = kRight ? find_last(text, separator) : find_text(text, separator);
  const auto part = [&](std::string_view piece) {
    return text_like(runtime, self, std::string(piece));
  };
  if (hit == std::string_view::npos) {
    return kRight ? make_tuple(runtime, {part(""), part(""), self})
                  : make_tuple(runtime, {self, part(""), part("")});
  }
  return make_tuple(runtime, {part(text.substr(0, hit)), part(separator),
                              part(text.substr(hit + separator.size()))});
}

template <bool kLeft, bool kRight>
Value strip_chars(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "strip", args, {""});
  std::string_view chars;
  if (given.value(0) != nullptr) chars = given.text(0);
  return text_like(
      runtime, self,
      std::string(strip_set(runtime, self.view(), given.value(0) == nullptr ? nullptr : &chars,
                            kLeft, kRight)));
}

// The part of a text that optional start and end arguments leave, and where it begins.
struct Window {
  std::string_view text;
  std::int64_t first;
  bool valid;  // false when start is past the end
};

Window window(Runtime& runtime, const Value& self, const Arguments& given) {
  const std::int64_t size = length(runtime, self);
  if (!self.text().ascii) runtime.step_characters(self.view().size());
  const auto bound = [&](std::size_t index, std::int64_t fallback) {
    if (given.value(index) == nullptr) return fallback;
    const std::int64_t at = given.integer(index, 0);
    return at < 0 ? std::max<std::int64_t>(at < -size ? 0 : at + size, 0) : at;
  };
  const std::int64_t start = bound(1, 0);
  const std::int64_t end = std::min(bound(2, size), size);
  if (start > size || start > end) return {{}, start, false};
  const std::string_view text = self.view();
  const auto at = [&](std::int64_t index) {
    return self.text().ascii ? static_cast<std::size_t>(index)
                             : byte_of(text, static_cast<std::size_t>(index));
  };
  const std::size_t first = at(start);
  return {text.substr(first, at(end) - first), start, true};
}

template <bool kRight, bool kMustFind>
Value find(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, kMustFind ? "index" : "find", args, {"", "", ""}, 1);
  const std::string_view needle = given.text(0);
  const Window in = window(runtime, self, given);
  runtime.step_characters(in.text.size());
  const std::size_t hit = !in.valid ? std::string_view::npos
                          : kRight  ? find_last(in.text, needle)
                                    : find_text(in.text, needle);
  if (hit != std::string_view::npos) {
    return Value(in.first + static_cast<std::int64_t>(count_code_points(in.text.substr(0, hit))));
  }
  if (kMustFind) runtime.fail("substring not found");
  return Value(std::int64_t{-1});
}

Value count(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "count", args, {"", "", ""}, 1);
  const std::string_view needle = given.text(0);
  const Window in = window(runtime, self, given);
  if (!in.valid) return Value(std::int64_t{0});
  runtime.step_bytes(in.text.size());
  if (needle.empty()) return Value(static_cast<std::int64_t>(count_code_points(in.text)) + 1);
  std::int64_t found = 0;
  for (std::size_t at = 0; (at = find_text(in.text, needle, at)) != std::string_view::npos;) {
    runtime.step();
    ++found;
    at += needle.size();
  }
  return Value(found);
}

template <bool kEnd>
Value starts_or_ends(Runtime& runtime, const Value& self, const CallArguments& args) {
  const std::string_view name = kEnd ? "endswith" : "startswith";
  const Arguments given(runtime, name, args, {"", "", ""}, 1);
  const Window in = window(runtime, self, given);
  const auto matches = [&](const Value& affix) {
    if (!affix.is_string()) {
      runtime.fail("{} first arg must be str or a tuple of str, not {}", name, type_name(affix));
    }
    runtime.step_bytes(affix.view().size());
    return in.valid && (kEnd ? in.text.ends_with(affix.view()) : in.text.starts_with(affix.view()));
  };
  if (!given.at(0).is(Kind::kTuple)) return Value(matches(given.at(0)));
  for (const Value& affix : given.at(0).sequence().items) {
    if (matches(affix)) return Value(true);
  }
  return Value(false);
}

template <bool kEnd>
Value remove_affix(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, kEnd ? "removesuffix" : "removeprefix", args, {""}, 1);
  const std::string_view affix = given.text(0);
  std::string_view text = self.view();
  if (kEnd && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!kEnd && text.starts_with(affix)) text.remove_prefix(affix.size());
  return text_like(runtime, self, std::string(text));
}

Value replace(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "replace", args, {"", "", ""}, 2);
  return text_like(
      runtime, self,
      replace_text(runtime, self.view(), given.text(0), given.text(1), given.integer(2, -1)));
}

Value join(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "join", args, {""}, 1);
  std::string out;
  std::size_t index = 0;
  const bool markup = self.text().markup;
  for_each(runtime, given.at(0), [&](const Value& item) {
    if (!item.is_string()) {
      runtime.fail("sequence item {}: expected str instance, {} found", index, type_name(item));
    }
    if (index++ > 0) out += self.view();
    runtime.step_bytes(item.view().size() + self.view().size());
    out += markup && !item.text().markup ? escape_html(item.view()) : std::string(item.view());
    if (out.size() > runtime.limits().memory_bytes) {
      runtime.fail("the template holds more than {} bytes of values",
                   runtime.limits().memory_bytes);
    }
    return true;
  });
  return text_like(runtime, self, std::move(out));
}

template <std::string (*kMap)(std::string_view)>
Value mapped(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this method", args, {});
  runtime.step_characters(self.view().size());
  return text_like(runtime, self, kMap(self.view()));
}

enum class Side { kLeft, kRight, kBoth };

template <Side kSide>
Value justify(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "justification", args, {"", ""}, 1);
  const std::int64_t width = given.integer(0, 0);
  std::string_view fill = " ";
  if (given.get(1) != nullptr) fill = given.text(1);
  if (count_code_points(fill) != 1) {
    runtime.fail("The fill character must be exactly one character long");
  }
  const std::int64_t missing = width - length(runtime, self);
  if (missing <= 0) return self;
  if (static_cast<std::uint64_t>(missing) > runtime.limits().memory_bytes / 4) {
    runtime.fail("the template holds more than {} bytes of values", runtime.limits().memory_bytes);
  }
  runtime.step(1 + static_cast<std::size_t>(missing) / 16);
  // Python's own rule for the odd one in center().
  const std::int64_t left = kSide == Side::kLeft    ? 0
                            : kSide == Side::kRight ? missing
                                                    : missing / 2 + (missing & width & 1);
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) out += fill;
  out += self.view();
  for (std::int64_t i = left; i < missing; ++i) out += fill;
  return text_like(runtime, self, std::move(out));
}

Value zfill(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "zfill", args, {""}, 1);
  const std::int64_t missing = given.integer(0, 0) - length(runtime, self);
  if (missing <= 0) return self;
  if (static_cast<std::uint64_t>(missing) > runtime.limits().memory_bytes) {
    runtime.fail("the template holds more than {} bytes of values", runtime.limits().memory_bytes);
  }
  const std::string_view text = self.view();
  const std::size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  runtime.step_bytes(static_cast<std::size_t>(missing));
  std::string out(text.substr(0, sign));
  out.append(static_cast<std::size_t>(missing), '0');
  out += text.substr(sign);
  return text_like(runtime, self, std::move(out));
}

template <bool (*kHolds)(char32_t)>
Value every(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this method", args, {});
  const std::string_view text = self.view();
  runtime.step_characters(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (!kHolds(decode_next(text, at))) return Value(false);
  }
  return Value(!text.empty());
}

bool is_alphanumeric(char32_t c) {
  return is_alpha(c) || is_numeric(c);
}

Value is_ascii_text(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "isascii", args, {});
  return Value(self.text().ascii);
}

// Some character is cased as wanted and none is cased otherwise.
template <bool (*kWanted)(char32_t), bool (*kOther)(char32_t)>
Value all_cased(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this method", args, {});
  const std::string_view text = self.view();
  runtime.step_characters(text.size());
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = decode_next(text, at);
    if (kOther(c) || is_title(c)) return Value(false);
    any |= kWanted(c);
  }
  return Value(any);
}

Value is_title_text(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "istitle", args, {});
  const std::string_view text = self.view();
  runtime.step_characters(text.size());
  bool inside = false;
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = decode_next(text, at);
    const bool capital = is_upper(c) || is_title(c);
    const bool small = is_lower(c);
    if ((capital && inside) || (small && !inside)) return Value(false);
    inside = capital || small;
    any |= inside;
  }
  return Value(any);
}

Value format(Runtime& runtime, const Value& self, const CallArguments& args) {
  return text_like(runtime, self, format_fields(runtime, self.view(), args));
}

constexpr Method allowed(std::string_view name, Native call) {
  return {name, MethodRule::kAllowed, call};
}
constexpr Method unsupported(std::string_view name) {
  return {name, MethodRule::kUnsupported, nullptr};
}

constexpr Method kMethods[] = {
    allowed("capitalize", mapped<capitalize>),
    allowed("center", justify<Side::kBoth>),
    allowed("count", count),
    allowed("endswith", starts_or_ends<true>),
    allowed("find", find<false, false>),
    allowed("format", format),
    allowed("index", find<false, true>),
    allowed("isalnum", every<is_alphanumeric>),
    allowed("isalpha", every<is_alpha>),
    allowed("isascii", is_ascii_text),
    allowed("isdecimal", every<is_decimal>),
    allowed("isdigit", every<is_digit>),
    allowed("islower", all_cased<is_lower, is_upper>),
    allowed("isnumeric", every<is_numeric>),
    allowed("isspace", every<is_space>),
    allowed("istitle", is_title_text),
    allowed("isupper", all_cased<is_upper, is_lower>),
    allowed("join", join),
    allowed("ljust", justify<Side::kLeft>),
    allowed("lower", mapped<to_lower>),
    allowed("lstrip", strip_chars<true, false>),
    allowed("partition", partition<false>),
    allowed("removeprefix", remove_affix<false>),
    allowed("removesuffix", remove_affix<true>),
    allowed("replace", replace),
    allowed("rfind", find<true, false>),
    allowed("rindex", find<true, true>),
    allowed("rjust", justify<Side::kRight>),
    allowed("rpartition", partition<true>),
    allowed("rsplit", rsplit),
    allowed("rstrip", strip_chars<false, true>),
    allowed("split", split),
    allowed("splitlines", splitlines),
    allowed("startswith", starts_or_ends<false>),
    allowed("strip", strip_chars<true, true>),
    allowed("swapcase", mapped<swap_case>),
    allowed("title", mapped<to_title>),
    allowed("upper", mapped<to_upper>),
    allowed("zfill", zfill),
    unsupported("casefold"),
    unsupported("encode"),
    unsupported("expandtabs"),
    unsupported("format_map"),
    unsupported("isidentifier"),
    unsupported("isprintable"),
    unsupported("maketrans"),
    unsupported("translate"),
};

}  // namespace

const Method* find_string_method(std::string_view name) {
  const auto* found = std::find_if(std::begin(kMethods), std::end(kMethods),
                                   [&](const Method& method) { return method.name == name; });
  return found == std::end(kMethods) ? nullptr : found;
}

}  // namespace moeopt::jinja
