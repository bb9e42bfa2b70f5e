// Token ids to text while they are generated.
// Invariant: the texts returned, put together, are Tokenizer::decode of the same ids; each is whole
// characters.
#pragma once

#include <cstdint>
#include <string>

#include "text/decoder.h"
#include "text/tokenizer.h"

namespace moeopt {

class StreamDecoder {
 public:
  // `tokenizer` must outlive it.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);

  // The text that is final with this token and was not returned before.
  std::string push(std::int32_t id);
  // The rest: what waited for bytes that did not come. Nothing is pushed afterwards.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  Decoder::Stream stream_;
};

}  // namespace moeopt
