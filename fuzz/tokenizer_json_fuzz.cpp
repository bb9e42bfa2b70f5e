// tokenizer.json files: whatever the bytes, an Error or a tokenizer that encodes and decodes, in
// bounded time. The first byte chooses a text to try it on.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace {

constexpr std::string_view kTexts[] = {
    "The quick brown fox, 1234!\n\n  it's  ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
    "\xE4\xBD\xA0\xE5\xA5\xBD e\xCC\x81\xCC\xA3 \xF0\x9F\x91\x8D\xFF\xE2\x82 <s></s><|im_end|>",
};

void try_out(const moeopt::Tokenizer& tokenizer, std::string_view text, bool names_unknown) {
  const auto ids = tokenizer.encode(text, true);
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= tokenizer.vocab_size()) __builtin_trap();
  }
  std::string streamed;
  moeopt::StreamDecoder decoder(tokenizer, false);
  for (const std::int32_t id : ids) streamed += decoder.push(id);
  streamed += decoder.finish();
  if (streamed != tokenizer.decode(ids, false)) __builtin_trap();
  for (const std::int32_t id : tokenizer.encode(text, false, false)) {
    // No special token comes out of plain text, but for one that stands for the unknown.
    if (tokenizer.is_special(id) && !names_unknown) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size_bytes) {
  if (size_bytes == 0) return 0;
  const std::string_view json(reinterpret_cast<const char*>(data) + 1, size_bytes - 1);
  try {
    const auto tokenizer = moeopt::Tokenizer::from_json(json, "fuzz");
    const bool names_unknown = json.find("unk") != std::string_view::npos;
    try_out(tokenizer, kTexts[data[0] % std::size(kTexts)], names_unknown);
  } catch (const moeopt::Error&) {
  }
  return 0;
}
