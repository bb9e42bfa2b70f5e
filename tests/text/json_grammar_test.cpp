// JSON grammars: what is written is valid, what is valid can be written, hostile schemas end early.
#include "text/grammar/json_grammar.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/grammar_util.h"

namespace moeopt::testing {
namespace {

Schema parse(std::string_view text) {
  return Schema::parse(text);
}

std::string refused(const Schema& schema, ErrorCode code) {
  try {
    grammar_of(schema);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << schema.dump().substr(0, 300);
  return {};
}

TEST(JsonGrammar, RandomTokensOfRandomSchemasMakeValidValues) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    Random random(seed);
    const Schema schema = random_schema(random);
    SCOPED_TRACE(schema.dump());
    const auto grammar = grammar_of(schema);
    for (int i = 0; i < 3; ++i) {
      const std::string text = sample(*grammar, random);
      const Schema value = Schema::parse(text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << text;
      EXPECT_TRUE(is_valid(value, schema, schema)) << text;
    }
    if (HasFailure()) return;
  }
}

TEST(JsonGrammar, EverySpellingOfAValueIsAllowedInEveryTokenisation) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    Random random(seed);
    const Schema schema = random_schema(random);
    SCOPED_TRACE(schema.dump());
    const auto grammar = grammar_of(schema);
    const bool has_fixed_values = schema.dump().find("enum") != std::string::npos ||
                                  schema.dump().find("const") != std::string::npos;
    for (int i = 0; i < 4; ++i) {
      const Schema value = random_value(schema, schema, random);
      ASSERT_TRUE(is_valid(value, schema, schema)) << value;
      const std::string text = random_spelling(value, random, has_fixed_values);
      EXPECT_TRUE(fits(*grammar, text, seed)) << text;
    }
    if (HasFailure()) return;
  }
}

TEST(JsonGrammar, EndsOnlyWhenComplete) {
  const auto grammar = grammar_of({{"type", "integer"}});
  Follower follower(*grammar);
  EXPECT_FALSE(follower.complete());
  EXPECT_FALSE(follower.allows(byte_vocabulary().end_id));
  follower.accept('-');
  EXPECT_FALSE(follower.complete());
  follower.accept('1');
  EXPECT_TRUE(follower.complete());
  EXPECT_TRUE(follower.allows('2'));
  EXPECT_TRUE(follower.allows(byte_vocabulary().end_id));
  follower.accept(byte_vocabulary().end_id);
  EXPECT_TRUE(follower.complete());
  EXPECT_EQ(follower.allowed(), std::vector<std::int32_t>{byte_vocabulary().end_id});
}

TEST(JsonGrammar, AnObjectIsAnObject) {
  const auto grammar = grammar_of({{"type", "object"}});
  EXPECT_TRUE(
      fits(*grammar, R"({"a": [1, -2.5e-3, "x\u00e9\ud83d\ude00", {"b": null}], "c": true})"));
  EXPECT_TRUE(fits(*grammar, "\n\n{ }"));
  EXPECT_FALSE(fits(*grammar, "\n\n\n{}"));
  for (const char* text : {"[]",
                           "1",
                           "\"a\"",
                           "{\"a\"}",
                           "{\"a\":1,}",
                           "{,}",
                           "{\"a\":01}",
                           "{\"a\":.5}",
                           "{\"a\":\"\\ud83d\"}",
                           "{\"a\":\"\\ude00\"}",
                           "{\"a\":\"\x01\"}",
                           "{\"a\":1e400}",
                           "{\"a\":\"\xC0\x80\"}",
                           "{\"a\":\"\xED\xA0\x80\"}",
                           "{\"a\":1}}",
                           "{\"a\":tru}",
                           "{   \"a\":1}",
                           "{\n\n\"a\":1}",
                           "{\"a\":[1 2]}",
                           "{\"a\":\"\\x\"}"}) {
    EXPECT_FALSE(fits(*grammar, text)) << text;
  }
}

TEST(JsonGrammar, MembersComeInTheirOrder) {
  const auto grammar = grammar_of(parse(R"({"type":"object","properties":{"a":{},"b":{},"c":{}},
    "required":["b"],"additionalProperties":{"type":"integer"}})"));
  for (const char* text :
       {R"({"b":1})", R"({"a":1,"b":"x"})", R"({"b":1,"c":2})", R"({"b":1,"d":4,"e":5})",
        R"({"a":1,"b":2,"c":3,"aa":4,"":5})", R"({"b":1,"x\u0041":1,"\"":2})"}) {
    EXPECT_TRUE(fits(*grammar, text)) << text;
  }
  for (const char* text : {R"({})", R"({"a":1})", R"({"b":1,"a":1})", R"({"b":1,"d":"x"})",
                           R"({"d":4,"b":1})", R"({"b":1,"b":1})", R"({"b":1,"\u0061":1})"}) {
    EXPECT_FALSE(fits(*grammar, text)) << text;
  }
}

TEST(JsonGrammar, WithoutAdditionalPropertiesOnlyNamedOnes) {
  const auto grammar = grammar_of(parse(R"({"type":"object","properties":{"a":{}}})"));
  EXPECT_TRUE(fits(*grammar, R"({})"));
  EXPECT_TRUE(fits(*grammar, R"({"a":null})"));
  EXPECT_FALSE(fits(*grammar, R"({"b":null})"));
}

TEST(JsonGrammar, CountsItemsAndCharacters) {
  const auto items =
      grammar_of(parse(R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})"));
  EXPECT_FALSE(fits(*items, "[1]"));
  EXPECT_TRUE(fits(*items, "[1,2]"));
  EXPECT_TRUE(fits(*items, "[1,2,3]"));
  EXPECT_FALSE(fits(*items, "[1,2,3,4]"));
  const auto text = grammar_of(parse(R"({"type":"string","minLength":2,"maxLength":3})"));
  EXPECT_FALSE(fits(*text, "\"\xC3\xA9\""));
  EXPECT_TRUE(fits(*text, "\"\xC3\xA9\\u00e9\""));
  EXPECT_TRUE(fits(*text, "\"\\ud83d\\ude00ab\""));
  EXPECT_FALSE(fits(*text, "\"abcd\""));
  const auto tuple = grammar_of(parse(
      R"({"type":"array","prefixItems":[{"const":1},{"const":2}],"items":{"const":3},"minItems":1,"maxItems":4})"));
  for (const char* good : {"[1]", "[1,2]", "[1,2,3]", "[1, 2, 3, 3]"})
    EXPECT_TRUE(fits(*tuple, good)) << good;
  for (const char* bad : {"[]", "[2]", "[1,3]", "[1,2,3,3,3]"})
    EXPECT_FALSE(fits(*tuple, bad)) << bad;
  const auto none = grammar_of(parse(R"({"type":"array","items":false})"));
  EXPECT_TRUE(fits(*none, "[]"));
  EXPECT_FALSE(fits(*none, "[1]"));
}

TEST(JsonGrammar, NumbersStayWithinTheirBounds) {
  const std::pair<int, int> kBounds[] = {{0, 0},     {0, 7},  {-3, 12},  {5, 123},   {99, 1001},
                                         {-120, -7}, {-1, 0}, {-10, 10}, {100, 999}, {-9, -9}};
  for (const auto& [low, high] : kBounds) {
    for (const bool exclusive : {false, true}) {
      for (const bool whole : {false, true}) {
        if (exclusive && (high - low < 2)) continue;
        const Schema schema = {{"type", whole ? "integer" : "number"},
                               {exclusive ? "exclusiveMinimum" : "minimum", low},
                               {exclusive ? "exclusiveMaximum" : "maximum", high}};
        SCOPED_TRACE(schema.dump());
        const auto grammar = grammar_of(schema);
        for (int value = low - 12; value <= high + 12; ++value) {
          const bool is_in =
              exclusive ? low < value && value < high : low <= value && value <= high;
          EXPECT_EQ(fits(*grammar, std::to_string(value)), is_in) << value;
          if (whole) continue;
          const bool next_in = low <= value && value < high;
          if (value >= 0) {
            EXPECT_EQ(fits(*grammar, std::to_string(value) + ".25"), next_in) << value;
          }
          EXPECT_EQ(fits(*grammar, std::to_string(value) + ".00"), is_in) << value;
        }
        EXPECT_FALSE(fits(*grammar, "-0"));
        EXPECT_FALSE(fits(*grammar, "1e1"));
        Random random(static_cast<unsigned>(high));
        for (int i = 0; i < 20; ++i) {
          const double value = std::stod(sample(*grammar, random));
          EXPECT_TRUE(exclusive ? low < value && value < high : low <= value && value <= high)
              << value;
        }
      }
    }
  }
  const auto open = grammar_of(parse(R"({"minimum":-5,"type":"integer"})"));
  EXPECT_TRUE(fits(*open, "123456789012345678"));
  EXPECT_TRUE(fits(*open, "-5"));
  EXPECT_FALSE(fits(*open, "-6"));
  const auto tighter = grammar_of(parse(R"({"minimum":1,"exclusiveMinimum":1,"type":"integer"})"));
  EXPECT_FALSE(fits(*tighter, "1"));
  EXPECT_TRUE(fits(*tighter, "2"));
  refused(parse(R"({"minimum":0.5})"), ErrorCode::kUnsupported);
  refused(parse(R"({"maximum":1e300})"), ErrorCode::kUnsupported);
  refused(parse(R"({"maximum":true})"), ErrorCode::kInvalidData);
  refused(parse(R"({"type":"number","minimum":3,"maximum":2})"), ErrorCode::kInvalidData);
}

TEST(JsonGrammar, RecursionStopsWhereItCanStillEnd) {
  const auto grammar = grammar_of(parse(R"({"type":"array","items":{"$ref":"#"}})"));
  EXPECT_TRUE(fits(*grammar, std::string(50, '[') + std::string(50, ']')));
  EXPECT_FALSE(fits(*grammar, std::string(80, '[') + std::string(80, ']')));
  // However deep the brackets were opened, they can be closed.
  Follower follower(*grammar);
  int depth = 0;
  while (follower.allows('[')) {
    follower.accept('[');
    ++depth;
  }
  for (int i = 0; i < depth; ++i) {
    ASSERT_TRUE(follower.allows(']'));
    follower.accept(']');
  }
  EXPECT_TRUE(follower.complete());
  EXPECT_GT(depth, 50);
}

TEST(JsonGrammar, NothingIsBegunThatCannotBeEnded) {
  Random random(1);
  const auto none =
      grammar_of(parse(R"({"type":"object","properties":{"a":false,"b":{"type":"null"}}})"));
  Follower follower(*none);
  ASSERT_TRUE(follower.accepts("{\"", random));
  EXPECT_FALSE(follower.allows('a'));
  EXPECT_TRUE(follower.allows('b'));
  // A member that needs one level more than there is.
  const auto deep = grammar_of(parse(
      R"({"type":"object","properties":{"x":{"$ref":"#"},"y":{"type":"array","items":{"type":"array","items":{"const":1},"minItems":1}}}})"));
  Follower down(*deep);
  int depth = 1;
  ASSERT_TRUE(down.accepts("{", random));
  for (;;) {
    ASSERT_TRUE(down.allows('}')) << depth;
    if (!down.allows('"')) break;
    down.accept('"');
    if (!down.allows('x')) break;
    ASSERT_TRUE(down.accepts("x\":{", random)) << depth;
    ++depth;
  }
  EXPECT_GT(depth, 50);
}

TEST(JsonGrammar, ChoicesAreFollowedTogether) {
  const auto grammar = grammar_of(parse(R"({"anyOf":[
    {"type":"object","properties":{"kind":{"type":"string"},"a":{"const":1}},"required":["kind","a"]},
    {"type":"object","properties":{"kind":{"const":"two"},"b":{"const":2}},"required":["kind","b"]},
    {"allOf":[{"$ref":"#/$defs/x"}]}], "$defs":{"x":{"type":"array","maxItems":0}}})"));
  for (const char* text : {R"({"kind":"two","a":1})", R"({"kind":"two","b":2})", "[]"}) {
    EXPECT_TRUE(fits(*grammar, text)) << text;
  }
  EXPECT_FALSE(fits(*grammar, R"({"kind":"three","b":2})"));
  EXPECT_FALSE(fits(*grammar, "[1]"));
}

TEST(JsonGrammar, RefusesWhatItDoesNotEnforceByPath) {
  const auto unsupported = [](std::string_view text) {
    return refused(parse(text), ErrorCode::kUnsupported);
  };
  EXPECT_NE(
      unsupported(R"({"type":"object","properties":{"a/b":{"type":"number","multipleOf":2}}})")
          .find("#/properties/a~1b/multipleOf"),
      std::string::npos);
  EXPECT_NE(unsupported(R"({"$defs":{"x":{"not":{}}},"anyOf":[{},{"$ref":"#/$defs/x"}]})")
                .find("#/$defs/x/not"),
            std::string::npos);
  for (const char* text :
       {R"({"uniqueItems":true,"type":"array"})", R"({"if":{}})", R"({"patternProperties":{}})",
        R"({"anyOf":[{}],"type":"string"})", R"({"$ref":"#","minLength":1})",
        R"({"enum":[1],"minLength":1})", R"({"allOf":[{},{}]})",
        R"({"$ref":"http://example.org/x"})", R"({"items":[{}]})", R"({"nullable":true})",
        R"({"type":"string","maxLenght":5})"}) {
    unsupported(text);
  }
}

TEST(JsonGrammar, RefusesBrokenSchemasByPath) {
  for (const char* text :
       {"1", R"({"type":"text"})", R"({"type":[]})", R"({"type":1})", R"({"properties":[]})",
        R"({"required":"a"})", R"({"minLength":-1})", R"({"minLength":1.5})",
        R"({"minItems":3,"maxItems":2})", R"({"enum":[]})", R"({"enum":["a"],"type":"integer"})",
        R"({"anyOf":[]})", R"({"$ref":"#/$defs/none"})", R"({"$ref":1})", R"({"prefixItems":[]})",
        R"({"required":["a"],"properties":{},"additionalProperties":false})", R"({"items":3})",
        R"({"additionalProperties":3})"}) {
    EXPECT_NE(refused(parse(text), ErrorCode::kInvalidData).find("schema #"), std::string::npos);
  }
  // No value fits these.
  for (const char* text :
       {"false", R"({"$ref":"#"})", R"({"type":"array","items":{"$ref":"#"},"minItems":1})",
        R"({"anyOf":[{"$ref":"#"},{"properties":{"a":false},"required":["a"]}]})"}) {
    refused(parse(text), ErrorCode::kInvalidData);
  }
}

TEST(JsonGrammar, FollowsManyTextsAtOnce) {
  const auto grammar = grammar_of({{"type", "object"}});
  std::vector<Follower> followers;
  std::vector<std::string> texts(40);
  for (std::size_t i = 0; i < texts.size(); ++i) followers.emplace_back(*grammar);
  Random random(7);
  // Deep and different texts: more configurations than are kept at once.
  for (int n = 0; n < 400; ++n) {
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto ids = followers[i].allowed();
      ASSERT_FALSE(ids.empty()) << texts[i];
      std::int32_t id = ids[random() % ids.size()];
      if (id == byte_vocabulary().end_id) continue;
      followers[i].accept(id);
      texts[i] += byte_vocabulary().tokens[static_cast<std::size_t>(id)];
    }
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    Follower again(*grammar);
    EXPECT_TRUE(again.accepts(texts[i], random));
    EXPECT_EQ(again.allowed(), followers[i].allowed()) << texts[i];
  }
}

TEST(JsonGrammar, RefusesATokenAgainstItsRules) {
  const auto grammar = grammar_of({{"type", "object"}});
  Follower follower(*grammar);
  EXPECT_THROW(follower.accept('['), Error);
  EXPECT_THROW(follower.accept(byte_vocabulary().end_id), Error);
  EXPECT_TRUE(follower.allows('{'));
}

TEST(JsonGrammar, NeedsAnEndToken) {
  EXPECT_THROW(JsonGrammar::from_schema({{"type", "object"}}, byte_vocabulary().trie, {}), Error);
}

}  // namespace
}  // namespace moeopt::testing
