#include "serve/openai/grammar_cache.h"

#include <algorithm>

#include "serve/api_error.h"

namespace moeopt::serve {

std::shared_ptr<const JsonGrammar> GrammarCache::get(const OrderedJson& schema,
                                                     const Tokenizer& tokenizer,
                                                     std::span<const std::int32_t> end_ids) {
  std::string key = dump(schema);
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(entries_, key, &Entry::first);
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
      return found->second;
    }
  }
  // Compiled outside the lock: it takes a while.
  auto made = schema.is_null() ? JsonGrammar::any_object(tokenizer, end_ids)
                               : JsonGrammar::from_schema(schema, tokenizer, end_ids);
  const std::lock_guard lock(mutex_);
  entries_.emplace_front(std::move(key), made);
  if (entries_.size() > kMostGrammars) entries_.pop_back();
  return made;
}

std::size_t GrammarCache::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace moeopt::serve
