// Text as Python sees it, a sequence of code points, kept as UTF-8.
// Invariant: memory-safe on any bytes (an invalid byte counts as one code point); the results are
// Python's on valid UTF-8, which is what lexer and inputs let in.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt::jinja {

bool is_ascii(std::string_view text);
// Strict: no overlong forms, no surrogates.
bool is_valid_utf8(std::string_view text);

// The code point at `at`, which moves past it.
char32_t decode_next(std::string_view text, std::size_t& at);
void append_utf8(std::string& out, char32_t code_point);

std::size_t count_code_points(std::string_view text);
// The byte where code point `index` starts; text.size() when there are fewer.
std::size_t byte_of(std::string_view text, std::size_t index);
std::vector<char32_t> to_code_points(std::string_view text);

bool is_space(char32_t code_point);       // str.isspace
bool is_line_break(char32_t code_point);  // str.splitlines
bool is_printable(char32_t code_point);   // str.isprintable
bool is_upper(char32_t code_point);
bool is_lower(char32_t code_point);
bool is_title(char32_t code_point);
bool is_alpha(char32_t code_point);
bool is_decimal(char32_t code_point);
bool is_digit(char32_t code_point);    // str.isdigit
bool is_numeric(char32_t code_point);  // str.isnumeric

// With the full case mappings, as "ß" to "SS".
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string capitalize(std::string_view text);  // str.capitalize
std::string to_title(std::string_view text);    // str.title
std::string swap_case(std::string_view text);   // str.swapcase

std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
std::string_view strip(std::string_view text);

}  // namespace moeopt::jinja
