// CpuBackend: tickets, results, counters, the memory it takes, and weights that do not fit the
// model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <thread>

#include "base/error.h"
#include "checkpoint/random_source.h"
#include "cpu/allocations_util.h"
#include "cpu/golden_util.h"
#include "cpu/ops_under_test.h"
#include "cpu/runner_util.h"

namespace moeopt::cpu {
namespace {

class CpuBackendTest : public testing::Test {
 protected:
  explicit CpuBackendTest(const std::string& name = "qwen2")
      : golden_(load_golden(name)),
        model_(load_model(golden_.folder)),
        limits_(small_limits(2, 40, 4, 30)),
        backend_(model_.spec, *model_.source, limits_, make_reference_ops()),
        plan_(backend_.capacity()),
        table_(plain_table(limits_)) {
    for (const std::int32_t id : golden_.prompt) tokens_.push_back(TokenRef::literal(id));
  }

  // The prompt's first n tokens; samples and logits of its last.
  void fill(int n, std::int32_t flags) {
    plan_.clear();
    plan_.add_sequence(0, 0, std::span(tokens_).first(static_cast<std::size_t>(n)), table_);
    plan_.add_sample(n - 1, 0, flags);
  }

  Golden golden_;
  LoadedModel model_;
  ExecutionLimits limits_;
  CpuBackend backend_;
  StepPlan plan_;
  std::vector<std::int32_t> table_;
  std::vector<TokenRef> tokens_;
};

class CpuBackendAllocationTest : public testing::TestWithParam<OpsUnderTest> {};

TEST_P(CpuBackendAllocationTest, StepsAllocateNothing) {
  for (const char* name : {"qwen2", "deepseek-v3-fp8"}) {
    const Golden golden = load_golden(name);
    const LoadedModel model = load_model(golden.folder);
    const ExecutionLimits limits = small_limits(2, 40, 4, 30);
    CpuBackend backend(model.spec, *model.source, limits, GetParam().make());
    const auto table = plain_table(limits);
    StepPlan plan(backend.capacity());
    SamplingParams params;
    params.top_p = 0.9f;
    params.frequency_penalty = 0.1f;
    params.n_logprobs = 5;
    backend.bind_slot(0, params, golden.prompt);
    const auto steps = [&](int first, int n) {
      Ticket last;
      for (int i = first; i < first + n; ++i) {
        plan.clear();
        const std::array tokens = {TokenRef::last_sample_of(0), TokenRef::literal(5)};
        plan.add_copy(20, 21);
        plan.add_sequence(0, i, tokens, table);
        plan.add_sample(1, 0, kSampleToken | kWantLogits);
        backend.prepare(plan);
        const Ticket next = backend.launch();
        if (last.step > 0) backend.wait(last);
        last = next;
      }
      backend.wait(last);
    };
    steps(0, 2);  // what a C library sets up once
    start_counting_allocations();
    steps(2, 10);
    EXPECT_EQ(stop_counting_allocations(), 0u) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuBackendAllocationTest, testing::ValuesIn(ops_under_test()),
                         [](const auto& ops) { return name_of(ops.param); });

TEST(CountedAllocations, AreThoseOfEveryThread) {
  start_counting_allocations();
  std::thread([] { delete new int(1); }).join();
  const std::size_t counted = stop_counting_allocations();
  if (counts_allocations()) {
    EXPECT_GT(counted, 0u);
  }
}

TEST_F(CpuBackendTest, ResultsOutliveTheNextLaunch) {
  fill(5, kSampleToken | kWantLogits);
  backend_.bind_slot(0, {}, golden_.prompt);
  backend_.prepare(plan_);
  const Ticket first = backend_.launch();
  const StepResult result = backend_.wait(first);
  const std::vector<float> logits(result.logits.begin(), result.logits.end());
  const std::vector<std::uint32_t> counts(result.expert_counts.begin(), result.expert_counts.end());
  fill(9, kSampleToken | kWantLogits);
  backend_.prepare(plan_);
  const Ticket second = backend_.launch();
  EXPECT_EQ(second.step, first.step + 1);
  backend_.wait(second);
  EXPECT_TRUE(std::ranges::equal(result.logits, logits));
  EXPECT_TRUE(std::ranges::equal(result.expert_counts, counts));
  EXPECT_TRUE(std::ranges::equal(backend_.wait(first).logits, logits));
}

TEST_F(CpuBackendTest, LogitsAreOfTheRowsThatAskedInOrder) {
  plan_.clear();
  plan_.add_sequence(0, 0, std::span(tokens_).first(6), table_);
  plan_.add_sample(1, 0, kSampleToken);
  plan_.add_sample(4, 0, kWantLogits);
  plan_.add_sample(5, 0, kSampleToken);
  plan_.add_sample(2, 0, kWantLogits);
  SamplingParams greedy;
  greedy.temperature = 0;
  backend_.bind_slot(0, greedy, {});
  backend_.prepare(plan_);
  const StepResult result = backend_.wait(backend_.launch());
  const auto vocab = static_cast<std::size_t>(model_.spec.vocab);
  ASSERT_EQ(result.logits.size(), 2 * vocab);
  const auto near = [&](std::size_t row, std::size_t position) {
    double worst = 0;
    for (std::size_t i = 0; i < vocab; ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(result.logits[row * vocab + i]) -
                                        golden_.logits[position * vocab + i]));
    }
    return worst < 1e-3;
  };
  EXPECT_TRUE(near(0, 4));
  EXPECT_TRUE(near(1, 2));
  ASSERT_EQ(result.sampled.size(), 2u);
  for (const auto& [sample, position] : {std::pair{0, 1}, std::pair{1, 5}}) {
    const auto row = golden_.logits.begin() +
                     static_cast<std::ptrdiff_t>(static_cast<std::size_t>(position) * vocab);
    EXPECT_EQ(result.sampled[static_cast<std::size_t>(sample)].id,
              std::max_element(row, row + static_cast<std::ptrdiff_t>(vocab)) - row);
  }
}

// A shard that somebody overwrites while the model runs: the step fails, the program does not.
TEST(CpuBackendFiles, AShardCutWhileMappedFailsTheStep) {
  namespace fs = std::filesystem;
  std::string pattern = (fs::temp_directory_path() / "moeopt-cut-XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const fs::path folder = pattern;
  const Golden golden = load_golden("qwen2");
  fs::copy(golden.folder, folder, fs::copy_options::recursive);
  fs::path shard;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") shard = entry.path();
  }
  {
    const LoadedModel model = load_model(folder);
    const ExecutionLimits limits = small_limits(1, 40, 4, 12);
    CpuBackend backend(model.spec, *model.source, limits, make_fast_ops(2, ""));
    const std::vector<std::int32_t> table = plain_table(limits);
    logits_of(backend, 0, golden.prompt, 0, table);
    fs::resize_file(shard, 4096);
    try {
      logits_of(backend, 0, golden.prompt, 0, table);
      ADD_FAILURE() << "the step did not fail";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIo);
      EXPECT_THAT(error.what(), testing::HasSubstr(shard.string()));
    }
  }
  fs::remove_all(folder);
}

TEST_F(CpuBackendTest, CountsWhatItRan) {
  backend_.bind_slot(0, {}, golden_.prompt);
  fill(7, kSampleToken);
  backend_.prepare(plan_);
  const StepResult result = backend_.wait(backend_.launch());
  std::uint64_t moe_layers = 0, rows = 0;
  const std::size_t n_layers = model_.spec.layers.size();
  const std::size_t stride = result.expert_counts.size() / n_layers;
  for (std::size_t layer = 0; layer < n_layers; ++layer) {
    std::uint64_t of_layer = 0;
    for (std::size_t e = 0; e < stride; ++e) of_layer += result.expert_counts[layer * stride + e];
    const auto& moe = model_.spec.layers[layer].moe;
    EXPECT_EQ(of_layer, moe ? 7u * static_cast<unsigned>(moe->top_k) : 0u);
    moe_layers += moe ? 1 : 0;
    rows += of_layer;
  }
  for (std::size_t e = 0; e < stride; ++e) {
    std::uint32_t wanted = 0;
    for (int position = 0; position < 7; ++position) {
      const auto& ids = golden_.routing[0].experts[static_cast<std::size_t>(position)];
      wanted += static_cast<std::uint32_t>(std::ranges::count(ids, static_cast<std::int32_t>(e)));
    }
    EXPECT_EQ(result.expert_counts[e], wanted);
  }
  const Backend::Counters counters = backend_.counters();
  EXPECT_EQ(counters.steps, 1u);
  EXPECT_EQ(counters.tokens, 7u);
  EXPECT_EQ(counters.moe_layer_launches, moe_layers);
  EXPECT_EQ(counters.expert_rows, rows);
  EXPECT_EQ(counters.fp8_matrix_products, 0u);
}

TEST_F(CpuBackendTest, SaysHowManyLayersHaveTheirKeys) {
  fill(5, 0);
  plan_.set_signal_kv(true);
  backend_.prepare(plan_);
  const Ticket first = backend_.launch();
  backend_.wait(first);
  EXPECT_EQ(backend_.kv_layers_done(first), static_cast<int>(model_.spec.layers.size()));
  backend_.prepare(plan_);
  backend_.wait(backend_.launch());
  backend_.prepare(plan_);
  const Ticket third = backend_.launch();
  int before = 0;
  for (int now = 0; now < static_cast<int>(model_.spec.layers.size()); before = now) {
    now = backend_.kv_layers_done(third);
    ASSERT_GE(now, before);
  }
  EXPECT_EQ(backend_.kv_layers_done(first), static_cast<int>(model_.spec.layers.size()));
  backend_.wait(third);
}

TEST_F(CpuBackendTest, AllocatesWhatThePlanLists) {
  const auto planned = cpu_workspace(
      model_.spec, limits_, [](const ModelSpec& spec, int rows, std::int64_t context) {
        return make_reference_ops()->scratch_bytes(spec, rows, static_cast<int>(context));
      });
  ASSERT_EQ(backend_.buffers().size(), planned.size() + 1);
  for (std::size_t i = 0; i < planned.size(); ++i) {
    EXPECT_EQ(backend_.buffers()[i].name, planned[i].name);
    EXPECT_EQ(backend_.buffers()[i].bytes, planned[i].bytes);
  }
  EXPECT_EQ(backend_.buffers().back().name, "kv");
  EXPECT_EQ(backend_.buffers().back().bytes,
            backend_.kv_layout().token_bytes() *
                static_cast<unsigned>(limits_.block_tokens * limits_.kv_blocks));
}

TEST_F(CpuBackendTest, StopsWithStepsStillLaunched) {
  fill(20, kSampleToken);
  backend_.prepare(plan_);
  backend_.launch();
}

using CpuBackendDeathTest = CpuBackendTest;

TEST_F(CpuBackendDeathTest, BrokenPlansEndTheProgram) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const std::vector<std::int32_t> outside = {0, 30};
  plan_.clear();
  plan_.add_sequence(0, 0, std::span(tokens_).first(5), outside);
  EXPECT_DEATH(backend_.prepare(plan_), "kv_blocks");
  plan_.clear();
  plan_.add_sequence(0, 0, std::span(tokens_).first(5), std::span(table_).first(1));
  EXPECT_DEATH(backend_.prepare(plan_), ">= 0");
  plan_.clear();
  const TokenRef beyond = TokenRef::literal(static_cast<std::int32_t>(model_.spec.vocab));
  plan_.add_sequence(0, 0, {&beyond, 1}, table_);
  EXPECT_DEATH(backend_.prepare(plan_), "vocab");
}

class CpuBackendFp8Test : public CpuBackendTest {
 protected:
  CpuBackendFp8Test() : CpuBackendTest("qwen3-fp8") {}
};

TEST_F(CpuBackendFp8Test, CountsProductsWithFp8Weights) {
  fill(3, 0);
  backend_.prepare(plan_);
  backend_.wait(backend_.launch());
  EXPECT_GT(backend_.counters().fp8_matrix_products, 4u * model_.spec.layers.size());
}

// The tensors that a model needs, for spoiling one.
std::vector<TensorInfo> infos_of(const ModelSpec& spec) {
  std::vector<TensorInfo> infos;
  for (const WeightSpec& weight : weights_of(spec)) {
    TensorInfo info;
    info.name = weight.name;
    info.dtype = DType::kBF16;
    info.shape = weight.shape;
    infos.push_back(info);
  }
  return infos;
}

std::string failure_of(const ModelSpec& spec, std::vector<TensorInfo> infos, ErrorCode code) {
  const RandomSource source(std::move(infos), 1);
  try {
    const CpuBackend backend(spec, source, small_limits(1, 8, 4, 4), make_reference_ops());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "accepted";
}

TEST(CpuWeights, WhatDoesNotFitTheModelIsNamed) {
  const ModelSpec spec = load_model(load_golden("qwen2").folder).spec;
  const std::vector<TensorInfo> good = infos_of(spec);
  EXPECT_EQ(failure_of(spec, good, ErrorCode::kInternal), "accepted");
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}, good.size() / 2, good.size() - 1}) {
    auto infos = good;
    infos[i].name += ".gone";
    EXPECT_THAT(failure_of(spec, infos, ErrorCode::kNotFound), testing::HasSubstr(good[i].name));
    infos = good;
    infos[i].shape = Shape{3, 5};
    EXPECT_THAT(failure_of(spec, infos, ErrorCode::kInvalidData),
                testing::AllOf(testing::HasSubstr(good[i].name), testing::HasSubstr("[3, 5]")));
    infos = good;
    infos[i].dtype = DType::kI8;
    EXPECT_THAT(failure_of(spec, infos, ErrorCode::kInvalidData),
                testing::AllOf(testing::HasSubstr(good[i].name), testing::HasSubstr("i8")));
  }
}

TEST(CpuBackendPlan, AKvDtypeThatTheOpsDoNotKeepIsAnError) {
  const LoadedModel model = load_model(load_golden("qwen2").folder);
  MemoryPlan plan;
  plan.limits = small_limits(1, 8, 4, 4);
  plan.kv = kv_layout_of(model.spec, DType::kBF16, 4);
  try {
    const CpuBackend backend(model.spec, *model.source, plan, make_reference_ops());
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), testing::HasSubstr("kv-dtype is bf16"));
  }
}

TEST(CpuWeights, AModelThatIsOnlyInspectedDoesNotRun) {
  ModelSpec spec = load_model(load_golden("qwen2").folder).spec;
  spec.not_runnable = "because of this test";
  EXPECT_EQ(failure_of(spec, {}, ErrorCode::kUnsupported), "because of this test");
}

}  // namespace
}  // namespace moeopt::cpu
