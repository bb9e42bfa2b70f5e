// What the tests of JSON grammars share: vocabularies of bytes, an own reading of JSON schemas to
// judge by, random schemas, values of them and spellings of those.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/json_grammar.h"
#include "text/grammar/vocabulary_trie.h"

namespace moeopt::testing {

using Schema = nlohmann::ordered_json;
using Random = std::mt19937;

// Every byte, some hundred longer tokens that JSON texts are made of (two of them twice), and last
// an end token without text.
struct ByteVocabulary {
  std::vector<std::string> tokens;
  VocabularyTrie trie;
  std::int32_t end_id;
};
const ByteVocabulary& byte_vocabulary();

std::shared_ptr<const JsonGrammar> grammar_of(const Schema& schema);

// One text that follows a grammar, with its mask.
class Follower {
 public:
  explicit Follower(const JsonGrammar& grammar,
                    const ByteVocabulary& vocabulary = byte_vocabulary());

  std::vector<std::int32_t> allowed();
  bool allows(std::int32_t id);
  void accept(std::int32_t id) { constraint_->accept(id); }
  bool complete() const { return constraint_->complete(); }
  // Accepts the bytes of `text`, cut into tokens at random; false as soon as one is not allowed.
  bool accepts(std::string_view text, Random& random);

 private:
  const ByteVocabulary& vocabulary_;
  std::unique_ptr<TokenConstraint> constraint_;
  std::vector<std::uint64_t> mask_;
};

// Whether the whole of `text` may be written, in a random cut.
bool fits(const JsonGrammar& grammar, std::string_view text, unsigned seed = 1);

// Allowed tokens at random until the text is complete; after some hundred, those that bring it to
// its end. Fails the test where nothing is allowed or the end never comes.
std::string sample(const JsonGrammar& grammar, Random& random);

// The specification, written down again: whether `value` is one of `schema`. oneOf counts as anyOf.
bool is_valid(const Schema& value, const Schema& schema, const Schema& root);

Schema random_schema(Random& random);
// A value that the grammar of `schema` writes (in its order of members).
Schema random_value(const Schema& schema, const Schema& root, Random& random, int depth = 0);
// One of the ways to write a value: white space, escapes.
std::string random_spelling(const Schema& value, Random& random, bool plain_names);

}  // namespace moeopt::testing
