#include "text/tokenizer_util.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "base/file.h"

namespace moeopt::testing {
namespace {

std::string bytes_of_hexadecimal(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += 2) {
    out.push_back(static_cast<char>(std::stoi(text.substr(at, 2), nullptr, 16)));
  }
  return out;
}

std::string text_of(const Json& entry) {
  if (entry.is_string()) return entry;
  if (entry.contains("bytes")) return bytes_of_hexadecimal(entry["bytes"]);
  std::string out;
  for (int i = 0; i < entry["count"].get<int>(); ++i) out += entry["repeat"].get<std::string>();
  return out;
}

}  // namespace

const std::vector<std::string>& tokenizer_families() {
  static const std::vector<std::string> names = {
      "qwen2",   "llama3",      "deepseek_v2",  "deepseek_v3", "gpt2",
      "mixtral", "mixtral_new", "across_words", "metaspace",   "mixed"};
  return names;
}

std::string tokenizer_path(std::string_view name) {
  return fmt::format("{}/tests/text/data/tokenizer/{}.json", MOEOPT_SOURCE_DIR, name);
}

const Tokenizer& shared_tokenizer(const std::string& family) {
  static std::map<std::string, Tokenizer> loaded;
  const auto found = loaded.find(family);
  if (found != loaded.end()) return found->second;
  return loaded.emplace(family, Tokenizer::from_file(tokenizer_path(family))).first->second;
}

Json tokenizer_json(const std::string& family) {
  return parse_json_file(tokenizer_path(family));
}

Json tokenizer_golden(const std::string& family) {
  return parse_json_file(tokenizer_path(family + ".golden"));
}

const std::vector<std::string>& tokenizer_texts() {
  static const std::vector<std::string> texts = [] {
    std::vector<std::string> out;
    for (const Json& entry : parse_json_file(tokenizer_path("texts"))) {
      out.push_back(text_of(entry));
    }
    return out;
  }();
  return texts;
}

EncodeMode encode_mode(std::size_t index) {
  return {index % 2 == 1, index % 3 != 2};
}

std::string digest(std::span<const std::int32_t> ids, std::string_view decoded,
                   std::string_view skipped) {
  const std::string text = fmt::format("{}|{}|{}", fmt::join(ids, ","), decoded, skipped);
  std::uint64_t value = 0xCBF29CE484222325U;  // FNV-1a
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return fmt::format("{:016x}", value);
}

std::string refusal(const Json& json) {
  try {
    Tokenizer::from_json(json.dump(), "FILE");
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

ErrorCode refusal_code(const Json& json) {
  try {
    Tokenizer::from_json(json.dump(), "FILE");
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "not refused: " << json.dump().substr(0, 200);
  return ErrorCode::kInternal;
}

}  // namespace moeopt::testing
