// CpuBackend: the Backend that runs a model on this machine's CPU, by the ops it is given.
// The engine's thread calls it; a worker thread of its own runs the launched steps, one at a time.
// Invariants: memory is what plan/workspace.h lists plus the KV blocks, allocated here once; a step
// that is running is touched by the worker alone.
#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "backend/backend.h"
#include "backend/sampling.h"
#include "checkpoint/tensor_source.h"
#include "cpu/forward.h"
#include "cpu/ops.h"
#include "cpu/weights.h"
#include "plan/memory_plan.h"
#include "plan/workspace.h"

namespace moeopt::cpu {

class CpuBackend final : public Backend {
 public:
  // `source` must outlive the backend. Errors as of Weights; Error(kUnsupported) for a model that
  // parse_model_spec calls not runnable.
  CpuBackend(ModelSpec spec, const TensorSource& source, const ExecutionLimits& limits,
             std::unique_ptr<CpuOps> ops);
  // The same with a plan's limits; checks that exactly the planned buffers were allocated.
  // Error(kUsage) when the plan's KV dtype is not the ops'.
  CpuBackend(ModelSpec spec, const TensorSource& source, const MemoryPlan& plan,
             std::unique_ptr<CpuOps> ops);
  ~CpuBackend() override;

  std::string name() const override { return ops_->name(); }
  const ModelSpec& model() const override { return spec_; }
  const StepCapacity& capacity() const override { return capacity_; }
  const KvLayout& kv_layout() const override { return kv_layout_; }
  int kv_blocks() const override { return limits_.kv_blocks; }
  int max_logit_rows() const override { return limits_.max_logit_rows; }

  void bind_slot(int slot, const SamplingParams& params,
                 std::span<const std::int32_t> prompt) override;
  void resume_slot(int slot, std::span<const std::int32_t> output) override;
  void set_mask(int slot, std::span<const std::uint64_t> allowed) override;
  void prepare(const StepPlan& plan) override;
  Ticket launch() override;
  StepResult wait(Ticket ticket) override;
  void set_record_routes(bool record) override;
  int kv_layers_done(Ticket ticket) const override;
  Counters counters() const override;

  // What was allocated, by name; "kv" is the blocks.
  const std::vector<WorkspaceBuffer>& buffers() const { return buffer_list_; }

 private:
  static constexpr int kStepsInFlight = 2;

  // One of the two steps that may be in flight, with its results.
  struct Step {
    explicit Step(const StepCapacity& capacity) : plan(capacity) {}
    StepPlan plan;
    std::span<float> logits;
    std::span<SampledToken> sampled;
    std::span<TokenLogprob> logprobs;
    std::span<std::uint32_t> expert_counts;
    std::span<std::int16_t> route_ids;  // room for a full step; empty without record_routes
    std::span<float> route_weights;
    int n_sampled = 0;
    int n_wanted_logits = 0;
    std::exception_ptr failure;
    std::atomic<std::uint64_t> ticket{0};
    std::atomic<int> kv_layers_done{0};
  };

  template <typename T>
  std::span<T> buffer(std::string_view name, std::size_t elements);
  void bind_buffers();
  StepRoutes routes_of(const Step& step) const;
  void bind_routes(std::size_t rows, std::size_t top_k);
  Step& step_of(std::uint64_t ticket) { return *steps_[ticket % kStepsInFlight]; }
  const Step& step_of(std::uint64_t ticket) const { return *steps_[ticket % kStepsInFlight]; }
  void check_plan(const StepPlan& plan) const;

  void work();  // the worker's loop
  void run(Step& step);
  int read_plan(
      const Step& step);  // fills ids_, positions_, rows_; returns the number of sequences
  int order_logit_rows(Step& step);
  void sample(Step& step);

  ModelSpec spec_;
  ExecutionLimits limits_;
  std::unique_ptr<CpuOps> ops_;
  StepCapacity capacity_;
  KvLayout kv_layout_;
  std::vector<WorkspaceBuffer> buffer_list_;
  std::vector<Buffer> memory_;  // in buffer_list_'s order

  std::unique_ptr<Weights> weights_;
  std::unique_ptr<Forward> forward_;
  std::unique_ptr<HostSampler> sampler_;
  std::array<std::unique_ptr<Step>, kStepsInFlight> steps_;
  std::span<std::int32_t> ids_, positions_, logit_rows_, sample_rows_;
  std::span<SequenceRows> rows_;
  std::atomic<std::uint64_t> n_steps_{0}, n_tokens_{0};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t launched_ = 0;  // tickets; guarded by mutex_
  std::uint64_t done_ = 0;
  bool prepared_ = false;
  bool record_routes_ = false;  // set before the first launch
  int route_top_k_ = 0;
  std::size_t n_moe_layers_ = 0;
  bool stop_ = false;
  std::thread worker_;  // last: it uses everything above
};

std::unique_ptr<Backend> make_cpu_backend(const ModelSpec& spec, const TensorSource& source,
                                          const MemoryPlan& plan, std::unique_ptr<CpuOps> ops);

}  // namespace moeopt::cpu
