// A recorded run of each golden checkpoint, through session, engine, recorder, file and reader,
// against Transformers' router outputs and against the tokens that were delivered.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/json.h"
#include "cli/routing_flags.h"
#include "cli/session.h"
#include "golden_test_name.h"
#include "routing/log_reader.h"
#include "tensor/dtype.h"

namespace moeopt::cli {
namespace {

struct GoldenRun {
  std::filesystem::path folder;
  std::vector<std::int32_t> prompt, greedy;
  Json routing;
};

GoldenRun load(const std::string& name) {
  GoldenRun golden;
  golden.folder = std::filesystem::path(MOEOPT_SOURCE_DIR) / "tests" / "golden" / name;
  const Json json = parse_json_file(golden.folder / "golden.json");
  golden.prompt = json["prompt"].get<std::vector<std::int32_t>>();
  golden.greedy = json["greedy"].get<std::vector<std::int32_t>>();
  golden.routing = json["routing"];
  return golden;
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(MOEOPT_SOURCE_DIR) / "tests" / "golden")) {
    if (std::filesystem::exists(entry.path() / "golden.json"))
      names.push_back(entry.path().filename());
  }
  std::ranges::sort(names);
  return names;
}

struct Logged {
  RoutingHeader header;
  std::vector<RequestRoutes> requests;
  std::uint64_t records = 0;
  bool truncated = false;
  std::optional<RoutingTotals> stated;
};

Logged read_log(const std::filesystem::path& file) {
  const auto reader = open_routing_log(file);
  Logged logged;
  logged.header = reader->header();
  RequestRoutes routes;
  while (reader->next(routes)) logged.requests.push_back(routes);
  logged.records = reader->records();
  logged.truncated = reader->truncated();
  logged.stated = reader->stated();
  return logged;
}

// The experts of one token in one logged layer, ascending.
std::vector<int> experts_of(const Logged& log, const RequestRoutes& request, std::size_t token,
                            std::size_t layer) {
  const auto top_k = static_cast<std::size_t>(log.header.top_k);
  const std::size_t first = (token * log.header.layers.size() + layer) * top_k;
  std::vector<int> ids;
  for (std::size_t i = first; i < first + top_k; ++i) {
    if (request.ids[i] != kNoExpert) ids.push_back(request.ids[i]);
  }
  std::ranges::sort(ids);
  return ids;
}

class RoutingLogTest : public testing::TestWithParam<std::string> {
 protected:
  RoutingLogTest()
      : file_(std::filesystem::path(testing::TempDir()) /
              ("moeopt-routing-" + std::to_string(::getpid()) + ".moer")) {}
  ~RoutingLogTest() override { std::filesystem::remove(file_); }

  std::unique_ptr<Session> session(const GoldenRun& golden, int step_tokens) {
    SettingsSources sources;
    sources.flags = {
        {"max-num-seqs", "4"},
        {"threads", "1"},
        {"max-num-batched-tokens", std::to_string(step_tokens)},
        {"max-model-len", std::to_string(golden.prompt.size() + golden.greedy.size())}};
    sources.data_folders = {MOEOPT_SOURCE_DIR};
    SessionOptions options;
    options.model = golden.folder.string();
    options.backend = "reference";
    options.settings = load_settings(sources);
    options.with_text = false;
    options.record_routes = true;
    auto session = std::make_unique<Session>(std::move(options));
    session->start();
    return session;
  }

  LogWriterOptions writer(LogFormat format) const {
    LogWriterOptions options;
    options.file = file_;
    options.format = format;
    return options;
  }

  std::filesystem::path file_;
};

Request request_of(const std::vector<std::int32_t>& prompt, int max_tokens) {
  Request request;
  request.prompt = prompt;
  request.sampling.temperature = 0;
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  return request;
}

TEST_P(RoutingLogTest, IsWhatTransformersRouted) {
  const GoldenRun golden = load(GetParam());
  // 7 tokens a step: the prompts go in chunks, beside the decoding of others.
  const auto session = this->session(golden, 7);
  const int n_greedy = static_cast<int>(golden.greedy.size());
  std::vector<std::int32_t> ids;
  {
    RoutingLog log(*session, writer(LogFormat::kBinary), routing_header(*session), {});
    for (int i = 0; i < 3; ++i) {
      session->engine().submit(request_of(golden.prompt, n_greedy), [&](const Event& event) {
        if (event.token != nullptr) ids.push_back(event.token->id);
      });
    }
    while (session->engine().step()) {
    }
  }
  EXPECT_EQ(ids.size(), 3 * golden.greedy.size());
  const Logged log = read_log(file_);
  ASSERT_EQ(log.requests.size(), 3u);
  std::vector<std::size_t> moe_layers;
  for (std::size_t layer = 0; layer < golden.routing.size(); ++layer) {
    if (!golden.routing[layer].is_null()) moe_layers.push_back(layer);
  }
  ASSERT_EQ(log.header.layers.size(), moe_layers.size());
  const std::size_t n_tokens = golden.prompt.size() + golden.greedy.size() - 1;
  std::uint64_t assignments = 0;
  for (const RequestRoutes& request : log.requests) {
    EXPECT_TRUE(request.complete);
    ASSERT_EQ(request.tokens(), n_tokens);  // the last token is sampled, never routed
    EXPECT_EQ(request.prompt_tokens, golden.prompt.size());
    ASSERT_EQ(request.spans.size(), 2u);
    EXPECT_EQ(request.spans[0].phase, RoutePhase::kPrefill);
    EXPECT_EQ(request.spans[0].n_tokens, golden.prompt.size());
    EXPECT_EQ(request.spans[1].phase, RoutePhase::kDecode);
    for (std::size_t layer = 0; layer < moe_layers.size(); ++layer) {
      const Json& wanted = golden.routing[moe_layers[layer]]["experts"];
      EXPECT_EQ(static_cast<std::size_t>(log.header.layers[layer]), moe_layers[layer]);
      for (std::size_t position = 0; position < golden.prompt.size(); ++position) {
        EXPECT_EQ(experts_of(log, request, position, layer),
                  wanted[position].get<std::vector<int>>());
      }
    }
    for (const std::uint16_t id : request.ids) assignments += id == kNoExpert ? 0 : 1;
  }
  EXPECT_EQ(log.records, 3 * n_tokens * moe_layers.size());
  EXPECT_EQ(assignments, session->engine().expert_counts().total());  // and no warm-up row
  ASSERT_TRUE(log.stated.has_value());
  EXPECT_EQ(log.stated->tokens, 3 * n_tokens);
}

// Decoding routes a position as a prefill of the same tokens does; the golden prompt's own routing
// is held against Transformers above.
TEST_P(RoutingLogTest, DecodeRoutesAsPrefillOfTheSameTokens) {
  const GoldenRun golden = load(GetParam());
  const auto session = this->session(golden, 64);
  {
    RoutingLog log(*session, writer(LogFormat::kJsonl), routing_header(*session), {});
    session->engine().submit(request_of(golden.prompt, static_cast<int>(golden.greedy.size())),
                             [](const Event&) {});
    while (session->engine().step()) {
    }
    session->engine().forget_prefixes();  // what it had would not be routed again
    std::vector<std::int32_t> all = golden.prompt;
    all.insert(all.end(), golden.greedy.begin(), golden.greedy.end() - 1);
    session->engine().submit(request_of(all, 1), [](const Event&) {});
    while (session->engine().step()) {
    }
  }
  const Logged log = read_log(file_);
  ASSERT_EQ(log.requests.size(), 2u);
  ASSERT_EQ(log.requests[0].tokens(), log.requests[1].tokens());
  for (std::size_t token = 0; token < log.requests[0].tokens(); ++token) {
    for (std::size_t layer = 0; layer < log.header.layers.size(); ++layer) {
      EXPECT_EQ(experts_of(log, log.requests[0], token, layer),
                experts_of(log, log.requests[1], token, layer));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RoutingLogTest, testing::ValuesIn(names()), golden_test_name);

}  // namespace
}  // namespace moeopt::cli
