// The plan's arithmetic against figures worked out by hand from the published configurations.
#include "plan/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/random_source.h"
#include "plan/plan_util.h"

namespace moeopt {
namespace {

using test::Flags;
using test::kGiB;
using test::thrown_by;
using testing::HasSubstr;

std::uint64_t of_class(const RankPlan& rank, WeightClass weight_class) {
  return rank.weights[static_cast<std::size_t>(weight_class)];
}

bool has_note(const MemoryPlan& plan, PlanNote::Kind kind, std::string_view part) {
  return std::ranges::any_of(plan.notes, [&](const PlanNote& note) {
    return note.kind == kind && note.text.find(part) != std::string::npos;
  });
}

// Sums of the buffers are the rank's figures, and everything is inside the budget.
void expect_consistent(const MemoryPlan& plan) {
  ASSERT_EQ(plan.per_rank.size(), static_cast<std::size_t>(plan.ranks));
  for (int r = 0; r < plan.ranks; ++r) {
    const RankPlan& rank = plan.per_rank[static_cast<std::size_t>(r)];
    RankPlan sum;
    for (const PlannedBuffer& buffer : plan.buffers) {
      if (buffer.rank != r) continue;
      switch (buffer.kind) {
        case BufferKind::kWeight:
          sum.weights[static_cast<std::size_t>(*buffer.weight_class)] += buffer.bytes;
          EXPECT_FALSE(buffer.sources.empty()) << buffer.name;
          break;
        case BufferKind::kKv:
          sum.kv_bytes += buffer.bytes;
          break;
        case BufferKind::kWorkspace:
          sum.workspace_bytes += buffer.bytes;
          break;
        case BufferKind::kCommunication:
          sum.communication_bytes += buffer.bytes;
          break;
      }
    }
    EXPECT_EQ(sum.weights, rank.weights);
    EXPECT_EQ(sum.kv_bytes, rank.kv_bytes);
    EXPECT_EQ(sum.workspace_bytes, rank.workspace_bytes);
    EXPECT_EQ(sum.communication_bytes, rank.communication_bytes);
    EXPECT_LE(rank.total_bytes(), plan.budget_bytes);
  }
}

TEST(MemoryPlan, Qwen3OnOneGpu) {
  const MemoryPlan plan = test::plan_of(test::known_spec("Qwen3-30B-A3B"), test::gpus("h200x1"));
  const RankPlan& rank = plan.per_rank.at(0);
  EXPECT_EQ(of_class(rank, WeightClass::kEmbedding), 151'936u * 2048 * 2);
  EXPECT_EQ(of_class(rank, WeightClass::kLmHead), 151'936u * 2048 * 2);
  EXPECT_EQ(of_class(rank, WeightClass::kAttention), 1'811'939'328u);       // 48 x 18,874,368 x 2
  EXPECT_EQ(of_class(rank, WeightClass::kRouter), 25'165'824u);             // 48 x 128 x 2048 x 2
  EXPECT_EQ(of_class(rank, WeightClass::kRoutedExperts), 57'982'058'496u);  // 48x128x3x768x2048x2
  EXPECT_EQ(of_class(rank, WeightClass::kNorms), 421'888u);  // (48 x (2x2048 + 2x128) + 2048) x 2
  EXPECT_EQ(of_class(rank, WeightClass::kSharedExperts), 0u);
  EXPECT_EQ(of_class(rank, WeightClass::kDenseMlp), 0u);
  EXPECT_EQ(rank.weight_bytes(), 61'064'245'248u);  // 30,532,122,624 parameters in bf16
  EXPECT_EQ(plan.kv_token_bytes, 98'304u);
  EXPECT_EQ(rank.kv_bytes, std::uint64_t{98'304} * 16 * plan.limits.kv_blocks);
  EXPECT_EQ(plan.limits.max_model_len, 40'960);
  EXPECT_TRUE(plan.estimated);
  // All that the budget leaves is KV: not one more block fits.
  EXPECT_GT(rank.total_bytes() + 98'304 * 16, plan.budget_bytes);
  expect_consistent(plan);
}

TEST(MemoryPlan, Qwen3OnEightGpus) {
  const MemoryPlan plan = test::plan_of(test::known_spec("Qwen3-30B-A3B"), test::gpus("h200x8"));
  EXPECT_EQ(plan.ranks, 8);
  const RankPlan& rank = plan.per_rank.at(7);
  EXPECT_EQ(of_class(rank, WeightClass::kRoutedExperts), 7'247'757'312u);  // 16 of 128 experts
  EXPECT_EQ(of_class(rank, WeightClass::kAttention), 251'658'240u);  // K and V: one head of four
  EXPECT_EQ(of_class(rank, WeightClass::kEmbedding), 77'791'232u);
  EXPECT_EQ(of_class(rank, WeightClass::kRouter), 25'165'824u) << "on each";
  EXPECT_EQ(plan.kv_token_bytes, 24'576u) << "one KV head of four on each";
  EXPECT_GT(rank.communication_bytes, 0u);
  expect_consistent(plan);
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kInfo, "1 GPU would hold the model"));
}

TEST(MemoryPlan, DeepSeekV3InFp8) {
  const MemoryPlan plan = test::plan_of(test::known_spec("DeepSeek-V3"), test::gpus("h200x8"));
  const RankPlan& rank = plan.per_rank.at(0);
  // 58 layers x 256 experts x 3 x (2048 x 7168 + 16 x 56 scales x 4), an eighth of it.
  EXPECT_EQ(of_class(rank, WeightClass::kRoutedExperts), 654'068'416'512u / 8);
  // A layer: q_a, kv_a whole; q_b, kv_b, o an eighth; each with its scales.
  const std::uint64_t q_a = 1536u * 7168 + 12 * 56 * 4, kv_a = 576u * 7168 + 5 * 56 * 4;
  const std::uint64_t q_b = 3072u * 1536 + 24 * 12 * 4, kv_b = 4096u * 512 + 32 * 4 * 4;
  const std::uint64_t o = 7168u * 2048 + 56 * 16 * 4;
  EXPECT_EQ(of_class(rank, WeightClass::kAttention), 61 * (q_a + kv_a + q_b + kv_b + o));
  EXPECT_EQ(of_class(rank, WeightClass::kLmHead), 16'160u * 7168 * 2) << "never quantised";
  EXPECT_EQ(of_class(rank, WeightClass::kDenseMlp), 3u * 3 * (2304u * 7168 + 18 * 56 * 4));
  EXPECT_EQ(plan.kv_token_bytes, 70'272u) << "the latent on each rank";
  expect_consistent(plan);
}

TEST(MemoryPlan, TheCpuHoldsTheModelOnceAndKvForItsSequences) {
  const ModelSpec spec = test::tiny_spec();
  const MemoryPlan plan = test::plan_of(spec, test::cpu_with(4 * kGiB));
  EXPECT_FALSE(plan.estimated);
  EXPECT_EQ(plan.ranks, 1);
  EXPECT_EQ(plan.limits.max_sequences, 8);
  EXPECT_EQ(plan.limits.max_model_len, 2048) << "the model's own, below 4096";
  EXPECT_EQ(plan.limits.max_step_tokens, 512);
  EXPECT_EQ(plan.limits.kv_blocks, 8 * 2048 / 16);
  EXPECT_EQ(plan.per_rank[0].kv_bytes, 8u * 2048 * 256);  // 2 layers x 2 x 2 heads x 16 x 2 bytes
  EXPECT_LT(plan.per_rank[0].total_bytes(), 100u << 20) << "a tiny model takes little";
  EXPECT_EQ(plan.buffer("kv").bytes, plan.per_rank[0].kv_bytes);
  EXPECT_EQ(thrown_by([&] { (void)plan.buffer("nonsense"); }).code, ErrorCode::kInternal);
  expect_consistent(plan);
}

TEST(MemoryPlan, HeadersSayMoreThanTheConfig) {
  const ModelSpec spec = test::tiny_spec();
  std::vector<TensorInfo> tensors;
  for (const WeightSpec& weight : weights_of(spec)) {
    const bool is_router = weight.role == WeightRole::kRouter;
    tensors.push_back({weight.name, is_router ? DType::kF32 : DType::kBF16, weight.shape, 0, ""});
  }
  const RandomSource source(tensors, 1);
  const Settings settings = test::settings_of();
  const Hardware cpu = test::cpu_with(4 * kGiB);
  PlanInput input;
  input.spec = &spec;
  input.settings = &settings;
  input.hardware = &cpu;
  const std::uint64_t by_config = plan_memory(input).per_rank[0].weight_bytes();
  input.tensors = &source;
  const MemoryPlan exact = plan_memory(input);
  EXPECT_EQ(exact.per_rank[0].weight_bytes(), total_bytes(source));
  EXPECT_EQ(exact.per_rank[0].weight_bytes() - by_config, 2u * 8 * 64 * 2) << "two f32 routers";
}

TEST(MemoryPlan, ScratchIsWhatTheOpsAskFor) {
  const ModelSpec spec = test::tiny_spec();
  const Settings settings = test::settings_of({{"max-num-batched-tokens", "32"}});
  const Hardware cpu = test::cpu_with(4 * kGiB);
  PlanInput input;
  input.spec = &spec;
  input.settings = &settings;
  input.hardware = &cpu;
  input.scratch = [](const ModelSpec&, int rows, std::int64_t context) {
    return static_cast<std::uint64_t>(rows * context);
  };
  EXPECT_EQ(plan_memory(input).buffer("scratch").bytes, 32u * 2048);
  input.max_logit_rows = 1000;
  EXPECT_EQ(plan_memory(input).limits.max_logit_rows, 32) << "at most the rows of a step";
}

TEST(MemoryPlan, LargestContextAndBatchAreTheLargest) {
  const ModelSpec spec = test::tiny_spec({{"max_position_embeddings", "10000000"}});
  const Hardware cpu = test::cpu_with(600 << 20);
  const MemoryPlan plan = test::plan_of(spec, cpu, {{"max-model-len", "10000"}});
  const auto fits = [&](std::int64_t length, std::int64_t batch) {
    Flags flags = {{"max-model-len", std::to_string(length)},
                   {"batch-size", std::to_string(batch)},
                   {"max-num-seqs", std::to_string(std::max<std::int64_t>(batch, 8))}};
    if (batch > 1) flags.erase("max-num-seqs");
    return thrown_by([&] { test::plan_of(spec, cpu, flags); }).code != ErrorCode::kDoesNotFit;
  };
  EXPECT_GT(plan.largest_context, 10'000);
  EXPECT_LT(plan.largest_context, 10'000'000);
  EXPECT_TRUE(fits(plan.largest_context, 1));
  EXPECT_FALSE(fits(plan.largest_context + 16, 1));
  EXPECT_GT(plan.largest_batch, 8);
  EXPECT_TRUE(fits(10'000, plan.largest_batch));
  EXPECT_FALSE(fits(10'000, plan.largest_batch + 1));
}

TEST(MemoryPlan, AutoShrinksUntilItFits) {
  const ModelSpec spec = test::known_spec("Qwen3-30B-A3B");
  Flags flags = {{"gpu-memory-utilization", "1"}, {"max-num-seqs", "1"}};
  const RankPlan roomy = test::plan_of(spec, test::cpu_with(80 * kGiB), flags).per_rank[0];
  // 100 MiB of KV where 4096 tokens take 384: shorter sequences.
  const Hardware tight = test::cpu_with(roomy.total_bytes() - roomy.kv_bytes + (100 << 20));
  MemoryPlan plan = test::plan_of(spec, tight, flags);
  EXPECT_GE(plan.limits.max_model_len, 1056);
  EXPECT_LT(plan.limits.max_model_len, 1200);
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kInfo, "of the usual 4096, so that the plan fits"));
  expect_consistent(plan);
  // Asked for, it does not shrink.
  flags["max-model-len"] = "4096";
  EXPECT_EQ(thrown_by([&] { test::plan_of(spec, tight, flags); }).code, ErrorCode::kDoesNotFit);
  // Fewer sequences before shorter ones: their logits and counters go first.
  flags = {{"gpu-memory-utilization", "1"}};
  plan = test::plan_of(spec, test::cpu_with(roomy.total_bytes() + (2 << 20)), flags);
  EXPECT_EQ(plan.limits.max_model_len, 4096);
  EXPECT_GE(plan.limits.max_sequences, 1);
  EXPECT_LT(plan.limits.max_sequences, 8);
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kInfo, "of the usual 8, so that the plan fits"));
}

TEST(MemoryPlan, TheKvCacheTakesWhatIsLeft) {
  const ModelSpec spec = test::tiny_spec({{"max_position_embeddings", "100000"}});
  const MemoryPlan plan = test::plan_of(spec, test::cpu_with(400 << 20),
                                        {{"max-model-len", "100000"}, {"max-num-seqs", "64"}});
  EXPECT_LT(plan.limits.kv_blocks, 64 * 6250);
  EXPECT_GE(plan.limits.kv_blocks, 6250);
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kInfo, "of 64 sequences at 100000 tokens"));
  expect_consistent(plan);
}

TEST(MemoryPlan, KvCacheTokensBoundTheBlocks) {
  const ModelSpec spec = test::tiny_spec();
  const Flags flags = {{"max-num-seqs", "16"}, {"kv-cache-tokens", "4096"}};
  MemoryPlan plan = test::plan_of(spec, test::cpu_with(4 * kGiB), flags);
  EXPECT_EQ(plan.limits.kv_blocks, 256);
  EXPECT_EQ(plan.limits.max_model_len, 2048);
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kInfo, "the KV blocks hold 2 of 16 sequences"));
  expect_consistent(plan);
  // No more than there is use or room for.
  plan = test::plan_of(spec, test::cpu_with(4 * kGiB), {{"kv-cache-tokens", "1000000"}});
  EXPECT_EQ(plan.limits.kv_blocks, 8 * 2048 / 16);
  // A GPU's are bounded too.
  plan = test::plan_of(test::known_spec("Qwen3-30B-A3B"), test::gpus("h200x1"),
                       {{"kv-cache-tokens", "65536"}});
  EXPECT_EQ(plan.limits.kv_blocks, 4096);
  EXPECT_EQ(plan.limits.max_model_len, 40'960);
  // An auto length gives way, whole blocks at a time; one that was asked for does not.
  plan = test::plan_of(spec, test::cpu_with(4 * kGiB), {{"kv-cache-tokens", "1000"}});
  EXPECT_EQ(plan.limits.max_model_len, 992);
  EXPECT_EQ(plan.limits.kv_blocks, 62);
  EXPECT_EQ(thrown_by([&] {
              test::plan_of(spec, test::cpu_with(4 * kGiB),
                            {{"kv-cache-tokens", "1000"}, {"max-model-len", "1000"}});
            }).what,
            "kv_cache_tokens 1000 (--kv-cache-tokens) does not hold a sequence of max_model_len "
            "1000");
  EXPECT_EQ(thrown_by([&] {
              test::plan_of(spec, test::cpu_with(4 * kGiB),
                            {{"kv-cache-tokens", "16"}, {"batch-size", "2"}});
            }).code,
            ErrorCode::kUsage);
}

TEST(MemoryPlan, AWrongGpuCountIsAWarningWithTheCountThatWorks) {
  const ModelSpec qwen = test::known_spec("Qwen1.5-MoE-A2.7B");
  MemoryPlan plan = test::plan_of(qwen, test::gpus("h100x8"), {{"gpus", "8"}});
  EXPECT_EQ(plan.ranks, 4);
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kWarning,
                       "8 GPUs do not work: 60 experts do not divide by 8; 4 work"));
  plan = test::plan_of(qwen, test::gpus("h100x8"), {{"gpus", "3"}});
  EXPECT_EQ(plan.ranks, 2);
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kWarning,
                       "16 attention heads do not divide by 3; 2 work, and the plan is for that "
                       "(4 would work too)"));
  plan = test::plan_of(qwen, test::gpus("h100x2"), {{"gpus", "4"}});
  EXPECT_EQ(plan.ranks, 2);
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kWarning, "h100x2 has 2"));
  plan = test::plan_of(qwen, test::cpu_with(64 * kGiB), {{"gpus", "4"}});
  EXPECT_TRUE(has_note(plan, PlanNote::Kind::kWarning, "--hardware h100x4"));
  plan = test::plan_of(qwen, test::gpus("h100x4"), {{"gpus", "4"}});
  EXPECT_FALSE(has_note(plan, PlanNote::Kind::kWarning, "GPUs"));
}

TEST(MemoryPlan, SettingsThatContradictTheModelAreRefused) {
  const ModelSpec spec = test::tiny_spec();
  const auto refusal = [&](const Flags& flags) {
    return thrown_by([&] { test::plan_of(spec, test::cpu_with(kGiB), flags); });
  };
  EXPECT_EQ(refusal({{"max-model-len", "2049"}}).what,
            "max_model_len 2049 (--max-model-len) is more than the model's 2048 positions");
  EXPECT_EQ(refusal({{"max-model-len", "2049"}}).code, ErrorCode::kUsage);
  EXPECT_EQ(refusal({{"batch-size", "9"}, {"max-num-seqs", "8"}}).what,
            "batch_size 9 (--batch-size) is more than max_num_seqs 8 (--max-num-seqs)");
  EXPECT_EQ(refusal({{"max-num-seqs", "64"}, {"max-num-batched-tokens", "32"}}).what,
            "max_num_batched_tokens 32 (--max-num-batched-tokens) is less than the 64 sequences of "
            "a step");
  EXPECT_THAT(refusal({{"disable-chunked-prefill", "1"},
                       {"max-num-batched-tokens", "32"},
                       {"max-model-len", "64"}})
                  .what,
              HasSubstr("chunked-prefill is off (--disable-chunked-prefill)"));
  EXPECT_EQ(refusal({{"kv-dtype", "fp8"}}).code, ErrorCode::kUnsupported);
  const auto fp8_off = thrown_by([] {
    test::plan_of(test::known_spec("DeepSeek-V3"), test::gpus("h200x8"), {{"disable-fp8", "1"}});
  });
  EXPECT_EQ(fp8_off.code, ErrorCode::kUnsupported);
  EXPECT_THAT(fp8_off.what, HasSubstr("fp8 is off (--disable-fp8)"));
}

TEST(MemoryPlan, BatchSizeIsSequencesThatFitTogether) {
  const ModelSpec spec = test::tiny_spec();
  const MemoryPlan plan = test::plan_of(spec, test::cpu_with(4 * kGiB), {{"batch-size", "100"}});
  EXPECT_EQ(plan.limits.max_sequences, 100);
  EXPECT_EQ(plan.limits.kv_blocks, 100 * 2048 / 16);
}

TEST(MemoryPlan, WithoutChunksAStepHoldsTheLongestPrompt) {
  const MemoryPlan plan = test::plan_of(test::tiny_spec(), test::cpu_with(4 * kGiB),
                                        {{"disable-chunked-prefill", "1"}});
  EXPECT_EQ(plan.limits.max_step_tokens, 2048);
}

}  // namespace
}  // namespace moeopt
