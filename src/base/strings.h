// Small text helpers for messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt {

std::vector<std::string> split(std::string_view text, char separator);

// The candidate nearest to `word` by edit distance, or empty when none is within a third of its
// length (at least 2 edits).
std::string_view nearest_match(std::string_view word, std::span<const std::string_view> candidates);

// Outside text made safe to print in a message: control characters as \xNN, and at most about
// `limit` bytes, cut between UTF-8 characters and marked with "...".
std::string printable(std::string_view text, std::size_t limit = 160);

// "532 B", "1.50 GiB": binary units, three significant digits.
std::string format_bytes(std::uint64_t bytes);

// "30.5 B", "3.35 M": decimal units for counts of parameters.
std::string format_count(double count);

}  // namespace moeopt
