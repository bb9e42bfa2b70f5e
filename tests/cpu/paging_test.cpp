// A sequence's logits must not depend on how it is cut into chunks, on which blocks it lies in, or
// on what else is in the step: bit for bit, for every implementation of the ops.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

#include "cpu/golden_util.h"
#include "cpu/ops_under_test.h"
#include "cpu/runner_util.h"
#include "cpu/tensor_data_util.h"

namespace moeopt::cpu {
namespace {

constexpr int kBlockTokens = 3;
constexpr int kLength = 24;

// A few checkpoints that differ in attention.
const char* const kGoldens[] = {"qwen3", "qwen2-window", "deepseek-v3", "deepseek-v2-lite"};

struct Sequence {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> table;
  int done = 0;
  std::vector<float> logits;  // of the positions done
};

class Paging : public testing::TestWithParam<OpsUnderTest> {
 protected:
  std::unique_ptr<CpuBackend> backend_of(const LoadedModel& model, const ExecutionLimits& limits) {
    return std::make_unique<CpuBackend>(model.spec, *model.source, limits, GetParam().make());
  }
};

std::vector<std::int32_t> random_ids(Rng& rng, std::int64_t vocab, int n) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < n; ++i)
    ids.push_back(static_cast<std::int32_t>(rng() % static_cast<std::uint64_t>(vocab)));
  return ids;
}

// Advances the sequences together, each by a random chunk or not at all, until all are done.
void run_in_chunks(CpuBackend& backend, std::vector<Sequence>& sequences, Rng& rng) {
  const auto vocab = static_cast<std::size_t>(backend.model().vocab);
  StepPlan plan(backend.capacity());
  while (std::ranges::any_of(
      sequences, [](const Sequence& s) { return s.done < static_cast<int>(s.ids.size()); })) {
    plan.clear();
    std::vector<std::pair<std::size_t, int>> order;  // whose rows, how many
    std::vector<std::size_t> turn(sequences.size());
    std::iota(turn.begin(), turn.end(), std::size_t{0});
    std::shuffle(turn.begin(), turn.end(), rng);
    for (const std::size_t slot : turn) {
      Sequence& sequence = sequences[slot];
      const int left = static_cast<int>(sequence.ids.size()) - sequence.done;
      const int n = std::min(left, static_cast<int>(rng() % 6));
      if (n == 0) continue;
      std::vector<TokenRef> tokens;
      for (int i = 0; i < n; ++i) {
        tokens.push_back(
            TokenRef::literal(sequence.ids[static_cast<std::size_t>(sequence.done + i)]));
      }
      const int first =
          plan.add_sequence(static_cast<int>(slot), sequence.done, tokens, sequence.table);
      for (int i = 0; i < n; ++i) plan.add_sample(first + i, static_cast<int>(slot), kWantLogits);
      order.emplace_back(slot, n);
    }
    if (order.empty()) continue;
    backend.prepare(plan);
    const StepResult result = backend.wait(backend.launch());
    const float* row = result.logits.data();
    for (const auto& [slot, n] : order) {
      Sequence& sequence = sequences[slot];
      sequence.logits.insert(sequence.logits.end(), row, row + static_cast<std::size_t>(n) * vocab);
      row += static_cast<std::size_t>(n) * vocab;
      sequence.done += n;
    }
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_P(Paging, ChunksBlocksAndBatchesChangeNoBit) {
  for (const char* name : kGoldens) {
    SCOPED_TRACE(name);
    const LoadedModel model = load_model(load_golden(name).folder);
    const int n_sequences = 4;
    const int blocks_each = kLength / kBlockTokens;
    const ExecutionLimits limits =
        small_limits(n_sequences, kLength, kBlockTokens, n_sequences * blocks_each + 5);
    Rng rng(31);
    for (int round = 0; round < 3; ++round) {
      std::vector<std::int32_t> blocks(static_cast<std::size_t>(limits.kv_blocks));
      std::iota(blocks.begin(), blocks.end(), 0);
      std::shuffle(blocks.begin(), blocks.end(), rng);
      std::vector<Sequence> sequences(n_sequences);
      for (std::size_t s = 0; s < sequences.size(); ++s) {
        sequences[s].ids = random_ids(rng, model.spec.vocab, kLength - 5 * static_cast<int>(s));
        const auto first = blocks.begin() + static_cast<std::ptrdiff_t>(s) * blocks_each;
        sequences[s].table.assign(first, first + blocks_each);
      }
      const auto together = backend_of(model, limits);
      run_in_chunks(*together, sequences, rng);
      const auto alone = backend_of(model, limits);
      for (const Sequence& sequence : sequences) {
        const auto one_shot = logits_of(*alone, 0, sequence.ids, 0, plain_table(limits));
        EXPECT_TRUE(same_bits(one_shot, sequence.logits));
      }
    }
  }
}

TEST_P(Paging, CopiedBlocksContinueAsTheirOriginals) {
  for (const char* name : kGoldens) {
    SCOPED_TRACE(name);
    const Golden golden = load_golden(name);
    const LoadedModel model = load_model(golden.folder);
    const ExecutionLimits limits = small_limits(2, kLength, kBlockTokens, 20);
    const std::span<const std::int32_t> ids(golden.prompt.data(), 12);
    const auto backend = backend_of(model, limits);
    const auto table = plain_table(limits);
    const auto whole = logits_of(*backend, 0, ids, 0, table);

    // The first 7 positions in blocks 0, 1, 2; copies at 10, 11, 12 are what slot 1 goes on from.
    logits_of(*backend, 0, ids.first(7), 0, table);
    StepPlan plan(backend->capacity());
    plan.clear();
    plan.add_copy(0, 10);
    plan.add_copy(1, 11);
    std::vector<TokenRef> rest;
    for (const std::int32_t id : ids.subspan(6)) rest.push_back(TokenRef::literal(id));
    const std::vector<std::int32_t> copied = {10, 11, 12, 13};
    plan.add_sequence(1, 6, rest, copied);
    for (int i = 0; i < 6; ++i) plan.add_sample(i, 1, kWantLogits);
    backend->prepare(plan);
    const StepResult result = backend->wait(backend->launch());
    const auto vocab = static_cast<std::size_t>(model.spec.vocab);
    EXPECT_TRUE(same_bits({whole.begin() + static_cast<std::ptrdiff_t>(6 * vocab), whole.end()},
                          {result.logits.begin(), result.logits.end()}));
  }
}

TEST_P(Paging, SamplesDependOnTheirSlotAlone) {
  const Golden golden = load_golden("qwen3");
  const LoadedModel model = load_model(golden.folder);
  const int n_slots = 3, n_tokens = 12;
  const ExecutionLimits limits = small_limits(n_slots, kLength, kBlockTokens, 40);
  std::vector<SamplingParams> params(n_slots);
  for (int slot = 0; slot < n_slots; ++slot) {
    params[static_cast<std::size_t>(slot)].seed = static_cast<std::uint64_t>(77 + slot);
    params[static_cast<std::size_t>(slot)].top_p = 0.95f;
    params[static_cast<std::size_t>(slot)].frequency_penalty = 0.3f;
  }
  const auto prompt_of = [&](int slot) {
    return std::span(golden.prompt)
        .subspan(static_cast<std::size_t>(3 * slot), static_cast<std::size_t>(4 + slot));
  };
  // Steps launched one ahead; the tokens are references.
  const auto run = [&](const std::vector<int>& slots) {
    const auto backend = backend_of(model, limits);
    std::map<int, std::vector<std::int32_t>> output;
    StepPlan plan(backend->capacity());
    Ticket last;
    for (int step = 0; step <= n_tokens; ++step) {
      Ticket next;
      if (step < n_tokens) {
        plan.clear();
        for (const int slot : slots) {
          const auto prompt = prompt_of(slot);
          if (step == 0) backend->bind_slot(slot, params[static_cast<std::size_t>(slot)], prompt);
          std::vector<TokenRef> tokens;
          if (step == 0) {
            for (const std::int32_t id : prompt) tokens.push_back(TokenRef::literal(id));
          } else {
            tokens.push_back(TokenRef::last_sample_of(slot));
          }
          const int position = step == 0 ? 0 : static_cast<int>(prompt.size()) + step - 1;
          const int first =
              plan.add_sequence(slot, position, tokens, plain_table(limits, 8 * slot));
          plan.add_sample(first + static_cast<int>(tokens.size()) - 1, slot, kSampleToken);
        }
        backend->prepare(plan);
        next = backend->launch();
      }
      if (step > 0) {
        for (const SampledToken& token : backend->wait(last).sampled) {
          EXPECT_TRUE(token.finite);
          output[token.slot].push_back(token.id);
        }
      }
      last = next;
    }
    return output;
  };
  const auto together = run({2, 0, 1});
  for (int slot = 0; slot < n_slots; ++slot) {
    EXPECT_EQ(run({slot}).at(slot), together.at(slot)) << "slot " << slot;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Paging, testing::ValuesIn(ops_under_test()),
                         [](const auto& ops) { return name_of(ops.param); });

}  // namespace
}  // namespace moeopt::cpu
