// PrefixCache and KvCache: exact matches, LRU order, sharing, and a random life against a naive
// model.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "kv/kv_cache.h"

namespace moeopt {
namespace {

using Ids = std::vector<std::int32_t>;

Ids range(int n, int first = 0) {
  Ids ids;
  for (int i = 0; i < n; ++i) ids.push_back(first + i);
  return ids;
}

// Runs a sequence to its end: all blocks published, then released.
void leave_behind(KvCache& kv, const Ids& tokens) {
  BlockTable table;
  ASSERT_TRUE(kv.start(table, tokens, true, 0).has_value());
  kv.publish(table, tokens, static_cast<int>(tokens.size()));
  kv.release(table);
}

int found(KvCache& kv, const Ids& tokens) {
  BlockTable table;
  const int n = kv.start(table, tokens, true, 0).value_or(-1);
  kv.release(table);
  return n;
}

TEST(KvCache, FindsWholeBlocksOfTheSameTokensOnly) {
  KvCache kv(20, 4, true);
  leave_behind(kv, range(10));
  EXPECT_EQ(kv.pool().n_cached(), 2);
  EXPECT_EQ(kv.pool().n_free(), 18);
  EXPECT_EQ(found(kv, range(10)), 8);
  EXPECT_EQ(found(kv, range(30)), 8);
  EXPECT_EQ(found(kv, range(7)), 4);
  EXPECT_EQ(found(kv, range(3)), 0);
  Ids other = range(10);
  other[5] += 1;
  EXPECT_EQ(found(kv, other), 4);
  other[0] += 1;
  EXPECT_EQ(found(kv, other), 0);
  // The second block's tokens alone are another prefix.
  EXPECT_EQ(found(kv, range(6, 4)), 0);
  kv.check_identity();
}

TEST(KvCache, AWholePromptStillComputesItsLastTokenInACopy) {
  KvCache kv(20, 4, true);
  leave_behind(kv, range(8));
  BlockTable table;
  EXPECT_EQ(kv.start(table, range(8), true, 0), 7);
  ASSERT_EQ(table.blocks.size(), 2u);
  EXPECT_EQ(table.copy_to, 1);
  EXPECT_GE(table.copy_from, 0);
  EXPECT_NE(table.copy_from, table.blocks[1]);
  EXPECT_EQ(kv.pool().n_live(), 3);
  kv.copied(table);
  EXPECT_EQ(kv.pool().n_live(), 2);
  // Published, the copy gives way to the block that was there before.
  kv.publish(table, range(8), 8);
  EXPECT_EQ(kv.pool().n_cached() + kv.pool().n_live(), 2);
  kv.release(table);
  kv.check_identity();
}

TEST(KvCache, TheCopyIsGivenUpWhenOnlyItsSourceIsLeft) {
  KvCache kv(2, 4, true);
  leave_behind(kv, range(8));
  BlockTable table;
  EXPECT_EQ(kv.start(table, range(8), true, 0), 4);
  EXPECT_EQ(table.copy_from, -1);
  EXPECT_EQ(table.copy_to, -1);
  kv.release(table);
  kv.check_identity();
}

TEST(KvCache, NothingIsFoundBeforeItsStepIsFinishedOrWhenNotAsked) {
  KvCache kv(20, 4, true);
  BlockTable first, second;
  ASSERT_EQ(kv.start(first, range(9), true, 0), 0);
  EXPECT_EQ(kv.start(second, range(9), true, 0), 0);
  kv.release(second);
  kv.publish(first, range(9), 7);
  EXPECT_EQ(kv.start(second, range(9), true, 0), 4) << "seven tokens are one whole block";
  kv.release(second);
  EXPECT_EQ(kv.start(second, range(9), false, 0), 0);
  kv.release(second);
  kv.release(first);
  kv.check_identity();
}

TEST(KvCache, WithoutPrefixCacheNothingIsKept) {
  KvCache kv(20, 4, false);
  leave_behind(kv, range(10));
  EXPECT_EQ(kv.pool().n_cached(), 0);
  EXPECT_EQ(found(kv, range(10)), 0);
}

TEST(KvCache, EvictsTheLeastRecentlyUsedFromItsEnd) {
  KvCache kv(6, 4, true);
  leave_behind(kv, range(12));          // a: 3 blocks
  leave_behind(kv, range(12, 100));     // b: 3 blocks
  EXPECT_EQ(found(kv, range(13)), 12);  // a is used again, in the room of b's last block
  EXPECT_EQ(kv.pool().n_free(), 1);
  leave_behind(kv, range(4, 200));  // takes that room
  EXPECT_EQ(kv.pool().n_cached(), 6);
  leave_behind(kv, range(4, 300));  // takes b's second
  EXPECT_EQ(kv.pool().n_cached(), 6);
  EXPECT_EQ(found(kv, range(8, 100)), 4);
  EXPECT_EQ(found(kv, range(5)), 4);
  kv.check_identity();
}

TEST(KvCache, TheSameBlockTwiceIsKeptOnce) {
  KvCache kv(20, 4, true);
  BlockTable first, second;
  ASSERT_EQ(kv.start(first, range(9), true, 0), 0);
  ASSERT_EQ(kv.start(second, range(9), true, 0), 0);
  kv.publish(first, range(9), 9);
  kv.publish(second, range(9), 9);
  EXPECT_EQ(first.blocks[0], second.blocks[0]);
  EXPECT_EQ(first.blocks[1], second.blocks[1]);
  EXPECT_NE(first.blocks[2], second.blocks[2]);
  EXPECT_EQ(kv.pool().n_live(), 4);
  kv.check_identity();
  kv.release(first);
  kv.check_identity();
  kv.release(second);
  kv.check_identity();
}

class KvCacheSharing : public testing::TestWithParam<bool> {};

TEST_P(KvCacheSharing, ChoicesTakeOverAllButTheLastToken) {
  for (const int n_prompt : {1, 3, 4, 5, 8, 9}) {
    KvCache kv(20, 4, GetParam());
    const Ids prompt = range(n_prompt);
    BlockTable first, other;
    ASSERT_EQ(kv.start(first, prompt, true, 0), 0);
    kv.publish(first, prompt, n_prompt);
    const int before = kv.pool().n_live();
    kv.share(first, n_prompt, other);
    EXPECT_EQ(kv.pool().n_live(), before) << "sharing takes no block";
    EXPECT_EQ(kv.resume(other, n_prompt, 0), n_prompt - 1);
    EXPECT_EQ(kv.pool().n_live(), before + 1);
    EXPECT_EQ(other.copy_from >= 0, (n_prompt - 1) % 4 != 0);
    kv.copied(other);
    kv.release(first);
    kv.check_identity();
    kv.release(other);
    EXPECT_EQ(kv.pool().n_live(), 0);
    kv.check_identity();
  }
}

INSTANTIATE_TEST_SUITE_P(PrefixCache, KvCacheSharing, testing::Bool());

// What the cache may say is known: prefixes in whole blocks that were published.
TEST(KvCache, RandomLifeFindsNothingThatWasNotPublished) {
  std::mt19937 random(3);
  for (int round = 0; round < 30; ++round) {
    const int block_tokens = 1 + static_cast<int>(random() % 4);
    const int n_blocks = 8 + static_cast<int>(random() % 30);
    KvCache kv(n_blocks, block_tokens, true);
    struct Live {
      Ids tokens;
      BlockTable table;
      int n_computed;
    };
    std::vector<Live> live;
    std::set<Ids> published;
    int hits = 0;
    for (int move = 0; move < 300; ++move) {
      const auto what = random() % 4;
      if (what == 0 || live.empty()) {
        Live next;
        const auto n = 1 + random() % 20;
        for (std::size_t i = 0; i < n; ++i) {
          next.tokens.push_back(static_cast<std::int32_t>(random() % 2));
        }
        const auto there = kv.start(next.table, next.tokens, true, 0);
        if (!there) continue;
        const int whole = (*there + (next.table.copy_from >= 0 ? 1 : 0)) / block_tokens;
        EXPECT_LT(*there, static_cast<int>(n));
        if (whole > 0) {
          ++hits;
          EXPECT_TRUE(published.contains(
              Ids(next.tokens.begin(), next.tokens.begin() + whole * block_tokens)));
        }
        next.n_computed = *there;
        kv.copied(next.table);
        live.push_back(std::move(next));
      } else {
        Live& one = live[random() % live.size()];
        if (what == 1) {
          const int left = static_cast<int>(one.tokens.size()) - one.n_computed;
          one.n_computed += static_cast<int>(random() % static_cast<unsigned>(left + 1));
          kv.publish(one.table, one.tokens, one.n_computed);
          for (int end = block_tokens; end <= one.n_computed; end += block_tokens) {
            published.insert(Ids(one.tokens.begin(), one.tokens.begin() + end));
          }
        } else if (what == 2 && kv.grow(one.table, static_cast<int>(one.tokens.size()) + 1)) {
          one.tokens.push_back(static_cast<std::int32_t>(random() % 2));
        } else if (what == 3) {
          kv.release(one.table);
          std::swap(one, live.back());
          live.pop_back();
        }
      }
      kv.check_identity();
    }
    EXPECT_GT(hits, 5);
    for (Live& one : live) kv.release(one.table);
    EXPECT_EQ(kv.pool().n_available(), n_blocks);
    kv.forget_prefixes();
    EXPECT_EQ(kv.pool().n_free(), n_blocks);
    kv.check_identity();
  }
}

}  // namespace
}  // namespace moeopt
