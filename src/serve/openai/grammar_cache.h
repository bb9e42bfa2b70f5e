// Compiled grammars, the latest few of them: a schema is compiled once while it is in use.
// Invariant: bounded, whatever schemas come; any thread.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "base/json.h"
#include "text/grammar/json_grammar.h"

namespace moeopt::serve {

class GrammarCache {
 public:
  static constexpr std::size_t kMostGrammars = 8;

  // A null schema: any JSON object. Errors as JsonGrammar.
  std::shared_ptr<const JsonGrammar> get(const OrderedJson& schema, const Tokenizer& tokenizer,
                                         std::span<const std::int32_t> end_ids);
  std::size_t size() const;

 private:
  using Entry = std::pair<std::string, std::shared_ptr<const JsonGrammar>>;

  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // latest first
};

}  // namespace moeopt::serve
