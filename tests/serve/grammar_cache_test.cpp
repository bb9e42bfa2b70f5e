// Compiled grammars are shared while they are in use, and few are kept.
#include "serve/openai/grammar_cache.h"

#include <gtest/gtest.h>

#include "serve/serve_util.h"

namespace moeopt::serve {
namespace {

class GrammarCacheTest : public testing::Test {
 protected:
  std::shared_ptr<const JsonGrammar> get(int number) {
    const OrderedJson schema = {{"const", number}};
    return cache_.get(schema, model_.tokenizer, end_ids_);
  }

  ModelForTests model_;
  std::vector<std::int32_t> end_ids_ = {*model_.tokenizer.token_to_id("<|im_end|>")};
  GrammarCache cache_;
};

TEST_F(GrammarCacheTest, OneSchemaIsOneGrammar) {
  const auto first = get(1);
  EXPECT_EQ(get(1), first);
  EXPECT_NE(get(2), first);
  EXPECT_EQ(get(1), first);
  EXPECT_EQ(cache_.size(), 2u);
}

TEST_F(GrammarCacheTest, ManySchemasAreNotKept) {
  const std::weak_ptr<const JsonGrammar> first = get(0);
  EXPECT_FALSE(first.expired());
  for (int i = 1; i < 100; ++i) {
    get(i);
    EXPECT_LE(cache_.size(), GrammarCache::kMostGrammars);
  }
  EXPECT_EQ(GrammarCache::kMostGrammars, 8u);
  EXPECT_TRUE(first.expired()) << "what is not kept is not held either";
}

TEST_F(GrammarCacheTest, TheOneInUseStays) {
  const auto used = get(0);
  for (int i = 1; i < 100; ++i) {
    get(i);
    EXPECT_EQ(get(0), used) << i;
  }
}

}  // namespace
}  // namespace moeopt::serve
