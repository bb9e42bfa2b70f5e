#include "cpu/runner_util.h"

#include <numeric>

#include "checkpoint/model_folder.h"
#include "model/parse.h"

namespace moeopt::cpu {
namespace {

std::vector<TokenRef> literals(std::span<const std::int32_t> ids) {
  std::vector<TokenRef> tokens;
  for (const std::int32_t id : ids) tokens.push_back(TokenRef::literal(id));
  return tokens;
}

}  // namespace

LoadedModel load_model(const std::filesystem::path& folder) {
  const ModelFolder model = resolve_model(folder.string());
  return {parse_model_spec(read_config(model), "config.json"), open_tensors(model)};
}

ExecutionLimits small_limits(int sequences, int length, int block_tokens, int kv_blocks) {
  ExecutionLimits limits;
  limits.max_sequences = sequences;
  limits.max_step_tokens = sequences * length;
  limits.max_logit_rows = sequences * length;
  limits.max_model_len = length;
  limits.block_tokens = block_tokens;
  limits.kv_blocks = kv_blocks;
  return limits;
}

std::vector<std::int32_t> plain_table(const ExecutionLimits& limits, int first_block) {
  std::vector<std::int32_t> table(static_cast<std::size_t>(limits.blocks_per_sequence()));
  std::iota(table.begin(), table.end(), first_block);
  return table;
}

std::vector<float> logits_of(CpuBackend& backend, int slot, std::span<const std::int32_t> tokens,
                             int first_position, std::span<const std::int32_t> table) {
  StepPlan plan(backend.capacity());
  plan.clear();
  plan.add_sequence(slot, first_position, literals(tokens), table);
  for (int i = 0; i < static_cast<int>(tokens.size()); ++i) plan.add_sample(i, slot, kWantLogits);
  backend.prepare(plan);
  const StepResult result = backend.wait(backend.launch());
  return {result.logits.begin(), result.logits.end()};
}

std::vector<std::int32_t> greedy_ids(CpuBackend& backend, int slot,
                                     std::span<const std::int32_t> prompt, int n,
                                     std::span<const std::int32_t> table) {
  SamplingParams params;
  params.temperature = 0;
  backend.bind_slot(slot, params, prompt);
  StepPlan plan(backend.capacity());
  plan.clear();
  const int last =
      plan.add_sequence(slot, 0, literals(prompt), table) + static_cast<int>(prompt.size()) - 1;
  plan.add_sample(last, slot, kSampleToken);
  backend.prepare(plan);
  Ticket ticket = backend.launch();

  std::vector<std::int32_t> ids;
  for (int i = 1; i <= n; ++i) {
    Ticket next;
    if (i < n) {
      const TokenRef token = TokenRef::last_sample_of(slot);
      plan.clear();
      plan.add_sequence(slot, static_cast<int>(prompt.size()) + i - 1, {&token, 1}, table);
      plan.add_sample(0, slot, kSampleToken);
      backend.prepare(plan);
      next = backend.launch();
    }
    ids.push_back(backend.wait(ticket).sampled.front().id);
    ticket = next;
  }
  return ids;
}

}  // namespace moeopt::cpu
