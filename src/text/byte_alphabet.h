// The byte-level alphabet of GPT-2: every byte as one printable character, so that vocabularies of
// byte sequences can be written as text. Invariant: the two directions are inverse.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moeopt {

// The character (UTF-8) that stands for `byte`.
std::string_view byte_level_character(std::uint8_t byte);

// The bytes that `token` stands for; nothing when a character of it is not in the alphabet.
std::optional<std::string> byte_level_bytes(std::string_view token);

}  // namespace moeopt
