#include "routing/routing_util.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tensor/dtype.h"

namespace moeopt {

RoutingHeader small_header(int n_experts, int top_k, std::vector<int> layers) {
  RoutingHeader header;
  header.model = "tiny";
  header.program = "moeopt test";
  header.router = "softmax";
  header.started = "2026-11-29T00:00:00Z";
  header.n_layers = layers.back() + 1;
  header.n_experts = n_experts;
  header.top_k = top_k;
  header.layers = std::move(layers);
  header.seed = 7;
  return header;
}

RequestRoutes random_request(const RoutingHeader& header, const std::string& id, int n_prompt,
                             int n_decode, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> weight(0.0f, 1.0f);
  RequestRoutes routes;
  routes.id = id;
  routes.prompt_tokens = static_cast<std::uint32_t>(n_prompt);
  routes.spans.push_back({0, static_cast<std::uint32_t>(n_prompt), RoutePhase::kPrefill, false});
  if (n_decode > 0) {
    routes.spans.push_back({static_cast<std::uint32_t>(n_prompt),
                            static_cast<std::uint32_t>(n_decode), RoutePhase::kDecode, false});
  }
  std::vector<std::uint16_t> experts(static_cast<std::size_t>(header.n_experts));
  std::iota(experts.begin(), experts.end(), std::uint16_t{0});
  const std::size_t cells = routes.tokens() * header.layers.size();
  for (std::size_t cell = 0; cell < cells; ++cell) {
    std::ranges::shuffle(experts, random);
    for (int slot = 0; slot < header.top_k; ++slot) {
      routes.ids.push_back(experts[static_cast<std::size_t>(slot)]);
      routes.weights.push_back(to_f16(weight(random)).bits);
    }
  }
  return routes;
}

ReadLog read_all(RoutingLogReader& reader) {
  ReadLog log;
  log.header = reader.header();
  RequestRoutes routes;
  while (reader.next(routes)) log.requests.push_back(routes);
  log.records = reader.records();
  log.truncated = reader.truncated();
  log.stated = reader.stated();
  return log;
}

ReadLog read_all(const std::string& bytes) {
  const auto reader = open_routing_log(std::as_bytes(std::span(bytes)), "log");
  return read_all(*reader);
}

ReadLog read_all(const std::filesystem::path& file) {
  const auto reader = open_routing_log(file);
  return read_all(*reader);
}

std::string encoded(LogFormat format, const RoutingHeader& header,
                    const std::vector<RequestRoutes>& requests) {
  const auto encoder = make_log_encoder(format);
  std::string bytes = encoder->header(header);
  for (const RequestRoutes& request : requests) bytes += encoder->request(header, request);
  return bytes;
}

void expect_equal(const RequestRoutes& got, const RequestRoutes& wanted) {
  EXPECT_EQ(got.id, wanted.id);
  EXPECT_EQ(got.prompt_tokens, wanted.prompt_tokens);
  EXPECT_EQ(got.cached_tokens, wanted.cached_tokens);
  EXPECT_EQ(got.complete, wanted.complete);
  ASSERT_EQ(got.spans.size(), wanted.spans.size());
  for (std::size_t i = 0; i < got.spans.size(); ++i) {
    EXPECT_EQ(got.spans[i].first_token, wanted.spans[i].first_token);
    EXPECT_EQ(got.spans[i].n_tokens, wanted.spans[i].n_tokens);
    EXPECT_EQ(got.spans[i].phase, wanted.spans[i].phase);
    EXPECT_EQ(got.spans[i].replayed, wanted.spans[i].replayed);
  }
  EXPECT_EQ(got.ids, wanted.ids);
  EXPECT_EQ(got.weights, wanted.weights);
}

TemporaryFile::TemporaryFile(const std::string& name)
    : path_(std::filesystem::path(testing::TempDir()) /
            ("moeopt-" + std::to_string(::getpid()) + "-" + name)) {}

TemporaryFile::~TemporaryFile() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
  for (int part = 1;
       std::filesystem::remove(path_.string() + "." + std::to_string(part), ignored);) {
    ++part;
  }
}

}  // namespace moeopt
