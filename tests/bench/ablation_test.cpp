#include "bench/ablation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "bench/server_process.h"

namespace moeopt::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ServerOptimisation state(const char* name, const char* said, std::int64_t launches = 0,
                         const char* reason = "") {
  return {name, "prefer", said, reason, 4, launches};
}

AblationRun run_of(const char* configuration, int round, double speed, double ttft, double gap,
                   std::vector<ServerOptimisation> states) {
  AblationRun run;
  run.configuration = configuration;
  run.round = round;
  run.states = std::move(states);
  run.summary.requests = run.summary.answered = 10;
  run.summary.output_tokens_per_s = speed;
  run.summary.ttft_ms.p50 = ttft;
  run.summary.inter_token_ms.p99 = gap;
  return run;
}

const std::vector<ServerOptimisation> kProbe = {state("cache", "applied", 3),
                                                state("graphs", "declined", 0, "needs a GPU"),
                                                state("chunks", "applied", 1)};

std::vector<AblationRun> good_runs() {
  const std::vector<ServerOptimisation> on = {state("cache", "applied", 50),
                                              state("chunks", "applied", 9)};
  const std::vector<ServerOptimisation> no_cache = {state("cache", "off"),
                                                    state("chunks", "applied", 9)};
  const std::vector<ServerOptimisation> no_chunks = {state("cache", "applied", 50),
                                                     state("chunks", "off")};
  const std::vector<ServerOptimisation> none = {state("cache", "off"), state("chunks", "off")};
  return {run_of("all on", 0, 200, 10, 5, on),
          run_of("cache off", 0, 100, 40, 5, no_cache),
          run_of("chunks off", 0, 200, 10, 10, no_chunks),
          run_of("all off", 0, 50, 80, 10, none),
          run_of("all off", 1, 50, 80, 10, none),
          run_of("chunks off", 1, 210, 10, 20, no_chunks),
          run_of("cache off", 1, 50, 40, 5, no_cache),
          run_of("all on", 1, 200, 10, 5, on)};
}

TEST(Ablation, HasEachAppliedOneOffAndAllOff) {
  std::vector<std::string> names;
  const std::vector<std::string> two = {"a", "b"}, one = {"a"};
  for (const Configuration& c : configurations_of(two)) names.push_back(c.name);
  EXPECT_THAT(names, ElementsAre("all on", "a off", "b off", "all off"));
  EXPECT_THAT(configurations_of(two)[3].off, ElementsAre("a", "b"));
  EXPECT_THAT(configurations_of(two)[0].off, IsEmpty());
  EXPECT_EQ(configurations_of(one).size(), 2u);
  EXPECT_THAT(order_in_round(3, 0), ElementsAre(0, 1, 2));
  EXPECT_THAT(order_in_round(3, 1), ElementsAre(2, 1, 0));
}

TEST(Ablation, GainsAreRatiosOfTheSameRound) {
  const auto gains = gains_of(good_runs(), kProbe);
  ASSERT_EQ(gains.size(), 4u);
  EXPECT_EQ(gains[0].name, "cache");
  EXPECT_EQ(gains[0].reason, "");
  EXPECT_DOUBLE_EQ(gains[0].output_tokens_per_s.low, 2);
  EXPECT_DOUBLE_EQ(gains[0].output_tokens_per_s.high, 4);
  EXPECT_DOUBLE_EQ(gains[0].output_tokens_per_s.mean, std::sqrt(8.0));
  EXPECT_DOUBLE_EQ(gains[0].ttft_p50.mean, 4);  // the time without over the time with
  EXPECT_DOUBLE_EQ(gains[0].inter_token_p99.mean, 1);
  EXPECT_EQ(gains[1].reason, "NOT APPLIED: needs a GPU");
  EXPECT_DOUBLE_EQ(gains[2].inter_token_p99.low, 2);
  EXPECT_DOUBLE_EQ(gains[2].inter_token_p99.high, 4);
  EXPECT_EQ(gains[3].name, "all of them");
  EXPECT_DOUBLE_EQ(gains[3].output_tokens_per_s.mean, 4);
}

// The text's line of an optimisation.
std::string line_of(const std::vector<Gain>& gains, const std::string& name) {
  Ablation ablation;
  ablation.gains = gains;
  const std::string text = ablation_text(ablation);
  const auto at = text.find("\n" + name + " ");
  return at == text.npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

TEST(Ablation, WhatWasNotAppliedHasNoFigure) {
  const auto without_figure = [](auto change, const char* why) {
    auto runs = good_runs();
    change(runs);
    const auto gains = gains_of(runs, kProbe);
    EXPECT_THAT(gains[0].reason, HasSubstr(why));
    EXPECT_THAT(line_of(gains, "cache"), testing::Not(HasSubstr("x (")));
    EXPECT_FALSE(ablation_json({"", "", "", 1, runs, gains})["gains"][0].contains("ttft_p50"));
    EXPECT_EQ(gains[2].reason, "") << "the others keep theirs";
  };
  // In one round alone: it is enough.
  without_figure([](auto& runs) { runs[7].states[0] = state("cache", "declined", 0, "x"); },
                 "NOT APPLIED: declined in round 2");
  without_figure([](auto& runs) { runs[7].states.erase(runs[7].states.begin()); },
                 "NOT APPLIED: not reported");
  without_figure([](auto& runs) { runs[0].states[0].launches = 0; },
                 "NOT APPLIED: this workload gave it nothing to do");
  without_figure([](auto& runs) { runs[1].states[0] = state("cache", "applied", 4); },
                 "it was not off in round 1");
  without_figure([](auto& runs) { runs[1].summary.answered = 9; }, "1 of 10 requests failed");
  without_figure(
      [](auto& runs) {
        AblationRun failed;
        failed.configuration = "cache off";
        failed.failure = "too long a prompt";
        runs[1] = std::move(failed);
      },
      "cache off, round 1: too long a prompt");
  EXPECT_THAT(line_of(gains_of(good_runs(), kProbe), "graphs"), HasSubstr("NOT APPLIED"));
  EXPECT_THAT(line_of(gains_of(good_runs(), kProbe), "cache"), HasSubstr("2.83x (2.00..4.00)"));
}

TEST(Ablation, ARunWithFailuresWithAllOnTakesEveryFigure) {
  auto runs = good_runs();
  runs[0].summary.answered = 3;
  for (const Gain& gain : gains_of(runs, kProbe)) EXPECT_NE(gain.reason, "") << gain.name;
  EXPECT_THAT(gains_of({}, kProbe)[0].reason, HasSubstr("not measured"));
}

// A server of a few lines: optimisations from its flags, answers at once.
std::filesystem::path toy_server() {
  return std::filesystem::path(MOEOPT_SOURCE_DIR) / "tests/bench/toy_server.py";
}

AblationPlan toy_plan(std::vector<std::string> extra) {
  AblationPlan plan;
  plan.command = {"/usr/bin/python3", toy_server().string()};
  plan.command.insert(plan.command.end(), extra.begin(), extra.end());
  plan.optimisations = {"fast", "idle", "gpu"};
  plan.rounds = 2;
  plan.log_folder = std::filesystem::temp_directory_path();
  plan.measurement.workload.requests = 6;
  plan.measurement.workload.level = 2;
  plan.measurement.workload.output_tokens = LengthDistribution::always(4);
  return plan;
}

TEST(Ablation, StartsAServerForEachConfiguration) {
  AblationPlan plan = toy_plan({});
  std::vector<std::string> order;
  plan.on_status = [&order](const std::string& text) { order.push_back(text); };
  const Ablation ablation = ablate(plan);
  EXPECT_THAT(
      order, ElementsAre("round 1 of 2: all on", "round 1 of 2: fast off", "round 1 of 2: idle off",
                         "round 1 of 2: all off", "round 2 of 2: all off", "round 2 of 2: idle off",
                         "round 2 of 2: fast off", "round 2 of 2: all on"));
  EXPECT_EQ(ablation.model, "toy");
  ASSERT_EQ(ablation.gains.size(), 4u);
  EXPECT_EQ(ablation.gains[0].reason, "");
  EXPECT_GT(ablation.gains[0].output_tokens_per_s.low, 0);
  EXPECT_EQ(ablation.gains[1].reason, "NOT APPLIED: this workload gave it nothing to do");
  EXPECT_EQ(ablation.gains[2].reason, "NOT APPLIED: no GPU here");
  EXPECT_EQ(ablation.gains[3].reason, "");
  EXPECT_EQ(ablation_json(ablation)["runs"].size(), 8u);
}

TEST(Ablation, AConfigurationThatCannotServeTheWorkloadTakesItsOwnFigureAlone) {
  const Ablation ablation = ablate(toy_plan({"--needs", "fast"}));
  EXPECT_THAT(ablation.gains[0].reason, HasSubstr("fast off, round 1: the warm-up request failed"));
  EXPECT_EQ(ablation.gains[1].reason, "NOT APPLIED: this workload gave it nothing to do");
  EXPECT_THAT(ablation_text(ablation), HasSubstr("http 400"));
}

TEST(Ablation, SaysWhyAServerDidNotStart) {
  try {
    ablate(toy_plan({"--die", "no such model"}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("ended before it was ready"));
    EXPECT_THAT(error.hint(), HasSubstr("no such model"));
  }
}

TEST(ServerProcess, EndsEvenOneThatDoesNotWantTo) {
  const auto log = std::filesystem::temp_directory_path() / "bench_stubborn.log";
  ServerProcess server({"/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"}, log);
  const auto start = std::chrono::steady_clock::now();
  server.stop(std::chrono::milliseconds(100));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  EXPECT_THROW(ServerProcess({"/no/such/program"}, log), Error);
  std::filesystem::remove(log);
}

}  // namespace
}  // namespace moeopt::bench
