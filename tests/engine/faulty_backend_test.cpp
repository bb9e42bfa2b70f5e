// Faults on purpose, through the engine: each ends what it should end and nothing else.
#include "backend/faulty_backend.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/log.h"
#include "engine/engine.h"
#include "engine/engine_util.h"
#include "engine/fake_backend.h"

namespace moeopt {
namespace {

std::unique_ptr<FaultyBackend> backend_with(const char* faults) {
  return std::make_unique<FaultyBackend>(std::make_unique<FakeBackend>(2, 8, 64, 4, 40),
                                         parse_faults(faults));
}

TEST(Faults, EachKindEndsTheRequestsOfItsStepAlone) {
  log::set_level(log::Level::kOff);
  const std::pair<const char*, const char*> kinds[] = {
      {"throw@3", "on purpose at step 3"}, {"alloc@3", "alloc"}, {"nan@3", "not finite"}};
  for (const auto& [faults, why] : kinds) {
    const auto backend = backend_with(faults);
    EngineOptions options;
    options.max_model_len = 64;
    options.max_step_tokens = 8;
    Engine engine(*backend, nullptr, options);
    Collected bad, good;
    engine.submit(request_of({1}, 6), collect_into(bad));
    while (engine.step()) {
    }
    engine.submit(request_of({2}, 6), collect_into(good));
    while (engine.step()) {
    }
    EXPECT_EQ(bad.finish, FinishReason::kError) << faults;
    EXPECT_NE(bad.error.find(why), std::string::npos) << bad.error;
    EXPECT_EQ(good.ids, FakeBackend::expected({2}, 6)) << faults;
  }
  log::set_level(log::Level::kInfo);
}

TEST(Faults, AStallOnlyTakesItsTime) {
  const auto backend = backend_with("stall@2:30");
  EngineOptions options;
  options.max_model_len = 64;
  options.max_step_tokens = 8;
  Engine engine(*backend, nullptr, options);
  Collected got;
  const auto began = std::chrono::steady_clock::now();
  engine.submit(request_of({1}, 6), collect_into(got));
  while (engine.step()) {
  }
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(30));
  EXPECT_EQ(got.ids, FakeBackend::expected({1}, 6));
}

TEST(Faults, AreReadOrRefused) {
  const auto faults = parse_faults("throw@10,stall@20:5000,alloc@30,nan@1");
  ASSERT_EQ(faults.size(), 4u);
  EXPECT_EQ(faults[1].kind, Fault::Kind::kStall);
  EXPECT_EQ(faults[1].step, 20u);
  EXPECT_EQ(faults[1].ms, 5000);
  for (const char* bad : {"", "throw", "throw@", "throw@0", "throw@-1", "throw@1:5", "stall@1",
                          "stall@1:", "stall@1:-5", "fire@1", "throw@1,", "nan@x", "stall:5@1"}) {
    EXPECT_THROW(parse_faults(bad), Error) << bad;
  }
}

}  // namespace
}  // namespace moeopt
