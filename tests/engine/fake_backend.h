// A backend for the engine's tests: no model, but real paged memory and its own idea of what must
// be in it. Each cell of a block holds its token and a hash of all tokens up to it; whatever a step
// reads through a block table must be exactly the prefix of that slot's sequence, written by a
// finished step or by the sequence itself. The next id is a hash of that prefix, of the seed and of
// what penalties would count, so that a wrong position, block, slot or history changes the output.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "base/check.h"

namespace moeopt {

class FakeBackend : public Backend {
 public:
  static constexpr int kVocab = 97;

  FakeBackend(int sequences, int step_tokens, int max_len, int block_tokens, int n_blocks)
      : capacity_{sequences, step_tokens, (max_len + block_tokens - 1) / block_tokens, sequences},
        memory_(static_cast<std::size_t>(n_blocks * block_tokens)),
        slots_(static_cast<std::size_t>(sequences)),
        n_blocks_(n_blocks) {
    spec_.vocab = kVocab;
    layout_.block_tokens = block_tokens;
  }

  // What a sequence with this prompt must produce, computed without the engine.
  static std::vector<std::int32_t> expected(std::vector<std::int32_t> tokens, int n,
                                            std::uint64_t seed = 0) {
    std::vector<std::int32_t> output;
    std::uint64_t history = 0;
    for (int i = 0; i < n; ++i) {
      output.push_back(next(hash_of(tokens), seed, i, history));
      tokens.push_back(output.back());
      history += count_hash(output.back());
    }
    return output;
  }
  // The logits that row `position` of these tokens has.
  static std::vector<float> logits_at(std::span<const std::int32_t> tokens, int position) {
    return logits_of(hash_of(tokens.first(static_cast<std::size_t>(position) + 1)));
  }

  std::string name() const override { return "fake"; }
  const ModelSpec& model() const override { return spec_; }
  const StepCapacity& capacity() const override { return capacity_; }
  const KvLayout& kv_layout() const override { return layout_; }
  int kv_blocks() const override { return n_blocks_; }
  int max_logit_rows() const override { return capacity_.sequences + 3; }

  void bind_slot(int slot, const SamplingParams& params,
                 std::span<const std::int32_t> prompt) override {
    if (bind_failures > 0) {
      --bind_failures;
      throw std::bad_alloc();
    }
    Slot& bound = slots_.at(static_cast<std::size_t>(slot));
    MOEOPT_CHECK(bound.last_step <= waited_);  // no launched step uses it any more
    bound = {};
    bound.binding = ++n_bindings_;
    bound.seed = params.seed;
    bound.tokens.assign(prompt.begin(), prompt.end());
  }
  void resume_slot(int slot, std::span<const std::int32_t> output) override {
    Slot& bound = slots_.at(static_cast<std::size_t>(slot));
    MOEOPT_CHECK(bound.n_output == 0);
    for (const std::int32_t id : output) bound.add(id);
  }
  void set_mask(int slot, std::span<const std::uint64_t> allowed) override {
    Slot& bound = slots_.at(static_cast<std::size_t>(slot));
    MOEOPT_CHECK(bound.last_sampled <= waited_);  // its last sample is known
    bound.mask.emplace(allowed.begin(), allowed.end());
  }

  void prepare(const StepPlan& plan) override {
    if (prepare_failures > 0) {
      --prepare_failures;
      throw std::runtime_error("prepare failed");
    }
    MOEOPT_CHECK(static_cast<int>(plan.tokens().size()) <= capacity_.tokens);
    MOEOPT_CHECK(static_cast<int>(plan.samples().size()) <= max_logit_rows());
    MOEOPT_CHECK(step_ - waited_ < 2u);
    results_.emplace_back();
    largest_step_ = std::max(largest_step_, static_cast<int>(plan.tokens().size()));
    current_ = step_ + 1;
    copy(plan);
    std::set<int> seen;
    for (std::size_t i = 0; i < plan.sequences().size(); ++i) {
      MOEOPT_CHECK(seen.insert(plan.sequences()[i].slot).second);
      write(plan, static_cast<int>(i));
    }
    for (std::size_t i = 0; i < plan.sequences().size(); ++i) read(plan, static_cast<int>(i));
    for (const StepSample& sample : plan.samples()) draw(plan, sample);
    if (results_.size() > 2) results_.pop_front();  // a result lives until the next launch but one
    if (on_step) on_step(plan);
  }
  Ticket launch() override {
    ++step_;
    MOEOPT_CHECK(current_ == step_);
    return {step_};
  }
  StepResult wait(Ticket ticket) override {
    const std::size_t age = step_ - ticket.step;
    MOEOPT_CHECK(age < results_.size());
    if (stall_ms.load() > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(stall_ms.exchange(0)));
    }
    waited_ = std::max(waited_, ticket.step);
    if (failing_steps.erase(ticket.step) > 0 || fail_all) {
      broken_.insert(ticket.step);
      throw std::runtime_error("the device is on fire");
    }
    const Result& result = results_[results_.size() - 1 - age];
    return {result.sampled, result.logits, {}};
  }
  int kv_layers_done(Ticket) const override { return 1; }
  Counters counters() const override { return {step_, 0, 0, 0}; }

  int largest_step() const { return largest_step_; }
  std::uint64_t steps() const { return step_; }
  // From now on this id makes the row's logits "not finite".
  void poison(std::int32_t id) { poison_ = id; }

  int bind_failures = 0, prepare_failures = 0;
  std::set<std::uint64_t> failing_steps;  // by ticket
  std::atomic<bool> fail_all{false};
  std::atomic<int> stall_ms{0};  // of the next wait()
  std::function<void(const StepPlan&)> on_step;

 private:
  struct Cell {
    std::int32_t token = -1;
    std::uint64_t prefix = 0;   // hash of all tokens up to this one
    std::uint64_t step = 0;     // that wrote it
    std::uint64_t binding = 0;  // whose step that was
  };
  struct Slot {
    std::vector<std::int32_t> tokens;  // prompt and output
    std::uint64_t seed = 0, history = 0;
    int n_output = 0;
    std::uint64_t binding = 0, last_step = 0, last_sampled = 0;
    std::optional<std::vector<std::uint64_t>> mask;

    void add(std::int32_t id) {
      tokens.push_back(id);
      history += count_hash(id);
      ++n_output;
    }
  };
  struct Result {
    std::vector<SampledToken> sampled;
    std::vector<float> logits;
  };

  static std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
  }
  static std::uint64_t count_hash(std::int32_t id) {
    return mix(77, static_cast<std::uint64_t>(id) + 1);
  }
  static std::uint64_t hash_of(std::span<const std::int32_t> tokens) {
    std::uint64_t hash = 1;
    for (const std::int32_t token : tokens) hash = mix(hash, static_cast<std::uint64_t>(token));
    return hash;
  }
  static std::int32_t next(std::uint64_t prefix, std::uint64_t seed, int n_output,
                           std::uint64_t history) {
    const std::uint64_t hash =
        mix(mix(mix(prefix, seed), static_cast<std::uint64_t>(n_output)), history);
    return static_cast<std::int32_t>((hash >> 20) % kVocab);
  }
  static std::vector<float> logits_of(std::uint64_t prefix) {
    std::vector<float> logits;
    for (std::uint64_t id = 0; id < kVocab; ++id) {
      logits.push_back(static_cast<float>((mix(prefix, id) >> 30) % 1000) / 100.0f);
    }
    return logits;
  }

  Cell& cell(std::span<const std::int32_t> table, int position) {
    const std::int32_t block = table[static_cast<std::size_t>(position / layout_.block_tokens)];
    return memory_.at(
        static_cast<std::size_t>(block * layout_.block_tokens + position % layout_.block_tokens));
  }

  void copy(const StepPlan& plan) {
    const int size = layout_.block_tokens;
    for (const BlockCopy& copied : plan.copies()) {
      for (int i = 0; i < size; ++i) {
        const Cell& from = memory_.at(static_cast<std::size_t>(copied.from * size + i));
        memory_.at(static_cast<std::size_t>(copied.to * size + i)) = from;
      }
    }
  }

  void write(const StepPlan& plan, int index) {
    const StepSequence& sequence = plan.sequences()[static_cast<std::size_t>(index)];
    Slot& slot = slots_.at(static_cast<std::size_t>(sequence.slot));
    MOEOPT_CHECK(slot.binding > 0u);
    slot.last_step = current_;
    for (int i = 0; i < sequence.n_tokens; ++i) {
      const TokenRef token = plan.tokens()[static_cast<std::size_t>(sequence.first_token + i)];
      const auto position = static_cast<std::size_t>(sequence.first_position + i);
      MOEOPT_CHECK(position < slot.tokens.size());
      if (token.is_literal()) {
        MOEOPT_CHECK(token.value == slot.tokens[position]);
      } else {
        MOEOPT_CHECK(token.slot() == sequence.slot);
        MOEOPT_CHECK(position + 1 == slot.tokens.size());
      }
      cell(plan.block_table(index), static_cast<int>(position)) = {
          slot.tokens[position], hash_of(std::span(slot.tokens).first(position + 1)), current_,
          slot.binding};
    }
  }

  // After all writes of the step: a block that two sequences write shows here.
  void read(const StepPlan& plan, int index) {
    const StepSequence& sequence = plan.sequences()[static_cast<std::size_t>(index)];
    const Slot& slot = slots_.at(static_cast<std::size_t>(sequence.slot));
    std::uint64_t hash = 1;
    for (int p = 0; p < sequence.first_position + sequence.n_tokens; ++p) {
      const Cell& read = cell(plan.block_table(index), p);
      hash = mix(hash, static_cast<std::uint64_t>(slot.tokens[static_cast<std::size_t>(p)]));
      MOEOPT_CHECK(read.token == slot.tokens[static_cast<std::size_t>(p)]);
      MOEOPT_CHECK(read.prefix == hash);
      if (read.binding == slot.binding) continue;
      MOEOPT_CHECK(read.step <= waited_);  // others' work counts when it is finished
      MOEOPT_CHECK(!broken_.contains(read.step));
    }
  }

  void draw(const StepPlan& plan, const StepSample& sample) {
    Slot& slot = slots_.at(static_cast<std::size_t>(sample.slot));
    int position = -1;
    for (const StepSequence& sequence : plan.sequences()) {
      if (sequence.slot == sample.slot) {
        position = sequence.first_position + sample.token - sequence.first_token;
      }
    }
    MOEOPT_CHECK(position >= 0);
    const auto n = static_cast<std::size_t>(position) + 1;
    const std::uint64_t prefix = hash_of(std::span(slot.tokens).first(n));
    if ((sample.flags & kWantLogits) != 0) {
      const auto row = logits_of(prefix);
      results_.back().logits.insert(results_.back().logits.end(), row.begin(), row.end());
    }
    if ((sample.flags & kSampleToken) == 0) return;
    MOEOPT_CHECK(n == slot.tokens.size());
    std::int32_t id = next(prefix, slot.seed, slot.n_output, slot.history);
    if (slot.mask) {
      const auto allowed = [&](std::int32_t i) {
        return ((*slot.mask)[static_cast<std::size_t>(i / 64)] >> (i % 64) & 1) != 0;
      };
      while (!allowed(id)) id = (id + 1) % kVocab;
      slot.mask.reset();
    }
    slot.add(id);
    slot.last_sampled = current_;
    results_.back().sampled.push_back({sample.slot, id, -1.0f, {}, id != poison_});
  }

  ModelSpec spec_;
  KvLayout layout_;
  StepCapacity capacity_;
  std::vector<Cell> memory_;
  std::vector<Slot> slots_;
  int n_blocks_;
  int largest_step_ = 0;
  std::int32_t poison_ = -1;
  std::uint64_t step_ = 0, current_ = 0, waited_ = 0, n_bindings_ = 0;
  std::set<std::uint64_t> broken_;
  std::deque<Result> results_;
};

}  // namespace moeopt
