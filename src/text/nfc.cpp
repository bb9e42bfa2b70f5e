#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/check.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace moeopt {
namespace {

// Characters that NFC never changes and that take part in no composition with what stands before
// them: all below the combining marks, kana, leading jamo, the ideographs.
bool begins_anew(char32_t c) {
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
  // A character that begins anew is held back: what follows decides whether it stays as it is.
  std::string_view held;
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCharacter character = decode_utf8(text, at);
    const std::string_view bytes = text.substr(at, character.size_bytes);
    at += character.size_bytes;
    const bool anew = begins_anew(character.code_point);
    if (anew || is_unnormalized(character.code_point)) {
      segment.flush(out);
      out += std::exchange(held, bytes);
      if (!anew) out += std::exchange(held, {});
    } else {
      if (!held.empty()) segment.add(decode_utf8(std::exchange(held, {}), 0).code_point);
      segment.add(character.code_point);
    }
  }
  segment.flush(out);
  out += held;
  return true;
}

}  // namespace moeopt
