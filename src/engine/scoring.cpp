#include "engine/scoring.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace moeopt {

void score(Backend& backend, std::span<const std::int32_t> ids, int max_rows,
           const std::function<void(int, std::span<const float>)>& on_row, RouteSink* sink,
           std::uint64_t request) {
  const auto vocab = static_cast<std::size_t>(backend.model().vocab);
  if (ids.empty()) throw_error(ErrorCode::kUsage, "no token ids to score");
  for (const std::int32_t id : ids) {
    if (id < 0 || static_cast<std::size_t>(id) >= vocab) {
      throw_error(ErrorCode::kUsage, "token id {} is outside the vocabulary of {}", id, vocab);
    }
  }
  const auto block_tokens = static_cast<std::size_t>(backend.kv_layout().block_tokens);
  const std::size_t n_blocks = (ids.size() + block_tokens - 1) / block_tokens;
  const std::size_t room = static_cast<std::size_t>(
      std::min(backend.kv_blocks(), backend.capacity().blocks_per_sequence));
  if (n_blocks > room) {
    throw Error(
        ErrorCode::kUsage,
        fmt::format("{} tokens do not fit the context of {}", ids.size(), room * block_tokens),
        "raise --max-model-len");
  }
  std::vector<std::int32_t> blocks(n_blocks);
  std::iota(blocks.begin(), blocks.end(), 0);

  backend.bind_slot(0, SamplingParams{}, {});
  StepPlan plan(backend.capacity());
  std::vector<TokenRef> tokens;
  const auto chunk = static_cast<std::size_t>(std::min(max_rows, backend.capacity().tokens));
  MOEOPT_CHECK(chunk > 0u);
  for (std::size_t begin = 0; begin < ids.size(); begin += chunk) {
    const auto part = ids.subspan(begin, std::min(chunk, ids.size() - begin));
    tokens.clear();
    for (const std::int32_t id : part) tokens.push_back(TokenRef::literal(id));
    plan.clear();
    const int first = plan.add_sequence(0, static_cast<int>(begin), tokens, blocks);
    for (int i = 0; i < static_cast<int>(part.size()); ++i) {
      plan.add_sample(first + i, 0, kWantLogits);
    }
    backend.prepare(plan);
    const StepResult result = backend.wait(backend.launch());
    MOEOPT_CHECK(result.logits.size() == part.size() * vocab);
    if (sink != nullptr) {
      const RouteRun run{request,
                         0,
                         0,
                         static_cast<int>(part.size()),
                         static_cast<int>(begin),
                         static_cast<int>(ids.size())};
      const StepRoutes& routes = result.routes;
      sink->on_routes({&run, 1}, {routes.ids, routes.weights, routes.n_tokens, routes.top_k});
    }
    for (std::size_t i = 0; i < part.size(); ++i) {
      on_row(static_cast<int>(begin + i), result.logits.subspan(i * vocab, vocab));
    }
  }
  if (sink != nullptr) sink->on_finished(request, 0);
}

double negative_log_likelihood(std::span<const float> logits, std::int32_t id) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return most + std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
}

}  // namespace moeopt
