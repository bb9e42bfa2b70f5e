#include "text/jinja/string_search.h"

#include <algorithm>

#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

// The byte of a line break's end when one starts at `at`, else `at`.
std::size_t after_break(std::string_view text, std::size_t at) {
  std::size_t next = at;
  if (!is_line_break(decode_next(text, next))) return at;
  return text[at] == '\r' && next < text.size() && text[next] == '\n' ? next + 1 : next;
}

std::vector<std::string_view> split_space(std::string_view text, std::int64_t limit) {
  std::vector<std::string_view> parts;
  std::string_view rest = strip_left(text);
  while (!rest.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit) {
      parts.push_back(rest);
      break;
    }
    std::size_t at = 0;
    std::size_t end = 0;
    while (at < rest.size()) {
      end = at;
      if (is_space(decode_next(rest, at))) break;
      end = at;
    }
    parts.push_back(rest.substr(0, end));
    rest = strip_left(rest.substr(end));
  }
  return parts;
}

std::vector<std::string_view> split_space_right(std::string_view text, std::int64_t limit) {
  std::vector<std::string_view> parts = split_space(text, -1);
  if (limit < 0 || static_cast<std::int64_t>(parts.size()) <= limit) return parts;
  // The first parts, the space between them and before them stay one.
  const std::size_t merged = parts.size() - static_cast<std::size_t>(limit);
  const char* first = text.data();
  const std::string_view& last = parts[merged - 1];
  const auto size = static_cast<std::size_t>(last.data() + last.size() - first);
  parts.erase(parts.begin() + 1, parts.begin() + static_cast<std::ptrdiff_t>(merged));
  parts.front() = std::string_view(first, size);
  return parts;
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator,
                                       std::int64_t limit) {
  std::vector<std::string_view> parts;
  std::size_t from = 0;
  while (limit < 0 || static_cast<std::int64_t>(parts.size()) < limit) {
    const std::size_t hit = find_text(text, separator, from);
    if (hit == std::string_view::npos) break;
    parts.push_back(text.substr(from, hit - from));
    from = hit + separator.size();
  }
  parts.push_back(text.substr(from));
  return parts;
}

}  // namespace

std::size_t find_last(std::string_view text, std::string_view needle) {
  if (needle.empty()) return text.size();
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const std::size_t hit = find_text(reversed_text, reversed_needle);
  return hit == std::string_view::npos ? hit : text.size() - hit - needle.size();
}

std::vector<std::string_view> split_text(std::string_view text,
                                         std::optional<std::string_view> separator,
                                         std::int64_t limit) {
  return separator ? split_at(text, *separator, limit) : split_space(text, limit);
}

std::vector<std::string_view> split_text_right(std::string_view text,
                                               std::optional<std::string_view> separator,
                                               std::int64_t limit) {
  if (!separator) return split_space_right(text, limit);
  if (limit < 0) {
    // Without a limit only overlapping matches tell the directions apart.
    limit = static_cast<std::int64_t>(text.size()) + 1;
  }
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_separator(separator->rbegin(), separator->rend());
  std::vector<std::string_view> parts;
  std::size_t end = text.size();
  for (const std::string_view part : split_at(reversed_text, reversed_separator, limit)) {
    parts.push_back(text.substr(end - part.size(), part.size()));
    end -= std::min(end, part.size() + separator->size());
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = after_break(text, at);
    if (end == at) {
      decode_next(text, at);
      continue;
    }
    lines.push_back(text.substr(start, (keep_ends ? end : at) - start));
    start = at = end;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string replace_text(Runtime& runtime, std::string_view text, std::string_view from,
                         std::string_view to, std::int64_t count) {
  runtime.step_bytes(text.size());
  std::string out;
  const auto put = [&](std::string_view piece) {
    if (out.size() + piece.size() > runtime.limits().memory_bytes) {
      runtime.fail("the template holds more than {} bytes of values",
                   runtime.limits().memory_bytes);
    }
    runtime.step_bytes(piece.size());
    out += piece;
  };
  std::size_t at = 0;
  while (count != 0) {
    const std::size_t hit = find_text(text, from, at);
    if (hit == std::string_view::npos) break;
    put(text.substr(at, hit - at));
    put(to);
    at = hit + from.size();
    --count;
    if (!from.empty()) continue;
    // Between every two characters, and at both ends.
    if (at == text.size()) return out;
    const std::size_t start = at;
    decode_next(text, at);
    put(text.substr(start, at - start));
  }
  put(text.substr(at));
  return out;
}

namespace {

bool in_set(const std::vector<char32_t>& set, char32_t c) {
  return std::find(set.begin(), set.end(), c) != set.end();
}

}  // namespace

std::string_view strip_set(Runtime& runtime, std::string_view text, const std::string_view* chars,
                           bool left, bool right) {
  runtime.step_bytes(text.size());
  if (chars == nullptr) {
    if (left) text = strip_left(text);
    return right ? strip_right(text) : text;
  }
  const std::vector<char32_t> set = to_code_points(*chars);
  while (left && !text.empty()) {
    std::size_t at = 0;
    runtime.step(1 + set.size() / 16);
    if (!in_set(set, decode_next(text, at))) break;
    text.remove_prefix(at);
  }
  while (right && !text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    std::size_t at = start;
    runtime.step(1 + set.size() / 16);
    if (!in_set(set, decode_next(text, at))) break;
    text = text.substr(0, start);
  }
  return text;
}

}  // namespace moeopt::jinja
