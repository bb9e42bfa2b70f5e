// Any bytes as a chat template and its inputs, a NUL between the two: an Error or a text, within
// the limits, whatever they are.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "text/chat_template.h"

namespace {

constexpr std::string_view kInputs = R"({"messages": [
  {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße\n"},
  {"role": "assistant", "content": null, "tool_calls": [
    {"id": "1", "function": {"name": "f", "arguments": {"z": 1, "a": [1.5, true]}}}]},
  {"role": "tool", "content": "ok"}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
  "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr moeopt::RenderLimits kLimits = {.steps = 20'000,
                                            .output_bytes = std::size_t{1} << 18,
                                            .memory_bytes = std::size_t{1} << 21,
                                            .depth = 300};
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t split = all.find('\0');
  const std::string_view inputs = split == all.npos ? kInputs : all.substr(split + 1);
  try {
    const auto chat = moeopt::ChatTemplate::parse(all.substr(0, split), "t");
    chat.render(moeopt::parse_ordered_json(inputs, "inputs"), kLimits);
  } catch (const moeopt::Error&) {
  }
  return 0;
}
