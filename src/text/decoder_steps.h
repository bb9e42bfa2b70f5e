// Parts of decoding that keep a state between tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/utf8.h"

namespace moeopt {

// Cuts up to `start` characters `content` off the beginning and up to `stop` off the end; of each
// token, or where `fused` of the whole text.
struct StripRule {
  std::string content;
  std::size_t start = 0;
  std::size_t stop = 0;
  bool fused = false;
};

std::string strip_token(const StripRule& rule, std::string_view token);

// A StripRule over a text that comes in parts.
class FusedStrip {
 public:
  // What of the text so far is certain to stay and was not returned before.
  std::string push(const StripRule& rule, std::string_view part);

 private:
  std::size_t cut_ = 0;   // characters cut off the beginning
  bool begun_ = false;    // a character that stays was seen
  std::size_t held_ = 0;  // characters `content` at the end, held back
};

// Tokens such as "<0xE4>" in a row: together they are UTF-8, or each is one U+FFFD.
class ByteRun {
 public:
  // Whether `token` is a byte; then it joins the run.
  bool take(std::string_view token);
  const std::string& bytes() const { return bytes_; }

  // Ends the run and calls `emit(text)` for each token that it makes.
  template <typename Emit>
  void flush(Emit&& emit) {
    if (bytes_.empty()) return;
    const std::string bytes = std::move(bytes_);
    bytes_.clear();
    if (is_valid_utf8(bytes)) return emit(bytes);
    for (std::size_t i = 0; i < bytes.size(); ++i) emit("\xEF\xBF\xBD");
  }

 private:
  std::string bytes_;
};

}  // namespace moeopt
