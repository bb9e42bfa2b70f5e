// Broken, hostile and unsupported tokenizer.json files: one error that names file and field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "text/tokenizer_util.h"

namespace moeopt::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Json small() {
  return Json::parse(R"({"version": "1.0", "model": {"type": "BPE",
      "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}})");
}

struct Case {
  std::string name;
  std::string patch;  // RFC 7396 merge patch to small()
  ErrorCode code;
  std::vector<std::string> says;

  friend std::ostream& operator<<(std::ostream& out, const Case& value) {
    return out << value.name;
  }
};

class InvalidTokenizer : public ::testing::TestWithParam<Case> {};

TEST_P(InvalidTokenizer, IsRefusedByName) {
  Json json = small();
  json.merge_patch(Json::parse(GetParam().patch));
  const std::string message = refusal(json);
  EXPECT_THAT(message, HasSubstr("FILE"));
  for (const std::string& part : GetParam().says) EXPECT_THAT(message, HasSubstr(part));
  EXPECT_EQ(refusal_code(json), GetParam().code) << message;
}

constexpr ErrorCode kInvalid = ErrorCode::kInvalidData;
constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;

Case pre_tokenizer(std::string name, const std::string& json, ErrorCode code,
                   std::vector<std::string> says) {
  says.emplace_back("pre_tokenizer");
  return {std::move(name), R"({"pre_tokenizer": )" + json + "}", code, std::move(says)};
}

Case regex(std::string name, const std::string& pattern, ErrorCode code, std::string says) {
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  return pre_tokenizer(std::move(name), split.dump(), code, {"pattern.Regex", std::move(says)});
}

INSTANTIATE_TEST_SUITE_P(
    Files, InvalidTokenizer,
    ::testing::Values(
        Case{"version", R"({"version": "2.0"})", kUnsupported, {"version", "2.0"}},
        Case{"no_model", R"({"model": null})", kInvalid, {"model"}},
        Case{"model_type", R"({"model": {"type": "Unigram"}})", kUnsupported, {"Unigram"}},
        Case{"dropout", R"({"model": {"dropout": 0.1}})", kUnsupported, {"dropout"}},
        Case{"prefix",
             R"({"model": {"continuing_subword_prefix": "##"}})",
             kUnsupported,
             {"continuing_subword_prefix"}},
        Case{"suffix",
             R"({"model": {"end_of_word_suffix": "</w>"}})",
             kUnsupported,
             {"end_of_word_suffix"}},
        Case{"flag", R"({"model": {"byte_fallback": 1}})", kInvalid, {"byte_fallback"}},
        Case{"vocab_array", R"({"model": {"vocab": [1]}})", kInvalid, {"model.vocab"}},
        Case{"id_text", R"({"model": {"vocab": {"c": "3"}}})", kInvalid, {"vocab[\"c\"]"}},
        Case{"id_negative", R"({"model": {"vocab": {"c": -1}}})", kInvalid, {"vocab[\"c\"]"}},
        Case{"id_fraction", R"({"model": {"vocab": {"c": 1.5}}})", kInvalid, {"vocab[\"c\"]"}},
        Case{"id_huge", R"({"model": {"vocab": {"c": 4000000000}}})", kInvalid, {"4000000000"}},
        Case{"id_sparse", R"({"model": {"vocab": {"c": 4000000}}})", kInvalid, {"4000000"}},
        Case{"id_64_bits",
             R"({"model": {"vocab": {"c": 18446744073709551615}}})",
             kInvalid,
             {"vocab[\"c\"]"}},
        Case{"id_twice", R"({"model": {"vocab": {"c": 1}}})", kInvalid, {"id 1", "\"b\"", "\"c\""}},
        Case{"merge_unknown",
             R"({"model": {"merges": [["a", "x"]]}})",
             kInvalid,
             {"merges[0]", "\"x\""}},
        Case{"merge_result",
             R"({"model": {"merges": [["b", "a"]]}})",
             kInvalid,
             {"merges[0]", "\"ba\""}},
        Case{"merge_three", R"({"model": {"merges": ["a b c"]}})", kInvalid, {"merges[0]"}},
        Case{"merge_number", R"({"model": {"merges": [7]}})", kInvalid, {"merges[0]"}},
        Case{"normalizer",
             R"({"normalizer": {"type": "Lowercase"}})",
             kUnsupported,
             {"normalizer", "Lowercase"}},
        Case{"nested_normalizer",
             R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Nmt"}]}})",
             kUnsupported,
             {"normalizer.normalizers[0]", "Nmt"}},
        Case{"empty_replace",
             R"({"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x"}})",
             kUnsupported,
             {"normalizer.pattern"}},
        Case{"post_processor",
             R"({"post_processor": {"type": "BertProcessing"}})",
             kUnsupported,
             {"post_processor", "BertProcessing"}},
        Case{"template_id",
             R"({"post_processor": {"type": "TemplateProcessing", "special_tokens":
                 {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}},
                 "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}]}})",
             kInvalid,
             {"special_tokens.<s>.ids[0]"}},
        Case{"template_missing",
             R"({"post_processor": {"type": "TemplateProcessing", "special_tokens": {},
                 "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}]}})",
             kInvalid,
             {"special_tokens", "<s>"}},
        Case{"template_pair",
             R"({"post_processor": {"type": "TemplateProcessing", "special_tokens": {},
                 "single": [{"Sequence": {"id": "B", "type_id": 0}}]}})",
             kUnsupported,
             {"single[0].Sequence.id"}},
        Case{"decoder", R"({"decoder": {"type": "CTC"}})", kUnsupported, {"decoder", "CTC"}},
        Case{"decoder_order",
             R"({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"},
                 {"type": "ByteFallback"}]}})",
             kUnsupported,
             {"decoders[1]", "ByteFallback"}},
        Case{"strip",
             R"({"decoder": {"type": "Strip", "content": "ab", "start": 1, "stop": 0}})",
             kInvalid,
             {"decoder.content"}},
        Case{"added",
             R"({"added_tokens": [{"content": 3}]})",
             kInvalid,
             {"added_tokens[0].content"}},
        Case{"added_object", R"({"added_tokens": {}})", kInvalid, {"added_tokens"}}),
    [](const auto& instance) { return instance.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Splits, InvalidTokenizer,
    ::testing::Values(
        pre_tokenizer("kind", R"({"type": "BertPreTokenizer"})", kUnsupported,
                      {"BertPreTokenizer"}),
        pre_tokenizer("order",
                      R"({"type": "Sequence", "pretokenizers": [
                          {"type": "ByteLevel", "add_prefix_space": false},
                          {"type": "Digits"}]})",
                      kUnsupported, {"pretokenizers[1]", "Digits"}),
        pre_tokenizer("behavior",
                      R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd"})",
                      kUnsupported, {"behavior", "Odd"}),
        pre_tokenizer("mark", R"({"type": "Metaspace", "replacement": "ab"})", kInvalid,
                      {"replacement"}),
        regex("backreference", R"((a)\1)", kUnsupported, R"(\1)"),
        regex("recursion", R"((a(?R)?b))", kUnsupported, "group"),
        regex("verb", "(*LIMIT_MATCH=1)a", kUnsupported, "group"),
        regex("inline_flags", "(?s).", kUnsupported, "group"),
        regex("word_boundary", R"(\ba)", kUnsupported, R"(\b)"),
        regex("hex_digit", R"(\h)", kUnsupported, R"(\h)"),
        regex("nested_class", "[a[b]]", kUnsupported, "class within a class"),
        regex("intersection", "[a&&b]", kUnsupported, "intersection"),
        regex("property", R"(\p{Emoji})", kUnsupported, "Emoji"),
        regex("double_repeat", "a{2}+", kUnsupported, "repetition"),
        regex("huge_repeat", "a{100000}", kUnsupported, "interval"),
        regex("unbalanced", "(a", kInvalid, "regular expression"),
        regex("open_class", "[a", kUnsupported, "class without end"),
        regex("too_large", "(?:(?:a{1000}){1000}){1000}", kInvalid, "regular expression"),
        regex("too_deep", std::string(5000, '(') + std::string(5000, ')'), kInvalid,
              "regular expression")),
    [](const auto& instance) { return instance.param.name; });

TEST(InvalidTokenizerText, NamesTheFile) {
  EXPECT_THROW(Tokenizer::from_json("{", "FILE"), Error);
  EXPECT_THROW(Tokenizer::from_json("[]", "FILE"), Error);
  EXPECT_THROW(Tokenizer::from_json(R"({"model": {"vocab": {"a": 0, "a": 1}, "merges": []}})", "F"),
               Error);
  try {
    Tokenizer::from_file("/nonexistent/tokenizer.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent/tokenizer.json"));
  }
}

TEST(InvalidTokenizerText, SmallOneIsNotRefused) {
  EXPECT_EQ(refusal(small()), "");
}

TEST(InvalidTokenizerText, UnknownTokenOutsideTheVocabularyIsAnErrorOnUse) {
  Json json = small();
  json["model"]["unk_token"] = "<unk>";
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "FILE");
  EXPECT_EQ(tokenizer.encode("ab", false), std::vector<std::int32_t>{2});
  try {
    tokenizer.encode("abc", false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("FILE: "), HasSubstr("unk_token")));
  }
}

}  // namespace
}  // namespace moeopt::testing
