// Both formats carry the same log, and each can be made from the other without loss.
#include "routing/log_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "routing/crc32.h"
#include "routing/log_check.h"
#include "routing/routing_util.h"
#include "tensor/dtype.h"

namespace moeopt {
namespace {

std::vector<RequestRoutes> some_requests(const RoutingHeader& header) {
  std::vector<RequestRoutes> requests = {random_request(header, "r1", 5, 3, 1),
                                         random_request(header, "r \"2\" \xc3\xa4", 1, 0, 2),
                                         random_request(header, "r3", 9, 40, 3)};
  requests[2].cached_tokens = 16;
  requests[2].spans[0].first_token = 16;
  requests[2].spans[1] = {25, 20, RoutePhase::kDecode, false};
  requests[2].spans.push_back({20, 20, RoutePhase::kDecode, true});  // replayed
  return requests;
}

class FormatTest : public testing::TestWithParam<std::pair<LogFormat, int>> {};

TEST_P(FormatTest, ReadsWhatItWrote) {
  const auto [format, n_experts] = GetParam();
  const RoutingHeader header = small_header(n_experts, 3, {0, 2, 5});
  const auto requests = some_requests(header);
  const ReadLog log = read_all(encoded(format, header, requests));
  EXPECT_EQ(log.header.model, "tiny");
  EXPECT_EQ(log.header.layers, header.layers);
  EXPECT_EQ(log.header.n_experts, n_experts);
  EXPECT_EQ(log.header.seed, 7u);
  EXPECT_EQ(log.header.started, header.started);
  EXPECT_TRUE(log.header.missing.empty());
  ASSERT_EQ(log.requests.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) expect_equal(log.requests[i], requests[i]);
  EXPECT_EQ(log.records, (8u + 1u + 49u) * 3u);
  EXPECT_FALSE(log.truncated);
}

INSTANTIATE_TEST_SUITE_P(
    Both, FormatTest,
    testing::Values(std::pair{LogFormat::kJsonl, 16}, std::pair{LogFormat::kBinary, 16},
                    std::pair{LogFormat::kBinary, 255}, std::pair{LogFormat::kBinary, 256},
                    std::pair{LogFormat::kJsonl, 1000}, std::pair{LogFormat::kBinary, 1000}));

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(Convert, ThereAndBackIsTheSameFile) {
  const RoutingHeader header = small_header();
  const TemporaryFile jsonl("a.jsonl"), binary("a.moer"), back("b.jsonl"), again("b.moer");
  std::string text = encoded(LogFormat::kJsonl, header, some_requests(header));
  RoutingTotals totals;
  totals.requests = 3;
  totals.tokens = 58;
  totals.replayed_tokens = 20;
  totals.cached_tokens = 16;
  totals.dropped_requests = 2;
  text += make_log_encoder(LogFormat::kJsonl)->totals(totals);
  std::ofstream(jsonl.path(), std::ios::binary) << text;
  EXPECT_EQ(convert_log(jsonl.path(), binary.path(), true).records, 116u);
  EXPECT_EQ(convert_log(binary.path(), back.path(), false).records, 116u);
  EXPECT_EQ(convert_log(back.path(), again.path(), true).records, 116u);
  EXPECT_EQ(bytes_of(back.path()), text);
  EXPECT_EQ(bytes_of(again.path()), bytes_of(binary.path()));
  EXPECT_LT(bytes_of(binary.path()).size() * 5, text.size());
  EXPECT_THROW(convert_log(jsonl.path(), jsonl.path(), true), Error);
  EXPECT_EQ(bytes_of(jsonl.path()), text);
}

// At most 2 bytes an id and 2 a weight, beside a constant for a request.
TEST(Binary, IsCompact) {
  const RoutingHeader header = small_header(256, 8, {0, 1, 2, 3});
  const auto one = encoded(LogFormat::kBinary, header, {random_request(header, "r", 1000, 0, 1)});
  const auto two = encoded(LogFormat::kBinary, header, {random_request(header, "r", 2000, 0, 1)});
  EXPECT_EQ(two.size() - one.size(), 1000u * 4 * 8 * 4);
  const RoutingHeader narrow = small_header(128, 8, {0, 1, 2, 3});
  const auto three = encoded(LogFormat::kBinary, narrow, {random_request(narrow, "r", 1000, 0, 1)});
  const auto four = encoded(LogFormat::kBinary, narrow, {random_request(narrow, "r", 2000, 0, 1)});
  EXPECT_EQ(four.size() - three.size(), 1000u * 4 * 8 * 3);
}

TEST(WeightText, ReadsBackAsTheSameFp16) {
  std::array<char, 32> buffer;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7c00u) == 0x7c00u) continue;
    const std::string text(weight_text(static_cast<std::uint16_t>(bits), buffer));
    ASSERT_EQ(to_f16(std::stof(text)).bits, bits) << text;
  }
  EXPECT_EQ(weight_text(to_f16(0.25f).bits, buffer), "0.25");
  EXPECT_EQ(weight_text(to_f16(0.1f).bits, buffer), "0.1");
}

TEST(Crc32, IsTheUsualOne) {
  const std::string text = "123456789";
  EXPECT_EQ(crc32(std::as_bytes(std::span(text))), 0xcbf43926u);
  const std::string longer = "The quick brown fox jumps over the lazy dog";
  EXPECT_EQ(crc32(std::as_bytes(std::span(longer))), 0x414fa339u);
  EXPECT_EQ(crc32({}), 0u);
}

TEST(SelectLayers, TakesListsAndRanges) {
  const std::vector<int> layers = {1, 2, 3, 5, 8};
  EXPECT_EQ(select_layers("all", layers), layers);
  EXPECT_EQ(select_layers("2", layers), std::vector<int>{2});
  EXPECT_EQ(select_layers("8,1-3", layers), (std::vector<int>{1, 2, 3, 8}));
  EXPECT_EQ(select_layers("4-9", layers), (std::vector<int>{5, 8}));
  for (const char* wrong : {"", "0", "x", "3-1", "1,", "-1", "6-7", "99999999999", "1 ,2"}) {
    EXPECT_THROW(select_layers(wrong, layers), Error) << wrong;
  }
}

}  // namespace
}  // namespace moeopt
