#include "cpu/cpu_backend.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "base/mapping_guard.h"
#include "base/start_thread.h"

namespace moeopt::cpu {

// What plan/workspace.cpp counts for these types.
static_assert(sizeof(SampledToken) == 40);
static_assert(sizeof(TokenLogprob) == 8);
static_assert(kMaxLogprobs == 20);
static_assert(sizeof(SequenceRows) == 32);

CpuBackend::CpuBackend(ModelSpec spec, const TensorSource& source, const ExecutionLimits& limits,
                       std::unique_ptr<CpuOps> ops)
    : spec_(std::move(spec)), limits_(limits), ops_(std::move(ops)) {
  if (spec_.not_runnable) throw Error(ErrorCode::kUnsupported, *spec_.not_runnable);
  capacity_ = {limits.max_sequences, limits.max_step_tokens, limits.blocks_per_sequence(),
               limits.max_sequences};
  kv_layout_ = kv_layout_of(spec_, ops_->kv_dtype(), limits.block_tokens);
  const auto scratch = [this](const ModelSpec& model, int max_rows, std::int64_t max_context) {
    return ops_->scratch_bytes(model, max_rows, static_cast<int>(max_context));
  };
  buffer_list_ = cpu_workspace(spec_, limits_, scratch);
  buffer_list_.push_back(
      {"kv", kv_layout_.block_bytes() * static_cast<std::uint64_t>(kv_layout_.n_layers) *
                 static_cast<std::uint64_t>(limits.kv_blocks)});
  for (const WorkspaceBuffer& planned : buffer_list_) {
    memory_.emplace_back(planned.bytes).commit();
  }
  weights_ = std::make_unique<Weights>(spec_, source,
                                       buffer<float>("vectors", Weights::vector_elements(spec_)));
  throw_if_cut();
  bind_buffers();
  worker_ = start_thread([this] { work(); });
}

CpuBackend::CpuBackend(ModelSpec spec, const TensorSource& source, const MemoryPlan& plan,
                       std::unique_ptr<CpuOps> ops)
    : CpuBackend(std::move(spec), source, plan.limits, std::move(ops)) {
  if (plan.kv.dtype != kv_layout_.dtype) {
    throw Error(ErrorCode::kUsage,
                fmt::format("kv-dtype is {}, the {} backend keeps keys and values in {}",
                            dtype_name(plan.kv.dtype), ops_->name(), dtype_name(kv_layout_.dtype)),
                "leave kv-dtype at auto");
  }
  for (const WorkspaceBuffer& mine : buffer_list_) {
    MOEOPT_CHECK(plan.buffer(mine.name).bytes == mine.bytes);
  }
}

CpuBackend::~CpuBackend() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (worker_.joinable()) worker_.join();
}

template <typename T>
std::span<T> CpuBackend::buffer(std::string_view name, std::size_t elements) {
  if (elements == 0) return {};
  for (std::size_t i = 0; i < buffer_list_.size(); ++i) {
    if (buffer_list_[i].name != name) continue;
    MOEOPT_CHECK(memory_[i].size_bytes() >= elements * sizeof(T));
    return memory_[i].as<T>().first(elements);
  }
  MOEOPT_CHECK(name == "planned");
  return {};
}

void CpuBackend::bind_buffers() {
  const auto rows = static_cast<std::size_t>(limits_.max_step_tokens);
  const auto sequences = static_cast<std::size_t>(limits_.max_sequences);
  const auto logit_rows = static_cast<std::size_t>(limits_.max_logit_rows);
  const auto vocab = static_cast<std::size_t>(spec_.vocab);
  const auto all = [this](std::string_view name) {
    for (std::size_t i = 0; i < buffer_list_.size(); ++i) {
      if (buffer_list_[i].name == name) return memory_[i].as<float>();
    }
    return std::span<float>();
  };

  ForwardBuffers forward{
      all("residual"), all("normed"),     all("branch"), all("query"), all("key"), all("value"),
      all("context"),  all("query_lora"), all("latent"), {},           {}};
  std::size_t top_k = 0;
  for (const LayerSpec& layer : spec_.layers) {
    if (layer.moe) top_k = std::max(top_k, static_cast<std::size_t>(layer.moe->top_k));
  }
  static_assert(sizeof(std::int32_t) == sizeof(float));
  const auto routing = buffer<std::int32_t>("routing", 2 * rows * top_k);
  forward.routing_experts = routing.first(rows * top_k);
  forward.routing_weights = buffer<float>("routing", 2 * rows * top_k).subspan(rows * top_k);
  const std::span<std::byte> kv = memory_.back().bytes();
  forward_ = std::make_unique<Forward>(spec_, *weights_, *ops_, kv_layout_, kv, limits_.kv_blocks,
                                       forward);
  const std::uint64_t scratch =
      ops_->scratch_bytes(spec_, limits_.max_step_tokens, static_cast<int>(limits_.max_model_len));
  ops_->set_scratch(buffer<std::byte>("scratch", scratch));
  sampler_ = std::make_unique<HostSampler>(
      limits_.max_sequences, spec_.vocab,
      buffer<std::byte>("sampler", HostSampler::count_bytes(limits_.max_sequences, spec_.vocab)),
      buffer<std::byte>("sort", HostSampler::work_bytes(spec_.vocab)));

  const auto ints = buffer<std::int32_t>("step_rows", 3 * rows + logit_rows);
  ids_ = ints.first(rows);
  positions_ = ints.subspan(rows, rows);
  sample_rows_ = ints.subspan(2 * rows, rows);
  logit_rows_ = ints.subspan(3 * rows, logit_rows);
  rows_ = buffer<SequenceRows>("step_sequences", sequences);
  const std::size_t counts =
      spec_.layers.size() * static_cast<std::size_t>(Forward::max_experts(spec_));
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    steps_[i] = std::make_unique<Step>(capacity_);
    Step& step = *steps_[i];
    const std::size_t n = steps_.size();
    step.logits = buffer<float>("logits", n * logit_rows * vocab)
                      .subspan(i * logit_rows * vocab, logit_rows * vocab);
    step.sampled =
        buffer<SampledToken>("sampled", n * logit_rows).subspan(i * logit_rows, logit_rows);
    step.logprobs = buffer<TokenLogprob>("logprobs", n * logit_rows * kMaxLogprobs)
                        .subspan(i * logit_rows * kMaxLogprobs, logit_rows * kMaxLogprobs);
    step.expert_counts =
        buffer<std::uint32_t>("expert_counts", n * counts).subspan(i * counts, counts);
  }
  if (limits_.record_routes) bind_routes(rows, top_k);
}

void CpuBackend::bind_routes(std::size_t rows, std::size_t top_k) {
  n_moe_layers_ = static_cast<std::size_t>(std::ranges::count_if(
      spec_.layers, [](const LayerSpec& layer) { return layer.moe.has_value(); }));
  route_top_k_ = static_cast<int>(top_k);
  const std::size_t slots = n_moe_layers_ * rows * top_k;
  if (slots == 0) return;
  const std::size_t n = steps_.size();
  const auto memory =
      buffer<std::byte>("routes", n * slots * (sizeof(float) + sizeof(std::int16_t)));
  const auto weights = buffer<float>("routes", n * slots);
  const std::span<std::int16_t> ids(
      reinterpret_cast<std::int16_t*>(memory.data() + weights.size_bytes()), n * slots);
  for (std::size_t i = 0; i < n; ++i) {
    steps_[i]->route_weights = weights.subspan(i * slots, slots);
    steps_[i]->route_ids = ids.subspan(i * slots, slots);
  }
}

void CpuBackend::set_record_routes(bool record) {
  const std::lock_guard lock(mutex_);
  MOEOPT_CHECK(launched_ == 0u);
  MOEOPT_CHECK(record <= limits_.record_routes);  // planned
  record_routes_ = record;
}

void CpuBackend::bind_slot(int slot, const SamplingParams& params,
                           std::span<const std::int32_t> prompt) {
  MOEOPT_CHECK(slot >= 0);
  MOEOPT_CHECK(slot < limits_.max_sequences);
  sampler_->bind(slot, params, prompt);
}

void CpuBackend::resume_slot(int slot, std::span<const std::int32_t> output) {
  MOEOPT_CHECK(slot >= 0);
  MOEOPT_CHECK(slot < limits_.max_sequences);
  sampler_->resume(slot, output);
}

void CpuBackend::set_mask(int slot, std::span<const std::uint64_t> allowed) {
  MOEOPT_CHECK(slot >= 0);
  MOEOPT_CHECK(slot < limits_.max_sequences);
  sampler_->set_mask(slot, allowed);
}

void CpuBackend::check_plan(const StepPlan& plan) const {
  for (std::size_t i = 0; i < plan.sequences().size(); ++i) {
    const StepSequence& sequence = plan.sequences()[i];
    const int end = sequence.first_position + sequence.n_tokens;
    MOEOPT_CHECK(sequence.first_position >= 0);
    MOEOPT_CHECK(end <= limits_.max_model_len);
    const auto table = plan.block_table(static_cast<int>(i));
    for (int block = 0; block * limits_.block_tokens < end; ++block) {
      MOEOPT_CHECK(table[static_cast<std::size_t>(block)] >= 0);
      MOEOPT_CHECK(table[static_cast<std::size_t>(block)] < limits_.kv_blocks);
    }
  }
  for (const BlockCopy& copy : plan.copies()) {
    MOEOPT_CHECK(std::min(copy.from, copy.to) >= 0);
    MOEOPT_CHECK(std::max(copy.from, copy.to) < limits_.kv_blocks);
  }
  for (const TokenRef token : plan.tokens()) {
    MOEOPT_CHECK(token.value < spec_.vocab);
    MOEOPT_CHECK(token.value >= -limits_.max_sequences);
  }
  for (const StepSample& sample : plan.samples()) {
    MOEOPT_CHECK(sample.slot >= 0);
    MOEOPT_CHECK(sample.slot < limits_.max_sequences);
  }
  MOEOPT_CHECK(static_cast<int>(plan.samples().size()) <= limits_.max_logit_rows);
}

void CpuBackend::prepare(const StepPlan& plan) {
  check_plan(plan);
  const std::lock_guard lock(mutex_);
  MOEOPT_CHECK(!prepared_);
  MOEOPT_CHECK(launched_ - done_ <
               std::uint64_t{kStepsInFlight});  // the engine waits for step n - 1 first
  Step& step = step_of(launched_ + 1);
  step.plan.assign(plan);
  prepared_ = true;
}

Ticket CpuBackend::launch() {
  Ticket ticket;
  {
    const std::lock_guard lock(mutex_);
    MOEOPT_CHECK(prepared_);
    prepared_ = false;
    ticket.step = launched_ + 1;
    Step& step = step_of(ticket.step);
    step.kv_layers_done.store(0, std::memory_order_relaxed);
    step.ticket.store(ticket.step, std::memory_order_release);
    launched_ = ticket.step;
  }
  changed_.notify_all();
  return ticket;
}

StepResult CpuBackend::wait(Ticket ticket) {
  std::unique_lock lock(mutex_);
  MOEOPT_CHECK(ticket.step > 0u);
  MOEOPT_CHECK(ticket.step <= launched_);
  MOEOPT_CHECK(ticket.step + kStepsInFlight > launched_);  // older results are overwritten
  changed_.wait(lock, [&] { return done_ >= ticket.step; });
  const Step& step = step_of(ticket.step);
  if (step.failure) std::rethrow_exception(step.failure);
  return {step.sampled.first(static_cast<std::size_t>(step.n_sampled)),
          step.logits.first(static_cast<std::size_t>(step.n_wanted_logits) *
                            static_cast<std::size_t>(spec_.vocab)),
          step.expert_counts, routes_of(step)};
}

StepRoutes CpuBackend::routes_of(const Step& step) const {
  if (!record_routes_ || n_moe_layers_ == 0) return {};
  const std::size_t n_tokens = step.plan.tokens().size();
  const std::size_t slots = n_moe_layers_ * n_tokens * static_cast<std::size_t>(route_top_k_);
  return {step.route_ids.first(slots), step.route_weights.first(slots), static_cast<int>(n_tokens),
          route_top_k_};
}

int CpuBackend::kv_layers_done(Ticket ticket) const {
  const Step& step = step_of(ticket.step);
  if (step.ticket.load(std::memory_order_acquire) != ticket.step) return kv_layout_.n_layers;
  return step.kv_layers_done.load(std::memory_order_acquire);
}

Backend::Counters CpuBackend::counters() const {
  const ForwardCounters& forward = forward_->counters();
  return {n_steps_.load(), n_tokens_.load(), forward.moe_layer_launches.load(),
          forward.expert_rows.load(), forward.fp8_matrix_products.load()};
}

void CpuBackend::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || done_ < launched_; });
    if (stop_) return;
    Step& step = step_of(done_ + 1);
    lock.unlock();
    step.failure = nullptr;
    try {
      run(step);
    } catch (...) {
      step.failure = std::current_exception();
    }
    lock.lock();
    ++done_;
    changed_.notify_all();
  }
}

void CpuBackend::run(Step& step) {
  const StepPlan& plan = step.plan;
  for (const BlockCopy& copy : plan.copies()) forward_->copy_block(copy.from, copy.to);
  const auto n_tokens = plan.tokens().size();
  const auto n_sequences = static_cast<std::size_t>(read_plan(step));
  const auto n_logit_rows = static_cast<std::size_t>(order_logit_rows(step));
  std::ranges::fill(step.expert_counts, 0u);

  ForwardStep forward;
  forward.ids = ids_.first(n_tokens);
  forward.positions = positions_.first(n_tokens);
  forward.sequences = rows_.first(n_sequences);
  forward.logit_rows = logit_rows_.first(n_logit_rows);
  forward.logits = step.logits;
  forward.expert_counts = step.expert_counts;
  if (record_routes_) {
    forward.route_ids = step.route_ids;
    forward.route_weights = step.route_weights;
    forward.route_top_k = route_top_k_;
  }
  forward.kv_layers_done = plan.signal_kv() ? &step.kv_layers_done : nullptr;
  forward_->run(forward);
  sample(step);
  throw_if_cut();  // before anyone sees what was made of the zeros
  n_steps_.fetch_add(1, std::memory_order_relaxed);
  n_tokens_.fetch_add(n_tokens, std::memory_order_relaxed);
}

int CpuBackend::read_plan(const Step& step) {
  const auto tokens = step.plan.tokens();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    ids_[i] = tokens[i].is_literal() ? tokens[i].value : sampler_->last_sample(tokens[i].slot());
  }
  const auto sequences = step.plan.sequences();
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const StepSequence& sequence = sequences[i];
    rows_[i] = {sequence.first_token, sequence.n_tokens, sequence.first_position,
                step.plan.block_table(static_cast<int>(i))};
    for (std::int32_t t = 0; t < sequence.n_tokens; ++t) {
      const std::int32_t row = sequence.first_token + t;
      positions_[static_cast<std::size_t>(row)] = sequence.first_position + t;
    }
  }
  return static_cast<int>(sequences.size());
}

// Rows whose logits are returned come first, so that they lie together.
int CpuBackend::order_logit_rows(Step& step) {
  int n = 0;
  const auto samples = step.plan.samples();
  for (const bool wanted : {true, false}) {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (((samples[i].flags & kWantLogits) != 0) != wanted) continue;
      logit_rows_[static_cast<std::size_t>(n)] = samples[i].token;
      sample_rows_[i] = n++;
    }
    if (wanted) step.n_wanted_logits = n;
  }
  return n;
}

void CpuBackend::sample(Step& step) {
  const auto vocab = static_cast<std::size_t>(spec_.vocab);
  const auto samples = step.plan.samples();
  std::size_t n = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if ((samples[i].flags & kSampleToken) == 0) continue;
    const auto logits =
        step.logits.subspan(static_cast<std::size_t>(sample_rows_[i]) * vocab, vocab);
    step.sampled[n] = sampler_->sample(samples[i].slot, logits,
                                       step.logprobs.subspan(n * kMaxLogprobs, kMaxLogprobs));
    ++n;
  }
  step.n_sampled = static_cast<int>(n);
}

std::unique_ptr<Backend> make_cpu_backend(const ModelSpec& spec, const TensorSource& source,
                                          const MemoryPlan& plan, std::unique_ptr<CpuOps> ops) {
  return std::make_unique<CpuBackend>(spec, source, plan, std::move(ops));
}

}  // namespace moeopt::cpu
