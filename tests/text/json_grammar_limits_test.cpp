// JSON grammars that want too much: refused, or followed within bounds.
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/grammar/delayed_constraint.h"
#include "text/grammar/json_rules.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/token_machine.h"
#include "text/grammar_util.h"
#include "text/tokenizer_util.h"

namespace moeopt::testing {
namespace {

std::string refused(const Schema& schema) {
  try {
    grammar_of(schema);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

// Follows random tokens for a while; what is allowed is never nothing.
void follow(const JsonGrammar& grammar, unsigned seed, int n) {
  Random random(seed);
  Follower follower(grammar);
  for (int i = 0; i < n; ++i) {
    const auto ids = follower.allowed();
    ASSERT_FALSE(ids.empty());
    const std::int32_t id = ids[random() % ids.size()];
    follower.accept(id);
    if (id == byte_vocabulary().end_id) return;
  }
}

TEST(JsonGrammarLimits, ReferencesThatDoubleAreOneRuleEach) {
  Schema schema = {{"$ref", "#/$defs/d0"}, {"$defs", Schema::object()}};
  for (int i = 0; i < 40; ++i) {
    const Schema next = {{"$ref", "#/$defs/d" + std::to_string(i + 1)}};
    schema["$defs"]["d" + std::to_string(i)] = {{"type", "array"}, {"prefixItems", {next, next}}};
  }
  schema["$defs"]["d40"] = {{"type", "null"}};
  const auto grammar = grammar_of(schema);
  follow(*grammar, 1, 300);
  EXPECT_TRUE(fits(*grammar, "[]"));
}

TEST(JsonGrammarLimits, RingsOfChoicesEnd) {
  const auto grammar = grammar_of(Schema::parse(
      R"({"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/a"},{"type":"null"}]},
                   "b":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"array","items":{"$ref":"#/$defs/a"}}]}},"$ref":"#/$defs/b"})"));
  EXPECT_TRUE(fits(*grammar, "[[],null,[null]]"));
  EXPECT_TRUE(fits(*grammar, "null"));
  EXPECT_FALSE(fits(*grammar, "[1]"));
}

// 2^depth readings of a text: those beyond the limit are dropped, the text can still be ended.
TEST(JsonGrammarLimits, ManyReadingsOfOneText) {
  const auto grammar = grammar_of(Schema::parse(
      R"({"$defs":{"t":{"anyOf":[{"type":"array","items":{"$ref":"#/$defs/t"},"maxItems":9},
        {"type":"array","items":{"$ref":"#/$defs/t"},"maxItems":8},{"type":"array","prefixItems":[{"$ref":"#/$defs/t"}]},
        {"type":"string","maxLength":50},{"type":"string","maxLength":60}]}},"$ref":"#/$defs/t"})"));
  EXPECT_TRUE(fits(*grammar, std::string(4, '[') + "\"x\"" + std::string(4, ']')));
  for (unsigned seed = 0; seed < 10; ++seed) follow(*grammar, seed, 200);
  Random random(3);
  const std::string text = sample(*grammar, random);
  EXPECT_FALSE(Schema::parse(text, nullptr, false).is_discarded()) << text;
}

TEST(JsonGrammarLimits, LargeEnumsAreTreesAndTooLargeOnesRefused) {
  Schema schema = {{"enum", Schema::array()}};
  for (int i = 0; i < 5000; ++i) schema["enum"].push_back("v" + std::to_string(i));
  const auto grammar = grammar_of(schema);
  EXPECT_TRUE(fits(*grammar, "\"v4999\""));
  EXPECT_FALSE(fits(*grammar, "\"v5000\""));
  EXPECT_NE(refused({{"const", std::string(std::size_t{1} << 20, 'x')}}).find("too large"),
            std::string::npos);
  for (int i = 0; i < 3; ++i)
    schema["enum"].push_back(std::string(200'000, static_cast<char>('a' + i)));
  EXPECT_NE(refused(schema).find("too large"), std::string::npos);
}

TEST(JsonGrammarLimits, TooManyPartsAreRefused) {
  Schema many = {{"anyOf", Schema::array()}};
  for (int i = 0; i < 600; ++i) many["anyOf"].push_back({{"type", "null"}});
  EXPECT_NE(refused(many).find("#/anyOf"), std::string::npos);
  Schema optional = {{"properties", Schema::object()}};
  for (int i = 0; i < 600; ++i)
    optional["properties"]["p" + std::to_string(i)] = {{"type", "null"}};
  EXPECT_NE(refused(optional).find("optional members in a row"), std::string::npos);
  optional["required"] = Schema::array();
  for (int i = 0; i < 600; ++i) optional["required"].push_back("p" + std::to_string(i));
  EXPECT_EQ(refused(optional), "");
  Schema parts = {{"type", "array"}, {"prefixItems", Schema::array()}};
  for (int i = 0; i < 25'000; ++i) parts["prefixItems"].push_back(true);
  EXPECT_NE(refused(parts).find("too many parts"), std::string::npos);
}

TEST(JsonGrammarLimits, DeepSchemasAndValues) {
  Schema schema = {{"type", "null"}};
  for (int i = 0; i < 50; ++i) schema = {{"type", "array"}, {"items", schema}, {"minItems", 1}};
  EXPECT_TRUE(fits(*grammar_of(schema), std::string(50, '[') + "null" + std::string(50, ']')));
  for (int i = 0; i < 50; ++i) schema = {{"type", "array"}, {"items", schema}, {"minItems", 1}};
  EXPECT_NE(refused(schema), "");  // deeper than what is read back
  Schema value = nullptr;
  for (int i = 0; i < 100; ++i) value = Schema::array({value});
  EXPECT_NE(refused({{"const", value}}).find("nested too deep"), std::string::npos);
}

TEST(JsonGrammarLimits, WhiteSpaceAndDigitsEnd) {
  const auto grammar = grammar_of({{"type", "object"}});
  Follower follower(*grammar);
  for (const char byte : std::string_view("{\"a\":")) follower.accept(byte);
  int n = 0;
  for (const char blank : {'\n', '\t', ' '}) {
    while (follower.allows(blank) && n < 1000) {
      follower.accept(blank);
      ++n;
    }
  }
  EXPECT_LT(n, 60);
  for (n = 0; follower.allows('1') && n < 1000; ++n) follower.accept('1');
  EXPECT_LT(n, 40);
  EXPECT_TRUE(follower.allows('}'));
}

// More configurations than are kept at once: the masks do not change by it.
TEST(JsonGrammarLimits, ForgottenConfigurationsAreMadeAgain) {
  PushdownBuilder builder;
  JsonRules rules(builder);
  const StateId start = compile_json_schema(
      Schema::parse(
          R"({"type":"array","items":{"type":"array","items":{"type":"string","maxLength":3000}},"maxItems":3000})"),
      builder, rules);
  const ByteVocabulary& vocabulary = byte_vocabulary();
  TokenMachine machine(builder.finish(start, vocabulary.trie.single_bytes()), vocabulary.trie,
                       {&vocabulary.end_id, 1});
  const std::size_t first = machine.enter();
  const std::size_t second = machine.enter();
  std::vector<std::uint64_t> a(8);
  std::vector<std::uint64_t> b(8);
  for (int i = 0; i < 2; ++i) {
    machine.accept(first, '[');
    machine.accept(second, '[');
  }
  machine.fill_mask(second, b);
  const auto mask_before = b;
  machine.accept(first, '"');
  for (int i = 0; i < 2900; ++i) {
    machine.fill_mask(first, a);
    machine.accept(first, 'x');
  }
  EXPECT_GT(machine.statistics().collections, 0U);
  machine.fill_mask(second, b);
  EXPECT_EQ(b, mask_before);
  machine.accept(second, '"');
  for (int i = 0; i < 2900; ++i) machine.accept(second, 'x');
  machine.fill_mask(first, a);
  machine.fill_mask(second, b);
  EXPECT_EQ(a, b);
  for (int i = 0; i < 100; ++i) machine.accept(second, 'x');
  EXPECT_THROW(machine.accept(second, 'x'), Error);
  machine.accept(second, '"');
  machine.accept(second, ']');
  EXPECT_FALSE(machine.complete(second));
  machine.accept(second, ']');
  EXPECT_TRUE(machine.complete(second));
  machine.leave(first);
  machine.leave(second);
}

// A vocabulary without a byte: what needs it is refused, the rest goes without.
TEST(JsonGrammarLimits, BytesThatNoTokenSpells) {
  std::vector<std::optional<std::string>> tokens;
  for (int byte = 0; byte < 128; ++byte) {
    if (byte != 'u' && byte != 'l') tokens.emplace_back(std::string(1, static_cast<char>(byte)));
  }
  tokens.emplace_back("null");
  tokens.emplace_back();
  const VocabularyTrie trie(tokens);
  const std::int32_t end_id = trie.id_end() - 1;
  EXPECT_THROW(JsonGrammar::from_schema({{"type", "null"}}, trie, {&end_id, 1}), Error);
  EXPECT_NO_THROW(JsonGrammar::from_schema({{"type", {"null", "integer"}}}, trie, {&end_id, 1}));
}

TEST(DelayedConstraint, BeginsAfterItsToken) {
  const ByteVocabulary& vocabulary = byte_vocabulary();
  const auto grammar = grammar_of({{"type", "object"}});
  const auto constraint =
      constrained_after('>', vocabulary.trie.id_end(), {&vocabulary.end_id, 1}, grammar->start());
  std::vector<std::uint64_t> mask((static_cast<std::size_t>(vocabulary.trie.id_end()) + 63) / 64 +
                                  1);
  const auto allows = [&](std::int32_t id) {
    constraint->fill_mask(mask);
    return (mask[static_cast<std::size_t>(id) / 64] >> (id % 64) & 1) != 0;
  };
  for (const char byte : std::string_view("hm [")) {
    EXPECT_TRUE(allows(byte));
    EXPECT_FALSE(allows(vocabulary.end_id));
    constraint->accept(byte);
  }
  EXPECT_FALSE(allows(vocabulary.trie.id_end()));
  constraint->accept('>');
  EXPECT_FALSE(allows('h'));
  for (const char byte : std::string_view("{}")) {
    EXPECT_FALSE(constraint->complete());
    ASSERT_TRUE(allows(byte));
    constraint->accept(byte);
  }
  EXPECT_TRUE(constraint->complete());
  EXPECT_TRUE(allows(vocabulary.end_id));
}

// The real tokenizers: what they encode is what the grammar follows, and their decoder gives it
// back.
TEST(JsonGrammarTokenizers, FollowWhatTheyEncode) {
  for (const std::string& family : tokenizer_families()) {
    SCOPED_TRACE(family);
    const Tokenizer& tokenizer = shared_tokenizer(family);
    std::optional<std::int32_t> end_id;
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (tokenizer.is_special(id)) end_id = id;
    }
    if (!end_id) continue;
    const auto grammar = JsonGrammar::any_object(tokenizer, {&*end_id, 1});
    const auto constraint = grammar->start();
    std::vector<std::uint64_t> mask((static_cast<std::size_t>(tokenizer.vocab_size()) + 63) / 64);
    const std::string text =
        "{\"name\": \"J\xC3\xBCrgen \xE4\xBD\xA0\", \"n\": [1, 2.5, true],\n  \"x\": {}}";
    const auto ids = tokenizer.encode(text, false, false);
    if (tokenizer.decode(ids, false) != text) continue;  // its normalizer changes the text
    for (const std::int32_t id : ids) {
      constraint->fill_mask(mask);
      ASSERT_NE(mask[static_cast<std::size_t>(id) / 64] >> (id % 64) & 1, 0U)
          << tokenizer.id_to_token(id);
      constraint->accept(id);
    }
    EXPECT_TRUE(constraint->complete());
    constraint->fill_mask(mask);
    EXPECT_NE(mask[static_cast<std::size_t>(*end_id) / 64] >> (*end_id % 64) & 1, 0U);
  }
}

}  // namespace
}  // namespace moeopt::testing
