// A cancelled request is in no step that is scheduled after the cancellation came, whatever it was
// doing; its blocks are free when what was on its way is back, and others notice nothing.
#include <gtest/gtest.h>

#include <semaphore>

#include "engine/engine_service.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

constexpr int kBlocks = 60;

// Which slots each step held.
class StepsOf {
 public:
  explicit StepsOf(FakeBackend& backend) {
    backend.on_step = [this](const StepPlan& plan) {
      slots_.emplace_back();
      for (const StepSequence& sequence : plan.sequences()) slots_.back().insert(sequence.slot);
      if (on_step) on_step(static_cast<int>(slots_.size()));
    };
  }
  int n() const { return static_cast<int>(slots_.size()); }
  // The last step with this slot, counted from 1; 0: none.
  int last_with(int slot) const {
    for (int step = n(); step > 0; --step) {
      if (slots_[static_cast<std::size_t>(step - 1)].contains(slot)) return step;
    }
    return 0;
  }

  std::function<void(int step)> on_step;

 private:
  std::vector<std::set<int>> slots_;
};

constexpr int kVictim = 0, kOther = 1;  // slots, by order of admission

class Cancel : public testing::TestWithParam<bool> {};

// In the middle of a prompt of six chunks, and while it decodes.
TEST_P(Cancel, NoStepAfterItHoldsTheRequest) {
  for (int before = 1; before < 20; ++before) {
    FakeBackend backend(2, 8, 64, 4, kBlocks);
    StepsOf steps(backend);
    EngineOptions options = options_of(64, 8);
    options.overlap = GetParam();
    options.prefix_cache = false;
    Engine engine(backend, nullptr, options);
    Collected victim, other;
    const RequestId id = engine.submit(request_of(counting(40), 24), collect_into(victim));
    engine.submit(request_of({5, 6}, 50), collect_into(other));
    for (int i = 0; i < before; ++i) engine.step();
    const int launched = steps.n();
    const auto delivered = victim.ids.size();
    engine.cancel(id);
    EXPECT_EQ(victim.finish, FinishReason::kCancelled) << "said at once";
    engine.step();  // what was on its way comes back
    EXPECT_LE(steps.last_with(kVictim), launched) << "after " << before << " steps";
    const int of_other = 2 + static_cast<int>(other.ids.size()) + 3;  // and what is on its way
    EXPECT_LE(engine.blocks().n_live(), (of_other + 3) / 4) << "its blocks are free";
    run(engine);
    EXPECT_LE(steps.last_with(kVictim), launched);
    EXPECT_EQ(victim.ids.size(), delivered);
    EXPECT_EQ(victim.n_finishes, 1);
    EXPECT_EQ(other.ids, FakeBackend::expected({5, 6}, 50));
    EXPECT_EQ(engine.blocks().n_free(), kBlocks);
  }
}

TEST_P(Cancel, AloneItCostsNoFurtherStep) {
  FakeBackend backend(2, 8, 64, 4, kBlocks);
  StepsOf steps(backend);
  EngineOptions options = options_of(64, 8);
  options.overlap = GetParam();
  Engine engine(backend, nullptr, options);
  Collected victim;
  const RequestId id = engine.submit(request_of({1, 2, 3}, 50), collect_into(victim));
  for (int i = 0; i < 10; ++i) engine.step();
  const int launched = steps.n();
  engine.cancel(id);
  EXPECT_FALSE(engine.step());
  EXPECT_EQ(steps.n(), launched);
  EXPECT_EQ(engine.blocks().n_live(), 0);
}

INSTANTIATE_TEST_SUITE_P(Overlap, Cancel, testing::Bool());

// From another thread, while a step is being prepared: that one holds it, the next one does not.
TEST(CancelFromAnotherThread, TheStepAtHandIsTheLastOne) {
  FakeBackend backend(2, 8, 64, 4, kBlocks);
  StepsOf steps(backend);
  constexpr int kHeld = 12;
  std::binary_semaphore held{0}, goes_on{0}, both_in{0};
  steps.on_step = [&](int step) {
    if (step == 1) both_in.acquire();
    if (step != kHeld) return;
    held.release();
    goes_on.acquire();
  };
  EngineOptions options = options_of(64, 8);
  EngineService service(std::make_unique<Engine>(backend, nullptr, options), {});
  Collected victim, other;
  std::atomic<int> n_ended{0};
  const auto counted = [&n_ended](Collected& out) {
    return [&](const Event& event) {
      out.take(event);
      if (event.finish != FinishReason::kNone) n_ended += 1;
    };
  };
  const RequestId id = service.submit(request_of({1}, 60), counted(victim));
  service.submit(request_of({2}, 60), counted(other));
  both_in.release();
  held.acquire();
  service.cancel(id);
  goes_on.release();
  while (n_ended < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_TRUE(service.stop(std::chrono::milliseconds(1000)));
  EXPECT_EQ(steps.last_with(kVictim), kHeld);
  EXPECT_EQ(victim.finish, FinishReason::kCancelled);
  EXPECT_LE(victim.ids.size(), static_cast<std::size_t>(kHeld));
  EXPECT_EQ(other.ids, FakeBackend::expected({2}, 60));
  EXPECT_GT(steps.last_with(kOther), kHeld);
}

}  // namespace
}  // namespace moeopt
