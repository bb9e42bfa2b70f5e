#include "text/utf8.h"

#include <cstring>

namespace moeopt {
namespace {

// Of a sequence that begins with `lead`: its length and the allowed range of the second byte
// (Unicode 15, table 3-7). Length 0: no sequence begins so.
struct Sequence {
  std::uint8_t size_bytes;
  std::uint8_t second_low;
  std::uint8_t second_high;
};

Sequence sequence_of(std::uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead < 0xF0) {
    return {3, std::uint8_t(lead == 0xE0 ? 0xA0 : 0x80), std::uint8_t(lead == 0xED ? 0x9F : 0xBF)};
  }
  if (lead < 0xF5) {
    return {4, std::uint8_t(lead == 0xF0 ? 0x90 : 0x80), std::uint8_t(lead == 0xF4 ? 0x8F : 0xBF)};
  }
  return {0, 0, 0};
}

// How many bytes from text[at] belong to a well-formed beginning of `sequence` (at least 1).
std::size_t well_formed_bytes(std::string_view text, std::size_t at, const Sequence& sequence) {
  std::size_t count = 1;
  while (count < sequence.size_bytes && at + count < text.size()) {
    const auto byte = static_cast<std::uint8_t>(text[at + count]);
    const std::uint8_t low = count == 1 ? sequence.second_low : 0x80;
    const std::uint8_t high = count == 1 ? sequence.second_high : 0xBF;
    if (byte < low || byte > high) break;
    ++count;
  }
  return count;
}

}  // namespace

DecodedCharacter decode_utf8(std::string_view text, std::size_t at) {
  const auto lead = static_cast<std::uint8_t>(text[at]);
  if (lead < 0x80) return {lead, 1, true};
  const Sequence sequence = sequence_of(lead);
  const std::size_t count = well_formed_bytes(text, at, sequence);
  if (count != sequence.size_bytes) {
    return {kReplacementCharacter, static_cast<std::uint8_t>(count), false};
  }
  char32_t code_point = lead & (0xFFU >> (sequence.size_bytes + 1));
  for (std::size_t i = 1; i < count; ++i) {
    code_point = (code_point << 6) | (static_cast<std::uint8_t>(text[at + i]) & 0x3FU);
  }
  return {code_point, sequence.size_bytes, true};
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

bool is_valid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    std::uint64_t eight = 0;
    if (at + sizeof eight <= text.size()) {
      std::memcpy(&eight, text.data() + at, sizeof eight);
      if ((eight & 0x8080808080808080U) == 0) {  // all ASCII
        at += sizeof eight;
        continue;
      }
    }
    const DecodedCharacter character = decode_utf8(text, at);
    if (!character.valid) return false;
    at += character.size_bytes;
  }
  return true;
}

std::string repair_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCharacter character = decode_utf8(text, at);
    if (character.valid) {
      out.append(text, at, character.size_bytes);
    } else {
      append_utf8(out, kReplacementCharacter);
    }
    at += character.size_bytes;
  }
  return out;
}

std::size_t complete_utf8_prefix(std::string_view text) {
  const std::size_t first = text.size() < 3 ? 0 : text.size() - 3;
  for (std::size_t at = first; at < text.size(); ++at) {
    const Sequence sequence = sequence_of(static_cast<std::uint8_t>(text[at]));
    if (at + sequence.size_bytes <= text.size()) continue;
    if (at + well_formed_bytes(text, at, sequence) == text.size()) return at;
  }
  return text.size();
}

}  // namespace moeopt
