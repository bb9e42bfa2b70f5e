#include "text/byte_alphabet.h"

#include <array>

#include "text/utf8.h"

namespace moeopt {
namespace {

constexpr char32_t kAlphabetEnd = 256 + 68;  // 68 bytes are not printable as Latin-1

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<std::int16_t, kAlphabetEnd> bytes{};

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
      append_utf8(characters[static_cast<std::size_t>(byte)], character);
      bytes[character] = static_cast<std::int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string_view byte_level_character(std::uint8_t byte) {
  return alphabet().characters[byte];
}

std::optional<std::string> byte_level_bytes(std::string_view token) {
  std::string out;
  for (std::size_t at = 0; at < token.size();) {
    const DecodedCharacter character = decode_utf8(token, at);
    if (character.code_point >= kAlphabetEnd) return std::nullopt;
    const std::int16_t byte = alphabet().bytes[character.code_point];
    if (byte < 0) return std::nullopt;
    out.push_back(static_cast<char>(byte));
    at += character.size_bytes;
  }
  return out;
}

}  // namespace moeopt
