#include "plan/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/strings.h"
#include "plan/plan_util.h"

namespace moeopt {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kQwen = "Qwen3-30B-A3B";

MemoryPlan plan_on(std::string_view hardware, const test::Flags& flags = {}) {
  return test::plan_of(test::known_spec(kQwen), test::gpus(hardware), flags);
}

TEST(Report, TextSaysWhereTheBytesGo) {
  const MemoryPlan plan = plan_on("h200x8", {{"max-num-seqs", "64"}});
  const std::string text = plan_text(plan, test::known_spec(kQwen), kQwen);
  EXPECT_THAT(text, HasSubstr("Qwen3-30B-A3B (Qwen3MoeForCausalLM, 48 layers) on 8 x H200"));
  EXPECT_THAT(text, HasSubstr("memory of each of 8 GPUs (estimated)"));
  EXPECT_THAT(text, HasSubstr("routed experts       6.75 GiB   94.4%\n"));
  EXPECT_THAT(text, HasSubstr("communication"));
  EXPECT_THAT(text, HasSubstr("declined     flashdmoe           not in this version\n"));
  EXPECT_THAT(text, HasSubstr("off          disaggregation\n"));
  EXPECT_THAT(text, HasSubstr("max_num_seqs            64                  --max-num-seqs\n"));
  EXPECT_THAT(text, HasSubstr("max_model_len           auto -> 40960       default\n"));
  EXPECT_THAT(text, Not(HasSubstr("would apply"))) << "no backend of this version runs there";
}

TEST(Report, LinesFitATerminal) {
  for (const char* hardware : {"h100x1", "h200x8"}) {
    const std::string text = plan_text(plan_on(hardware), test::known_spec(kQwen), kQwen);
    for (const std::string& line : split(text, '\n')) {
      EXPECT_LE(line.size(), 120u) << line;
      EXPECT_FALSE(line.ends_with(' ')) << '"' << line << '"';
    }
  }
}

TEST(Report, APlanClaimsNothing) {
  const MemoryPlan plan = test::plan_of(test::tiny_spec(), test::cpu_with(test::kGiB));
  const std::string text = plan_text(plan, test::tiny_spec(), "tiny");
  EXPECT_THAT(text, HasSubstr("would apply  chunked-prefill     2 layers\n"));
  EXPECT_THAT(text, Not(HasSubstr("  applied")));
  EXPECT_THAT(text, Not(HasSubstr("estimated")));
}

TEST(Report, JsonSaysTheSame) {
  const MemoryPlan plan = plan_on("h200x8", {{"max-num-seqs", "64"}});
  const Json json = plan_json(plan, test::known_spec(kQwen), kQwen);
  EXPECT_EQ(json.at("ranks"), 8);
  EXPECT_EQ(json.at("estimated"), true);
  ASSERT_EQ(json.at("per_rank").size(), 8u);
  const Json& rank = json.at("per_rank").at(0);
  EXPECT_EQ(rank.at("weights").at("routed_experts"), 7'247'757'312u);
  EXPECT_EQ(rank.at("total_bytes"), plan.per_rank[0].total_bytes());
  EXPECT_EQ(json.at("kv").at("bytes_per_token"), 24'576);
  EXPECT_EQ(json.at("settings").at("max_num_seqs").at("value"), "64");
  EXPECT_EQ(json.at("settings").at("max_num_seqs").at("origin"), "--max-num-seqs");
  EXPECT_EQ(json.at("settings").at("max_model_len").at("planned"), "40960");
  EXPECT_EQ(json.at("optimisations").size(), 11u);
  EXPECT_EQ(json.at("optimisations").at(0).at("state"), "declined");
  EXPECT_TRUE(json.at("optimisations").at(0).at("measured_gain").is_null());
  std::uint64_t weights = 0;
  for (const Json& buffer : json.at("buffers")) {
    if (buffer.at("kind") == "weights") weights += buffer.at("bytes").get<std::uint64_t>();
  }
  EXPECT_EQ(weights, plan.per_rank[0].weight_bytes());
  EXPECT_NO_THROW(parse_json(json.dump(), "plan")) << "it reads back";
}

TEST(Report, AppliedShowsWhatWasCounted) {
  OptimisationState state;
  state.name = "fp8";
  state.status = OptimisationStatus::kApplied;
  state.layers = 61;
  state.launches = 122;
  EXPECT_EQ(optimisations_text({state}),
            "  applied      fp8                 61 layers, 122 launches\n");
  state.measured_gain = 1.5;
  EXPECT_THAT(optimisations_text({state}), HasSubstr("122 launches, measured 1.50x"));
  EXPECT_EQ(optimisations_json({state}).at(0).at("launches"), 122);
}

TEST(Report, NamesFromOutsideAreMadeSafe) {
  ModelSpec spec = test::tiny_spec();
  spec.architecture = "Evil\x1b[31m";
  const MemoryPlan plan = test::plan_of(spec, test::cpu_with(test::kGiB));
  EXPECT_THAT(plan_text(plan, spec, "a\nb"), Not(HasSubstr("\x1b")));
  EXPECT_THAT(plan_text(plan, spec, "a\nb"), HasSubstr("a\\x0ab"));
}

}  // namespace
}  // namespace moeopt
