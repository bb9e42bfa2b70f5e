// Whenever the engine has nothing to do it counts its blocks and slots; one that is gone ends the
// program. What no test can make happen by requests is done here behind the engine's back.
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

class IdleCheck : public testing::Test {
 protected:
  BlockPool& blocks() { return const_cast<BlockPool&>(engine_.blocks()); }

  FakeBackend backend_{2, 8, 64, 4, 40};
  Engine engine_{backend_, nullptr, options_of(64, 8)};
};

TEST_F(IdleCheck, PassesBeforeAndAfterRequests) {
  EXPECT_FALSE(engine_.step());
  EXPECT_EQ(answer(engine_, request_of(counting(9), 4)).ids.size(), 4u);
  EXPECT_FALSE(engine_.step());
}

TEST_F(IdleCheck, ABlockThatNobodyGivesBackEndsTheProgram) {
  ASSERT_TRUE(blocks().allocate(1));
  EXPECT_DEATH(engine_.step(), "n_live");
  EXPECT_DEATH(answer(engine_, request_of({1}, 3)), "n_live");
}

TEST_F(IdleCheck, ABlockThatThePrefixCacheLostEndsTheProgram) {
  answer(engine_, request_of(counting(9), 4));
  std::int32_t cached = 0;
  while (!blocks().is_kept(cached)) ++cached;
  blocks().forget(cached);
  EXPECT_DEATH(engine_.step(), "is_kept");
}

TEST_F(IdleCheck, ASlotThatIsNotFreeEndsTheProgram) {
  const_cast<StepCapacity&>(backend_.capacity()).sequences += 1;
  EXPECT_DEATH(engine_.step(), "free_slots_");
}

}  // namespace
}  // namespace moeopt
