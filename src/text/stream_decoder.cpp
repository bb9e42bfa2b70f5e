#include "text/stream_decoder.h"

namespace moeopt {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special), stream_(tokenizer.decoder()) {}

std::string StreamDecoder::push(std::int32_t id) {
  std::string out;
  if (const auto input = tokenizer_.decoder_input(id, skip_special_)) stream_.push(*input, out);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out;
  stream_.finish(out);
  return out;
}

}  // namespace moeopt
