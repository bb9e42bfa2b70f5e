#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/check.h"
#include "text/utf8.h"

namespace moeopt {
namespace {

// Characters that are never changed by NFC, begin a new composition and take part in none with what
// stands before them: below the combining marks, kana, and the ideographs.
bool is_inert(char32_t c) {
  return c < 0x300 || (c >= 0x3041 && c <= 0x3096) || (c >= 0x30A1 && c <= 0x30FA) ||
         (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x1100 && c <= 0x1112);
}

int combining_class(utf8proc_int32_t c) {
  return utf8proc_get_property(c)->combining_class;
}

// Canonical decomposition of one segment, marks in canonical order, recomposed.
class Segment {
 public:
  void add(char32_t c) {
    std::array<utf8proc_int32_t, 32> parts{};
    int boundary = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(), parts.size(),
                                utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), &boundary);
    MOEOPT_CHECK(count >= 0);
    MOEOPT_CHECK(count <= 32);
    points_.insert(points_.end(), parts.begin(), parts.begin() + count);
  }

  void flush(std::string& out) {
    if (points_.empty()) return;
    // A stable sort of each run of marks: utf8proc's own ordering takes quadratic time.
    const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
    for (auto at = points_.begin(); at != points_.end();) {
      const auto run = std::find_if(at, points_.end(), is_mark);
      const auto end = std::find_if_not(run, points_.end(), is_mark);
      std::stable_sort(run, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
        return combining_class(a) < combining_class(b);
      });
      at = end;
    }
    const utf8proc_ssize_t count =
        utf8proc_normalize_utf32(points_.data(), static_cast<utf8proc_ssize_t>(points_.size()),
                                 utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      append_utf8(out, static_cast<char32_t>(points_[static_cast<std::size_t>(i)]));
    }
    points_.clear();
  }

 private:
  std::vector<utf8proc_int32_t> points_;
};

}  // namespace

bool normalize_nfc(std::string_view text, std::string& out) {
  const auto is_low = [](char byte) { return static_cast<unsigned char>(byte) < 0xCC; };
  if (std::all_of(text.begin(), text.end(), is_low)) return false;  // all below U+0300
  out.clear();
  out.reserve(text.size());
  Segment segment;
  // A character is held back until the next one: only an inert one leaves it as it is.
  char32_t held = 0;
  bool holding = false;
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCharacter character = decode_utf8(text, at);
    at += character.size_bytes;
    const bool inert = is_inert(character.code_point);
    if (inert) segment.flush(out);
    if (holding) {
      if (inert) {
        append_utf8(out, held);
      } else {
        segment.add(held);
      }
    }
    holding = inert;
    held = character.code_point;
    if (!inert) segment.add(character.code_point);
  }
  segment.flush(out);
  if (holding) append_utf8(out, held);
  return true;
}

}  // namespace moeopt
