// Splitting, searching and replacing in a str, in time linear in the text.
// The views returned point into the text given.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/runtime.h"

namespace moeopt::jinja {

// The byte of the last occurrence, or npos.
std::size_t find_last(std::string_view text, std::string_view needle);

// str.split and str.rsplit: at most `limit` cuts, all when negative; without separator, at
// whitespace. The separator is not empty.
std::vector<std::string_view> split_text(std::string_view text,
                                         std::optional<std::string_view> separator,
                                         std::int64_t limit);
std::vector<std::string_view> split_text_right(std::string_view text,
                                               std::optional<std::string_view> separator,
                                               std::int64_t limit);

// str.splitlines.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

// str.replace; all when `count` is negative.
std::string replace_text(Runtime& runtime, std::string_view text, std::string_view from,
                         std::string_view to, std::int64_t count);

// str.strip and its sides; whitespace when `chars` is null.
std::string_view strip_set(Runtime& runtime, std::string_view text, const std::string_view* chars,
                           bool left, bool right);

}  // namespace moeopt::jinja
