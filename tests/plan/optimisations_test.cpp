#include "plan/optimisations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "plan/plan_util.h"

namespace moeopt {
namespace {

using test::Flags;
using test::thrown_by;
using testing::HasSubstr;
using testing::StartsWith;

OptimisationContext context_of(const ModelSpec& spec, const Hardware& hardware) {
  return {&spec, &hardware, hardware.devices, 512, 2048};
}

OptimisationState state_of(const std::vector<OptimisationState>& states, std::string_view name) {
  for (const OptimisationState& state : states) {
    if (state.name == name) return state;
  }
  throw std::runtime_error("no such state");
}

OptimisationState state_of(std::string_view name, const ModelSpec& spec, const Hardware& hardware,
                           const Flags& flags = {}) {
  return state_of(plan_optimisations(test::settings_of(flags), context_of(spec, hardware)), name);
}

ModelSpec fp8_spec() {
  return test::known_spec("DeepSeek-V3");
}

TEST(Registry, NamesAreTheOnesPromised) {
  std::set<std::string_view> names;
  for (const Optimisation& row : optimisation_table()) names.insert(row.name);
  EXPECT_EQ(names, (std::set<std::string_view>{"flashdmoe", "fp8", "cuda-graphs", "chunked-prefill",
                                               "prefix-cache", "dual-batch-overlap",
                                               "disaggregation", "kv-tiering", "expert-placement",
                                               "sparsity-2-4", "fp8-kv"}));
  EXPECT_EQ(find_optimisation("fp8")->name, "fp8");
  EXPECT_EQ(find_optimisation("FP8"), nullptr);
}

TEST(Registry, WhatIsNotBuiltIsDeclinedNeverOn) {
  const ModelSpec spec = fp8_spec();
  Flags all;
  for (const Optimisation& row : optimisation_table()) {
    all[fmt::format("enable-{}", row.name)] = "1";
  }
  for (const char* name : {"cpu", "h100x1", "h200x8", "b200x8"}) {
    const Hardware hardware = parse_hardware(name, {});
    for (const OptimisationState& state :
         plan_optimisations(test::settings_of(all), context_of(spec, hardware))) {
      const bool built =
          hardware.kind == HardwareKind::kCpu &&
          (state.name == "fp8" || state.name == "chunked-prefill" || state.name == "prefix-cache");
      EXPECT_EQ(state.status, built ? OptimisationStatus::kPlanned : OptimisationStatus::kDeclined)
          << state.name << " on " << name;
      if (!built) {
        EXPECT_THAT(state.reason, StartsWith("not in this version")) << state.name;
      }
      EXPECT_EQ(state.launches, 0u);
    }
  }
}

TEST(Registry, ReasonsNameTheModelAndTheHardware) {
  const ModelSpec spec = test::tiny_spec();
  const Hardware cpu = test::cpu_with(test::kGiB);
  EXPECT_THAT(state_of("fp8", spec, cpu).reason, StartsWith("the weights are bf16, not fp8"));
  EXPECT_THAT(state_of("flashdmoe", spec, cpu).reason,
              HasSubstr("hidden size 64 and expert size 32 must be multiples of 128"));
  EXPECT_THAT(state_of("flashdmoe", fp8_spec(), cpu).reason,
              StartsWith("not in this version; besides, needs a Hopper GPU"));
  EXPECT_THAT(state_of("flashdmoe", fp8_spec(), test::gpus("b200x8")).reason,
              HasSubstr("b200x8 is not one"));
  EXPECT_EQ(state_of("flashdmoe", fp8_spec(), test::gpus("h100x1")).reason, "not in this version");
  EXPECT_THAT(
      state_of("disaggregation", spec, test::gpus("h100x1"), {{"enable-disaggregation", "1"}})
          .reason,
      HasSubstr("the plan has one rank"));
}

TEST(Registry, OffIsOff) {
  const OptimisationState state =
      state_of("chunked-prefill", test::tiny_spec(), test::cpu_with(test::kGiB),
               {{"disable-chunked-prefill", "1"}});
  EXPECT_EQ(state.status, OptimisationStatus::kOff);
  EXPECT_EQ(state.asked, Ask::kOff);
  EXPECT_EQ(state.reason, "");
  EXPECT_EQ(state.asked_by.text(), "--disable-chunked-prefill");
}

TEST(Registry, ChunkedPrefillIsOfUseHoweverLargeAStepIs) {
  const ModelSpec spec = test::tiny_spec();
  const Hardware cpu = test::cpu_with(test::kGiB);
  OptimisationContext context = context_of(spec, cpu);
  context.max_model_len = 512;
  const auto states = plan_optimisations(test::settings_of(), context);
  EXPECT_EQ(state_of(states, "chunked-prefill").status, OptimisationStatus::kPlanned)
      << "streams do not wait for a whole prompt";
}

TEST(Registry, LayersAreThoseItWouldActIn) {
  const ModelSpec v3 = fp8_spec();
  const Hardware cpu = test::cpu_with(test::kGiB);
  EXPECT_EQ(state_of("fp8", v3, cpu).layers, 61);
  EXPECT_EQ(find_optimisation("flashdmoe")->layers(v3), 58) << "three of 61 are dense";
}

TEST(Registry, RequiredAndDeclinedStopsBeforeAnyWeight) {
  const ModelSpec spec = test::tiny_spec();
  for (const Optimisation& row : optimisation_table()) {
    if (row.name == "chunked-prefill" || row.name == "prefix-cache") continue;
    const auto thrown = thrown_by([&] {
      test::plan_of(spec, test::cpu_with(test::kGiB), {{fmt::format("require-{}", row.name), "1"}});
    });
    EXPECT_EQ(thrown.code, ErrorCode::kRequirement) << row.name;
    EXPECT_EQ(exit_code(thrown.code), 4);
    EXPECT_THAT(thrown.what, StartsWith(fmt::format(
                                 "{0} is required (--require-{0}) and declined: ", row.name)));
  }
  EXPECT_NO_THROW(test::plan_of(spec, test::cpu_with(test::kGiB),
                                {{"require-chunked-prefill", "1"}, {"require-prefix-cache", "1"}}));
}

class Ledger : public testing::Test {
 protected:
  static std::vector<OptimisationState> planned(const Flags& flags = {}) {
    static const ModelSpec kSpec = fp8_spec();
    static const Hardware kCpu = test::cpu_with(test::kGiB);
    return plan_optimisations(test::settings_of(flags), context_of(kSpec, kCpu));
  }
};

TEST_F(Ledger, AppliedOnlyAfterACountedLaunch) {
  OptimisationLedger ledger(planned());
  EXPECT_TRUE(ledger.is_wanted("fp8"));
  EXPECT_FALSE(ledger.is_wanted("flashdmoe"));
  EXPECT_EQ(state_of(ledger.states(), "fp8").status, OptimisationStatus::kPlanned);
  std::uint64_t traffic = 0;
  ledger.confirm("fp8", 61, 122, [&] { return traffic; });
  ledger.finish_startup();
  EXPECT_EQ(state_of(ledger.states(), "fp8").status, OptimisationStatus::kApplied);
  EXPECT_EQ(state_of(ledger.states(), "fp8").layers, 61);
  traffic = 7;
  EXPECT_EQ(state_of(ledger.states(), "fp8").launches, 7u) << "traffic, apart from the start-up";
  EXPECT_EQ(state_of(ledger.states(), "fp8").measured_gain, std::nullopt);
  ledger.record_gain("fp8", 1.25);
  EXPECT_EQ(state_of(ledger.states(), "fp8").measured_gain, 1.25);
}

TEST_F(Ledger, ACounterThatDidNotMoveIsDeclined) {
  OptimisationLedger ledger(planned());
  ledger.confirm("fp8", 61, 0);
  EXPECT_EQ(state_of(ledger.states(), "fp8").status, OptimisationStatus::kPlanned);
  ledger.finish_startup();
  EXPECT_EQ(state_of(ledger.states(), "fp8").status, OptimisationStatus::kDeclined);
  EXPECT_EQ(state_of(ledger.states(), "fp8").reason,
            "its counter did not move in the start-up step");
  EXPECT_EQ(state_of(ledger.states(), "fp8").layers, 0);
  EXPECT_EQ(state_of(ledger.states(), "chunked-prefill").status, OptimisationStatus::kDeclined);
}

TEST_F(Ledger, RequiredAndNotCountedDoesNotStart) {
  OptimisationLedger ledger(planned({{"require-fp8", "1"}}));
  const auto thrown = thrown_by([&] { ledger.finish_startup(); });
  EXPECT_EQ(thrown.code, ErrorCode::kRequirement);
  EXPECT_THAT(thrown.what, HasSubstr("fp8 is required (--require-fp8) and declined: its counter"));

  OptimisationLedger confirmed(planned({{"require-fp8", "1"}}));
  confirmed.confirm("fp8", 61, 1);
  EXPECT_NO_THROW(confirmed.finish_startup());
}

TEST_F(Ledger, ABackendMayDecline) {
  OptimisationLedger ledger(planned());
  ledger.decline("fp8", "the CPU lacks the instruction");
  EXPECT_FALSE(ledger.is_wanted("fp8"));
  EXPECT_EQ(state_of(ledger.states(), "fp8").reason, "the CPU lacks the instruction");
}

using LedgerDeathTest = Ledger;
TEST_F(LedgerDeathTest, WhatIsNotWantedCannotBeConfirmed) {
  OptimisationLedger ledger(planned());
  EXPECT_DEATH(ledger.confirm("flashdmoe", 58, 1), "is_wanted");
  EXPECT_DEATH(ledger.confirm("nonsense", 58, 1), "");
}

}  // namespace
}  // namespace moeopt
