// What the log says when everything happens at once: a pool too small for the requests, prompts in
// chunks beside decoding, prefixes from the cache. Every record against Transformers' routers, in
// both phases: the decoded tokens are forced to be the golden prompt's own, whose routing is known.
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/model_folder.h"
#include "cpu/cpu_backend.h"
#include "cpu/golden_util.h"
#include "engine/engine.h"
#include "engine/engine_util.h"
#include "golden_test_name.h"
#include "model/parse.h"
#include "routing/recorder.h"
#include "routing/routing_util.h"

namespace moeopt {
namespace {

using Ids = std::vector<std::int32_t>;

// Allows these ids, one after the other.
class Dictation final : public TokenConstraint {
 public:
  explicit Dictation(Ids ids) : ids_(std::move(ids)) {}
  void fill_mask(std::span<std::uint64_t> allowed) override {
    std::ranges::fill(allowed, 0u);
    const auto id = static_cast<std::size_t>(ids_.at(next_));
    allowed[id / 64] |= std::uint64_t{1} << (id % 64);
  }
  void accept(std::int32_t id) override { EXPECT_EQ(id, ids_.at(next_++)); }
  bool complete() const override { return next_ == ids_.size(); }

 private:
  Ids ids_;
  std::size_t next_ = 0;
};

struct Told {
  EngineCounters counters;
  std::uint64_t replayed = 0, cached = 0;  // tokens
};

class RecordedRoutes : public testing::TestWithParam<std::string> {
 protected:
  static constexpr int kBlockTokens = 4, kExtra = 4;

  RecordedRoutes() : golden_(load_golden(GetParam())) {
    const ModelFolder folder = resolve_model(golden_.folder.string());
    spec_ = parse_model_spec(read_config(folder), "config.json");
    source_ = open_tensors(folder);
    for (std::size_t layer = 0; layer < golden_.routing.size(); ++layer) {
      if (!golden_.routing[layer].experts.empty()) layers_.push_back(static_cast<int>(layer));
    }
  }

  int length() const { return static_cast<int>(golden_.prompt.size()); }
  // Blocks of one whole sequence and a few more, for four at a time.
  ExecutionLimits limits() const {
    ExecutionLimits limits;
    limits.max_sequences = 4;
    limits.max_step_tokens = 7;
    limits.max_logit_rows = 4;
    limits.max_model_len = length() + kExtra;
    limits.block_tokens = kBlockTokens;
    limits.kv_blocks = extra_blocks_ + (length() + kExtra + kBlockTokens - 1) / kBlockTokens;
    limits.record_routes = true;
    return limits;
  }

  RoutingHeader header() const {
    RoutingHeader header;
    header.model = golden_.name;
    header.router = "softmax";
    header.n_layers = static_cast<int>(spec_.layers.size());
    header.layers = layers_;
    for (const LayerSpec& layer : spec_.layers) {
      if (!layer.moe) continue;
      header.n_experts = std::max(header.n_experts, layer.moe->n_experts);
      header.top_k = std::max(header.top_k, layer.moe->top_k);
    }
    return header;
  }

  // The first `n` tokens are the prompt, the others are dictated.
  Request split_at(int n) const {
    const auto middle = golden_.prompt.begin() + n;
    Request request = request_of(Ids(golden_.prompt.begin(), middle), std::max(1, length() - n));
    request.ignore_eos = true;
    if (n < length()) {
      request.constraints.push_back(std::make_unique<Dictation>(Ids(middle, golden_.prompt.end())));
    }
    return request;
  }

  // The whole prompt, then greedy until a stop id that nobody knows of beforehand: the next step is
  // on its way already when it comes, with a row that is nobody's.
  Request stopping() const {
    Request request = request_of(golden_.prompt, kExtra);
    request.sampling.temperature = 0;
    request.ignore_eos = false;
    request.stop_ids = {golden_.greedy[1]};
    return request;
  }

  void expect_transformers(const RequestRoutes& request, int n_prompt) {
    std::vector<int> computed(golden_.prompt.size(), 0);
    std::size_t token = 0, first_times = 0;
    for (const RouteSpan& span : request.spans) {
      for (std::uint32_t i = 0; i < span.n_tokens; ++i, ++token) {
        const std::size_t position = span.first_token + i;
        first_times += span.replayed ? 0 : 1;
        if (position >= golden_.prompt.size()) continue;
        const bool prompt = position < static_cast<std::size_t>(n_prompt);
        EXPECT_EQ(span.phase, prompt ? RoutePhase::kPrefill : RoutePhase::kDecode);
        EXPECT_TRUE(span.replayed || computed[position] == 0) << position;
        computed[position] += 1;
        for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
          expect_experts(request, token, layer, position);
        }
      }
    }
    // The last token is sampled and never routed: a dictated one, or the stop id.
    const auto stop = std::ranges::find(golden_.greedy, golden_.greedy[1]) - golden_.greedy.begin();
    const auto last = static_cast<std::size_t>(
        n_prompt < length() ? length() - 1 : length() + static_cast<int>(stop));
    EXPECT_EQ(first_times + request.cached_tokens, last);
  }

  void expect_experts(const RequestRoutes& request, std::size_t token, std::size_t layer,
                      std::size_t position) const {
    const auto top_k = request.ids.size() / request.tokens() / layers_.size();
    const auto ids =
        std::span(request.ids).subspan((token * layers_.size() + layer) * top_k, top_k);
    std::vector<std::int32_t> experts;
    std::ranges::copy_if(ids, std::back_inserter(experts),
                         [](std::uint16_t id) { return id != kNoExpert; });
    std::ranges::sort(experts);
    const auto& wanted = golden_.routing[static_cast<std::size_t>(layers_[layer])];
    EXPECT_EQ(experts, wanted.experts[position])
        << "layer " << layers_[layer] << ", position " << position;
  }

  Told run(bool prefix_cache);

  Golden golden_;
  ModelSpec spec_;
  std::unique_ptr<TensorSource> source_;
  std::vector<int> layers_;
  int extra_blocks_ = 0;
};

// What came of a run of all requests.
Told RecordedRoutes::run(bool prefix_cache) {
  const TemporaryFile file("recorded");
  cpu::CpuBackend backend(spec_, *source_, limits(), cpu::make_reference_ops());
  backend.set_record_routes(true);
  EngineOptions options;
  options.max_model_len = length() + kExtra;
  options.max_step_tokens = limits().max_step_tokens;
  options.prefix_cache = prefix_cache;
  options.chunked_prefill = true;
  Engine engine(backend, nullptr, options);
  LogWriterOptions writer;
  writer.file = file.path();
  writer.format = LogFormat::kBinary;
  RoutingRecorder recorder(std::move(writer), header(), layers_, {});
  engine.set_route_sink(&recorder);
  const std::vector<int> splits = {length(), 9, 2, 3, 5, 13, length() - 1, 17};
  int ended = 0;
  for (const int n : splits) {
    const bool stops = n == length();
    engine.submit(stops ? stopping() : split_at(n), [&, stops](const Event& event) {
      if (event.finish == FinishReason::kNone) return;
      EXPECT_EQ(event.finish, stops ? FinishReason::kStop : FinishReason::kLength) << event.error;
      ended += 1;
    });
  }
  while (engine.step()) {
  }
  engine.set_route_sink(nullptr);
  recorder.close();
  EXPECT_EQ(ended, static_cast<int>(splits.size()));

  const ReadLog log = read_all(file.path());
  EXPECT_EQ(log.requests.size(), splits.size());
  Told told{engine.counters()};
  std::uint64_t rows = 0;
  for (const RequestRoutes& request : log.requests) {
    EXPECT_TRUE(std::ranges::count(splits, static_cast<int>(request.prompt_tokens)) == 1);
    expect_transformers(request, static_cast<int>(request.prompt_tokens));
    told.replayed += request.replayed_tokens();
    told.cached += request.cached_tokens;
    rows += static_cast<std::uint64_t>(
        std::ranges::count_if(request.ids, [](std::uint16_t id) { return id != kNoExpert; }));
  }
  // Tokens x top-k, replayed ones included, and one row of each layer that came too late.
  const std::uint64_t late = engine.expert_counts().total() - rows;
  EXPECT_GT(late, 0u);
  EXPECT_LE(late, layers_.size() * static_cast<std::uint64_t>(header().top_k));
  EXPECT_EQ(log.stated->replayed_tokens, told.replayed);
  EXPECT_EQ(log.stated->cached_tokens, told.cached);
  return told;
}

// A preempted sequence finds its blocks in the cache again; what it finds is not routed again.
TEST_P(RecordedRoutes, AreTransformersThroughChunksPreemptionAndPrefixCache) {
  const Told told = run(true);
  EXPECT_GT(told.counters.prefill_chunks, 0u);
  EXPECT_GT(told.counters.preemptions, 0u);
  EXPECT_GT(told.counters.prefix_hits_tokens, 0u);
  EXPECT_GT(told.cached, 0u);
}

TEST_P(RecordedRoutes, AreTransformersWhenComputedAgainAfterPreemption) {
  const Told told = run(false);
  EXPECT_GT(told.counters.prefill_chunks, 0u);
  EXPECT_GT(told.counters.preemptions, 0u);
  EXPECT_GT(told.replayed, 0u);
  EXPECT_EQ(told.cached, 0u);
}

// With room for all, the step that comes too late for one has rows of the others behind its own.
TEST_P(RecordedRoutes, AreTransformersBesideASequenceThatStops) {
  extra_blocks_ = 40;
  const Told told = run(true);
  EXPECT_EQ(told.counters.preemptions, 0u);
  EXPECT_EQ(told.replayed, 0u);
}

INSTANTIATE_TEST_SUITE_P(All, RecordedRoutes, testing::ValuesIn(golden_names()), golden_test_name);

}  // namespace
}  // namespace moeopt
