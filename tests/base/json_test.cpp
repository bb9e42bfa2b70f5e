#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"

namespace moeopt {
namespace {

std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
  try {
    parse_json(text, "doc.json", limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
    EXPECT_THAT(error.what(), testing::StartsWith("doc.json: "));
    EXPECT_LT(std::string_view(error.what()).size(), 400u);
    return error.what();
  }
  return "accepted";
}

std::string nested(int depth) {
  return std::string(static_cast<std::size_t>(depth), '[') +
         std::string(static_cast<std::size_t>(depth), ']');
}

TEST(ParseJson, ReadsEveryKindOfValue) {
  const Json json = parse_json(
      R"( {"a": [1, -2, 0.5, 1e3, true, false, null, "\u00e9\ud83d\ude00"], "b": {"a": {}}} )",
      "doc.json");
  EXPECT_EQ(json["a"].size(), 8u);
  EXPECT_TRUE(json["a"][0].is_number_unsigned());
  EXPECT_EQ(json["a"][1], -2);
  EXPECT_EQ(json["a"][3], 1000.0);
  EXPECT_EQ(json["a"][6], nullptr);
  EXPECT_EQ(json["a"][7], "\xc3\xa9\xf0\x9f\x98\x80");
  EXPECT_TRUE(json["b"]["a"].empty());
  EXPECT_EQ(parse_json("7", "doc.json"), 7);
  EXPECT_EQ(parse_json("\"s\"", "doc.json"), "s");
  EXPECT_EQ(parse_json("18446744073709551615", "doc.json").get<std::uint64_t>(), ~std::uint64_t{0});
}

TEST(ParseJson, HoldsItsLimitsToTheUnit) {
  JsonLimits limits;
  limits.depth = 5;
  EXPECT_EQ(refusal(nested(5), limits), "accepted");
  EXPECT_THAT(refusal(nested(6), limits), testing::HasSubstr("deeper than 5"));
  EXPECT_THAT(refusal(R"({"a":{"a":{"a":{"a":{"a":{}}}}}})", limits),
              testing::HasSubstr("deeper than 5"));

  limits = {};
  limits.nodes = 4;
  EXPECT_EQ(refusal("[1,{},3]", limits), "accepted");
  EXPECT_THAT(refusal("[1,{},3,4]", limits), testing::HasSubstr("more than 4"));
  EXPECT_THAT(refusal("[1,{\"a\":1},3]", limits), testing::HasSubstr("more than 4"));

  limits = {};
  limits.bytes = 4;
  EXPECT_EQ(refusal("[12]", limits), "accepted");
  EXPECT_THAT(refusal("[123]", limits), testing::HasSubstr("5 bytes of JSON, the limit is 4"));
}

TEST(ParseJson, SurvivesADeepDocument) {
  EXPECT_THAT(refusal(std::string(10'000'000, '[')), testing::HasSubstr("deeper than 64"));
}

TEST(ParseJson, RefusesDuplicateKeysAtEveryDepth) {
  EXPECT_THAT(refusal(R"({"a":1,"a":1})"), testing::HasSubstr("duplicate key \"a\""));
  EXPECT_THAT(refusal(R"([{"b":{"c":1,"d":{},"c":2}}])"),
              testing::HasSubstr("duplicate key \"c\""));
  EXPECT_THAT(refusal(R"({"a":1,"\u0061":2})"), testing::HasSubstr("duplicate key \"a\""));
  EXPECT_THAT(refusal(R"({"":1,"":2})"), testing::HasSubstr("duplicate key \"\""));
  EXPECT_THAT(refusal(R"({"\u001b":1,"\u001b":2})"), testing::HasSubstr("duplicate key \"\\x1b\""));
  EXPECT_EQ(refusal(R"([{"a":1},{"a":{"a":2}}])"), "accepted");
}

TEST(ParseJson, RefusesWhatIsNotJson) {
  const std::vector<std::string> texts = {
      "",
      " ",
      "{",
      "}",
      "[1,]",
      "{\"a\":1,}",
      "{a:1}",
      "{'a':1}",
      "[1 2]",
      "[1][2]",
      "1 2",
      "// comment\n1",
      "[/**/]",
      "nul",
      "NaN",
      "[Infinity]",
      "[-Infinity]",
      "01",
      "+1",
      ".5",
      "1.",
      "0x10",
      "\"open",
      "\"tab\there\"",
      "\"\\x41\"",
      R"("\ud800")",
      R"("\udc00\ud800")",
      "\"\xff\"",
      "\"\xc0\xaf\"",          // '/' in two bytes
      "\"\xed\xa0\x80\"",      // a surrogate in UTF-8
      "\"\xf5\x80\x80\x80\"",  // above U+10FFFF
  };
  for (const std::string& text : texts) {
    EXPECT_THAT(refusal(text), testing::HasSubstr("not valid JSON at byte")) << text;
  }
}

TEST(ParseJson, RefusesNumbersOutOfRange) {
  for (const char* number : {"1e400", "-1e400", "[1, 1e999999999]"}) {
    EXPECT_THAT(refusal(number), testing::HasSubstr("not valid JSON at byte")) << number;
  }
  EXPECT_EQ(refusal("1e-400"), "accepted");
}

TEST(ParseJson, ANulByteEndsNothing) {
  for (const std::string& text : {std::string("{}\0", 3), std::string("{}\0 {\"a\":", 9),
                                  std::string("\0{}", 3), std::string("\"a\0b\"", 5)}) {
    EXPECT_THAT(refusal(text), testing::HasSubstr("NUL"));
  }
}

TEST(ParseJson, LongTextsAreCutInMessages) {
  refusal("[\"" + std::string(1'000'000, 'x'));
  refusal("{\"" + std::string(100'000, 'k') + "\":1,\"" + std::string(100'000, 'k') + "\":2}");
}

TEST(ParseJsonFile, NamesTheFile) {
  const std::filesystem::path file =
      std::filesystem::path(testing::TempDir()) / "moeopt_json_test.json";
  std::ofstream(file) << "{\"a\":";
  try {
    parse_json_file(file);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
    EXPECT_THAT(error.what(), testing::StartsWith(file.string() + ": "));
  }
  std::ofstream(file) << "{\"a\":1}";
  EXPECT_EQ(parse_json_file(file)["a"], 1);
  std::filesystem::remove(file);
  try {
    parse_json_file(file);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  }
}

// Writes down what it is told.
class Recorder final : public JsonEvents {
 public:
  bool null() override { return say("null"); }
  bool boolean(bool value) override { return say(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return say(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return say(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return say(text); }
  bool string(string_t& value) override { return say(value); }
  bool binary(binary_t&) override { return say("binary"); }
  bool start_object(std::size_t) override { return say("{"); }
  bool key(string_t& name) override { return say(name + ":"); }
  bool end_object() override { return say("}"); }
  bool start_array(std::size_t) override { return say("["); }
  bool end_array() override { return say("]"); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return say("error");
  }

  std::string heard;

 private:
  bool say(const std::string& text) {
    heard += text + " ";
    return true;
  }
};

TEST(OrderedJson, KeepsTheOrderOfKeysAndRefusesDuplicates) {
  const OrderedJson tree =
      parse_ordered_json(R"({"z":1,"a":{"y":[2],"b":3},"m":null})", "doc.json");
  EXPECT_EQ(tree.dump(), R"({"z":1,"a":{"y":[2],"b":3},"m":null})");
  EXPECT_THROW(parse_ordered_json(R"({"z":1,"a":2,"z":3})", "doc.json"), Error);
  EXPECT_EQ(parse_ordered_json(R"([{"a":1},{"a":2}])", "doc.json").size(), 2u);
}

TEST(StreamJson, TellsEverythingInOrder) {
  Recorder recorder;
  stream_json(R"({"a":[1,-2,0.5,true,null,"s"],"a":{}})", "doc.json", recorder);
  EXPECT_EQ(recorder.heard, "{ a: [ 1 -2 0.5 true null s ] a: { } } ");
}

TEST(StreamJson, HoldsTheSameLimits) {
  Recorder recorder;
  JsonLimits limits;
  limits.depth = 2;
  EXPECT_THROW(stream_json("[[[]]]", "doc.json", recorder, limits), Error);
  EXPECT_EQ(recorder.heard, "[ [ ");
  EXPECT_THROW(stream_json("[1", "doc.json", recorder), Error);
  EXPECT_THAT(recorder.heard, testing::Not(testing::HasSubstr("error")));
}

}  // namespace
}  // namespace moeopt
