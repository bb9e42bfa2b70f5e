// Which characters are letters, numbers, punctuation: exactly as the `tokenizers` library sees it.
// Its parts follow different versions of Unicode (Oniguruma, Rust's standard library and two
// crates), so the tables are read off that library by tools/tokenizer_goldens/unicode_tables.py.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace moeopt {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

struct CategoryRange {
  char32_t first;
  char32_t last;
  char category[3];
};

// Members of Unicode 16's categories that Unicode 14 (PCRE2 10.42) did not have, ascending.
std::span<const CategoryRange> unicode_additions();
// Rust's char::is_numeric, what Punctuation splits off, and \w of `single_word`; ascending.
std::span<const CodePointRange> numeric_ranges();
std::span<const CodePointRange> punctuation_ranges();
std::span<const CodePointRange> word_ranges();
// What its NFC, of Unicode 9, neither orders nor composes though later versions do; ascending.
std::span<const CodePointRange> unnormalized_ranges();

// Whether `name` is a general category ("L", "Lu", ...) that regular expressions may name.
bool is_general_category(std::string_view name);

// The members of general category `name`, to stand within the brackets of a PCRE2 class.
std::string class_of_category(std::string_view name);

bool is_numeric(char32_t code_point);
bool is_punctuation(char32_t code_point);
bool is_white_space(char32_t code_point);
bool is_word_character(char32_t code_point);
bool is_unnormalized(char32_t code_point);

}  // namespace moeopt
