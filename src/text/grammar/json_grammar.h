// Output that is JSON, and JSON of a schema: the rules of the text as a pushdown automaton over
// bytes, walked along all tokens of the vocabulary at once. serve/ compiles it, engine/ follows it.
// What a schema may say is listed in json_schema.h; the rest is refused by name.
// Invariant: whatever tokens are sampled, the finished text parses and fits the schema, and at no
// point is there nothing to sample.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "text/grammar/token_constraint.h"
#include "text/tokenizer.h"

namespace moeopt {

class TokenMachine;
class VocabularyTrie;

// Compiled once for a schema and a tokenizer; any number of threads may start() it and follow the
// texts. Takes some 10 MB: keep a few, not thousands.
class JsonGrammar {
 public:
  // Any JSON object (response_format json_object).
  static std::shared_ptr<const JsonGrammar> any_object(const Tokenizer& tokenizer,
                                                       std::span<const std::int32_t> end_ids);
  // A value of `schema`. Error(kInvalidData) when it is broken, contradicts itself or is too large,
  // Error(kUnsupported) for a keyword that is not enforced here; both name the schema's path
  // ("#/properties/age/minimum"). `tokenizer` must outlive the grammar and all it started.
  static std::shared_ptr<const JsonGrammar> from_schema(const nlohmann::ordered_json& schema,
                                                        const Tokenizer& tokenizer,
                                                        std::span<const std::int32_t> end_ids);

  // The same over the bytes of a vocabulary alone.
  static std::shared_ptr<const JsonGrammar> from_schema(const nlohmann::ordered_json& schema,
                                                        const VocabularyTrie& vocabulary,
                                                        std::span<const std::int32_t> end_ids);

  explicit JsonGrammar(std::shared_ptr<TokenMachine> machine);
  ~JsonGrammar();

  // Follows one text from its beginning.
  std::unique_ptr<TokenConstraint> start() const;

 private:
  std::shared_ptr<TokenMachine> machine_;
};

}  // namespace moeopt
