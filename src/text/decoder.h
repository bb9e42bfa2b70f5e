// The decoder of a tokenizer.json: from the texts of tokens to readable text, token by token.
// Invariant: what a stream has given so far is a prefix of what decoding all at once gives, and
// after finish() equal to it. Read are ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace and
// Sequence of these.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_field.h"

namespace moeopt {

class Decoder {
 public:
  // From the field "decoder"; absent: tokens are joined with spaces.
  explicit Decoder(const std::optional<JsonField>& field);
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  // What a stream takes for a token of text `token`: the result of the first steps, as far as they
  // look at one token alone, so that it can be computed once for each token of a vocabulary.
  std::string prepare(std::string_view token) const;

  // The bytes that a token adds to the text, from what prepare() made of it; white space that the
  // decoder cuts off the ends of a whole text counts too. Error(kUnsupported) when they depend on
  // the tokens before it.
  std::string bytes(std::string_view prepared) const;

  class Stream {
   public:
    explicit Stream(const Decoder& decoder);
    Stream(Stream&&) noexcept;
    Stream& operator=(Stream&&) noexcept;
    ~Stream();

    // Appends to `out` what became final with this token.
    void push(std::string_view prepared, std::string& out);
    // Appends the rest. Nothing is pushed afterwards.
    void finish(std::string& out);

   private:
    class Run;
    std::unique_ptr<Run> run_;
  };

 private:
  struct Steps;
  std::unique_ptr<const Steps> steps_;
};

}  // namespace moeopt
