// UTF-8: the one decoder of src/text, and the repair of text that is not valid UTF-8.
// Invariant: everything behind these functions sees valid UTF-8 alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moeopt {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

struct DecodedCharacter {
  char32_t code_point = kReplacementCharacter;
  std::uint8_t size_bytes = 0;  // bytes taken: a maximal ill-formed part counts as one character
  bool valid = false;
};

// The character at `text[at]`, at < text.size(). An ill-formed sequence gives U+FFFD for its
// maximal subpart (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts").
DecodedCharacter decode_utf8(std::string_view text, std::size_t at);

void append_utf8(std::string& out, char32_t code_point);

bool is_valid_utf8(std::string_view text);

// A copy of `text` with every maximal ill-formed subpart replaced by U+FFFD.
std::string repair_utf8(std::string_view text);

// The length of the longest prefix of `text` that does not end within a character whose remaining
// bytes could still follow.
std::size_t complete_utf8_prefix(std::string_view text);

}  // namespace moeopt
