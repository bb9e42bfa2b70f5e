// TextOutput: turns a sequence's ids into text that can be shown: whole characters, nothing that
// could still become part of a stop string.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/stop_matcher.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace moeopt {

class TextOutput {
 public:
  TextOutput(const Tokenizer& tokenizer, bool skip_special, std::vector<std::string> stop);

  struct Piece {
    std::string text;
    bool stopped = false;  // a stop string was completed; the text ends before it
  };
  Piece push(std::int32_t id);
  // What was held back, at the end of the sequence.
  Piece finish();

 private:
  StreamDecoder decoder_;
  StopMatcher stop_;
};

}  // namespace moeopt
