// A backend for the engine's tests: no model, but real paged memory. The "KV cache" stores each
// token's id at its place in the block table; the next id is a hash of everything that attention
// would see, read back through the table. A wrong position, block or slot changes the output.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/check.h"

namespace moeopt {

class FakeBackend : public Backend {
 public:
  static constexpr int kVocab = 97;

  FakeBackend(int sequences, int step_tokens, int max_len, int block_tokens, int n_blocks)
      : capacity_{sequences, step_tokens, (max_len + block_tokens - 1) / block_tokens, 8},
        memory_(static_cast<std::size_t>(n_blocks * block_tokens), -1),
        last_sample_(static_cast<std::size_t>(sequences), -1),
        n_blocks_(n_blocks) {
    spec_.vocab = kVocab;
    layout_.block_tokens = block_tokens;
  }

  // What a sequence with this prompt must produce, computed without the engine.
  static std::vector<std::int32_t> expected(std::vector<std::int32_t> tokens, int n) {
    std::vector<std::int32_t> output;
    for (int i = 0; i < n; ++i) {
      output.push_back(next(tokens));
      tokens.push_back(output.back());
    }
    return output;
  }

  std::string name() const override { return "fake"; }
  const ModelSpec& model() const override { return spec_; }
  const StepCapacity& capacity() const override { return capacity_; }
  const KvLayout& kv_layout() const override { return layout_; }
  int kv_blocks() const override { return n_blocks_; }
  void bind_slot(int slot, const SamplingParams&, std::span<const std::int32_t>) override {
    last_sample_.at(static_cast<std::size_t>(slot)) = -1;
  }

  void prepare(const StepPlan& plan) override {
    MOEOPT_CHECK(static_cast<int>(plan.tokens().size()) <= capacity_.tokens);
    results_.emplace_back();
    largest_step_ = std::max(largest_step_, static_cast<int>(plan.tokens().size()));
    for (std::size_t i = 0; i < plan.sequences().size(); ++i) run(plan, static_cast<int>(i));
    if (results_.size() > 2) results_.pop_front();  // a result lives until the next launch but one
  }
  Ticket launch() override { return {++step_}; }
  StepResult wait(Ticket ticket) override {
    const std::size_t age = step_ - ticket.step;
    MOEOPT_CHECK(age < results_.size());
    return {results_[results_.size() - 1 - age], {}, {}};
  }
  int kv_layers_done(Ticket) const override { return 1; }
  Counters counters() const override { return {step_, 0, 0, 0}; }

  int largest_step() const { return largest_step_; }
  // From now on this id makes the row's logits "not finite".
  void poison(std::int32_t id) { poison_ = id; }

 private:
  static std::int32_t next(std::span<const std::int32_t> tokens) {
    std::uint32_t hash = 2166136261u;
    for (const std::int32_t token : tokens) {
      hash = (hash ^ static_cast<std::uint32_t>(token)) * 16777619u;
    }
    return static_cast<std::int32_t>(hash % kVocab);
  }

  void run(const StepPlan& plan, int index) {
    const StepSequence& sequence = plan.sequences()[static_cast<std::size_t>(index)];
    const auto table = plan.block_table(index);
    const auto at = [&](int position) -> std::int32_t& {
      const std::int32_t block = table[static_cast<std::size_t>(position / layout_.block_tokens)];
      return memory_.at(
          static_cast<std::size_t>(block * layout_.block_tokens + position % layout_.block_tokens));
    };
    const auto slot = static_cast<std::size_t>(sequence.slot);
    for (int i = 0; i < sequence.n_tokens; ++i) {
      const TokenRef token = plan.tokens()[static_cast<std::size_t>(sequence.first_token + i)];
      at(sequence.first_position + i) =
          token.is_literal() ? token.value
                             : last_sample_.at(static_cast<std::size_t>(token.slot()));
    }
    for (const StepSample& sample : plan.samples()) {
      if (sample.slot != sequence.slot) continue;
      std::vector<std::int32_t> seen;
      const int last = sequence.first_position + sample.token - sequence.first_token;
      for (int position = 0; position <= last; ++position) seen.push_back(at(position));
      last_sample_[slot] = next(seen);
      results_.back().push_back(
          {sample.slot, last_sample_[slot], -1.0f, {}, last_sample_[slot] != poison_});
    }
  }

  ModelSpec spec_;
  KvLayout layout_;
  StepCapacity capacity_;
  std::vector<std::int32_t> memory_;
  std::vector<std::int32_t> last_sample_;
  int n_blocks_;
  int largest_step_ = 0;
  std::int32_t poison_ = -1;
  std::uint64_t step_ = 0;
  std::deque<std::vector<SampledToken>> results_;
};

}  // namespace moeopt
