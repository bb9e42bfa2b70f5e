#include "kv/block_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace moeopt {
namespace {

TEST(BlockPool, HandsOutEachBlockOnce) {
  BlockPool pool(5);
  const auto first = pool.allocate(3);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(*first, (std::vector<std::int32_t>{0, 1, 2}));
  EXPECT_EQ(pool.n_free(), 2);
  EXPECT_FALSE(pool.allocate(3).has_value()) << "all or nothing";
  EXPECT_EQ(pool.n_free(), 2);
  EXPECT_EQ(pool.allocate(2), (std::vector<std::int32_t>{3, 4}));
  EXPECT_EQ(pool.n_live(), 5);
  pool.check_identity();
}

TEST(BlockPool, SharedBlockIsFreeOnlyAfterItsLastUser) {
  BlockPool pool(2);
  const auto blocks = pool.allocate(1);
  ASSERT_TRUE(blocks.has_value());
  pool.retain(blocks->front());
  pool.release(*blocks);
  EXPECT_EQ(pool.n_live(), 1);
  pool.release(*blocks);
  EXPECT_EQ(pool.n_free(), 2);
}

TEST(BlockPoolDeathTest, RefusesToFreeTwice) {
  BlockPool pool(2);
  const auto blocks = pool.allocate(1);
  ASSERT_TRUE(blocks.has_value());
  pool.release(*blocks);
  EXPECT_DEATH(pool.release(*blocks), "references > 0");
  EXPECT_DEATH(pool.retain(1), "references > 0");
  EXPECT_DEATH(pool.retain(2), "block < n_blocks");
}

TEST(BlockPool, RandomUseAgainstAModel) {
  std::mt19937 random(20261121);
  BlockPool pool(37);
  std::map<std::int32_t, int> model;  // live block -> references
  std::vector<std::vector<std::int32_t>> held;
  for (int step = 0; step < 20000; ++step) {
    switch (random() % 3) {
      case 0: {
        const int count = static_cast<int>(random() % 8);
        const auto blocks = pool.allocate(count);
        ASSERT_EQ(blocks.has_value(), count <= 37 - static_cast<int>(model.size()));
        if (!blocks) break;
        for (const std::int32_t block : *blocks) ASSERT_TRUE(model.emplace(block, 1).second);
        held.push_back(*blocks);
        break;
      }
      case 1: {
        if (held.empty()) break;
        const auto shared = held[random() % held.size()];
        for (const std::int32_t block : shared) {
          pool.retain(block);
          ++model[block];
        }
        held.push_back(shared);
        break;
      }
      default: {
        if (held.empty()) break;
        const std::size_t index = random() % held.size();
        pool.release(held[index]);
        for (const std::int32_t block : held[index]) {
          if (--model[block] == 0) model.erase(block);
        }
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(index));
      }
    }
    ASSERT_EQ(pool.n_live(), static_cast<int>(model.size()));
    pool.check_identity();
  }
}

}  // namespace
}  // namespace moeopt
