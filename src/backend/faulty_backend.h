// FaultyBackend: a backend that fails on purpose, for showing what a server does then. It stands
// before the real one in builds with MOEOPT_FAULTS alone (cli/session), told by the environment.
// Invariant: without a fault due, every call is the real backend's.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace moeopt {

struct Fault {
  enum class Kind {
    kThrow,     // wait() throws, as a device that failed
    kAllocate,  // prepare() throws std::bad_alloc
    kStall,     // wait() first sleeps for `ms`
    kNan,       // every sample of the step is said to be not finite
  };
  Kind kind;
  std::uint64_t step;  // counted from 1 at construction
  int ms = 0;
};

// "throw@10,stall@20:5000,alloc@30,nan@40": comma-separated; Error(kUsage) names a bad part.
std::vector<Fault> parse_faults(std::string_view text);

class FaultyBackend final : public Backend {
 public:
  FaultyBackend(std::unique_ptr<Backend> real, std::vector<Fault> faults);

  std::string name() const override { return real_->name(); }
  const ModelSpec& model() const override { return real_->model(); }
  const StepCapacity& capacity() const override { return real_->capacity(); }
  const KvLayout& kv_layout() const override { return real_->kv_layout(); }
  int kv_blocks() const override { return real_->kv_blocks(); }
  int max_logit_rows() const override { return real_->max_logit_rows(); }
  void bind_slot(int slot, const SamplingParams& params,
                 std::span<const std::int32_t> prompt) override {
    real_->bind_slot(slot, params, prompt);
  }
  void resume_slot(int slot, std::span<const std::int32_t> output) override {
    real_->resume_slot(slot, output);
  }
  void set_mask(int slot, std::span<const std::uint64_t> allowed) override {
    real_->set_mask(slot, allowed);
  }
  void set_record_routes(bool record) override { real_->set_record_routes(record); }
  void prepare(const StepPlan& plan) override;
  Ticket launch() override { return real_->launch(); }
  StepResult wait(Ticket ticket) override;
  int kv_layers_done(Ticket ticket) const override { return real_->kv_layers_done(ticket); }
  Counters counters() const override { return real_->counters(); }

 private:
  // The due fault of this kind, taken away; null when there is none.
  const Fault* due(Fault::Kind kind, std::uint64_t step);

  std::unique_ptr<Backend> real_;
  std::vector<Fault> faults_;
  std::vector<bool> used_;
  std::uint64_t prepared_ = 0;
  std::vector<SampledToken> spoilt_;
};

}  // namespace moeopt
