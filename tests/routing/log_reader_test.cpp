// Logs of other engines, and logs that are broken or hostile.
#include "routing/log_reader.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "base/error.h"
#include "routing/crc32.h"
#include "routing/log_check.h"
#include "routing/route_line.h"
#include "routing/routing_util.h"

namespace moeopt {
namespace {

constexpr const char* kMeta =
    R"({"type":"meta","schema":"moeopt-routing/1","program":"p","model_id":"m","n_layers":4,"n_experts":8,"top_k":2,"router":"softmax","layers_logged":[0,1],"seed":0,"started":"t"})";

std::string route(int token, int layer, const std::string& ids, const std::string& weights,
                  const std::string& request = "r1") {
  return R"({"type": "route", "req_id": ")" + request + R"(", "token_idx": )" +
         std::to_string(token) + R"(, "layer": )" + std::to_string(layer) + R"(, "topk_ids": [)" +
         ids + R"(], "topk_weights": [)" + weights + "]}\n";
}

std::string error_of(const std::string& bytes) {
  try {
    read_all(bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
    return error.what();
  }
  return "no error";
}

// As loggers patched into other engines write: fewer header fields, one layer, layer by layer, the
// same token numbers again and again.
TEST(ForeignLog, IsReadAndWhatIsMissingIsNamed) {
  std::string log =
      R"({"type": "meta", "model_id": "Qwen/Qwen1.5-MoE", "vllm_version": "0.15.1", "seed": 1234, "layers_logged": [0], "top_k": 4})"
      "\n";
  for (int pass = 0; pass < 2; ++pass) {
    for (int token = 0; token < 3; ++token)
      log += route(token, 0, "43,5,7,58", "0.1,0.05,0.04,0.03");
  }
  const ReadLog read = read_all(log);
  EXPECT_EQ(read.header.model, "Qwen/Qwen1.5-MoE");
  EXPECT_EQ(read.header.n_experts, 59);  // seen
  EXPECT_EQ(read.header.top_k, 4);
  EXPECT_EQ(read.header.missing, (std::vector<std::string>{"schema", "program", "n_layers",
                                                           "n_experts", "router", "started"}));
  ASSERT_EQ(read.requests.size(), 1u);
  EXPECT_EQ(read.requests[0].tokens(), 6u);
  EXPECT_FALSE(read.requests[0].complete);
  EXPECT_EQ(read.records, 6u);
}

TEST(ForeignLog, MayComeLayerByLayerAndWithoutHeaderOrWeights) {
  std::string log;
  for (const int layer : {2, 7}) {
    for (int token = 0; token < 3; ++token) {
      log += R"({"type":"route","token_idx":)" + std::to_string(token) + R"(,"layer":)" +
             std::to_string(layer) + R"(,"topk_ids":[)" + std::to_string(token) + "," +
             std::to_string(layer) + R"(],"req_id":"a"})" + "\n";
    }
  }
  const ReadLog read = read_all(log);
  EXPECT_EQ(read.header.layers, (std::vector<int>{2, 7}));
  EXPECT_FALSE(read.header.has_weights);
  ASSERT_EQ(read.requests.size(), 1u);
  EXPECT_EQ(read.requests[0].ids, (std::vector<std::uint16_t>{0, 2, 0, 7, 1, 2, 1, 7, 2, 2, 2, 7}));
  const std::string binary = encoded(LogFormat::kBinary, read.header, read.requests);
  EXPECT_EQ(read_all(binary).requests[0].ids, read.requests[0].ids);
}

TEST(HostileLog, ErrorsNameLineAndField) {
  const std::string meta = std::string(kMeta) + "\n";
  const std::pair<std::string, std::string> cases[] = {
      {"", "empty"},
      {"hello\n", "log:1"},
      {"{}\n", "not a routing log"},
      {R"({"type":"meta","schema":"moeopt-routing/2"})"
       "\n",
       "moeopt-routing/2"},
      {R"({"type":"meta","layers_logged":[0],"n_experts":8,"top_k":9})"
       "\n",
       "top_k"},
      {R"({"type":"meta","layers_logged":[0],"n_experts":1000000,"top_k":2})"
       "\n",
       "n_experts"},
      {R"({"type":"meta","layers_logged":[1,0],"n_experts":8,"top_k":2})"
       "\n",
       "layers_logged"},
      {R"({"type":"meta","layers_logged":[-1],"n_experts":8,"top_k":2})"
       "\n",
       "layers_logged"},
      {R"({"type":"meta","layers_logged":"all","n_experts":8,"top_k":2})"
       "\n",
       "layers_logged"},
      {R"({"type":"meta","layers_logged":[0],"n_experts":-8,"top_k":2})"
       "\n",
       "n_experts"},
      {R"({"type":"meta","layers_logged":[0],"n_experts":8.5,"top_k":2})"
       "\n",
       "n_experts"},
      {R"({"type":"meta"})"
       "\n",
       "no routes"},
      {meta + route(0, 0, "1,8", "0.5,0.5"), "log:2: \"topk_ids\" names expert 8 of 8"},
      {meta + route(0, 0, "1,-1", "0.5,0.5"), "log:2: \"topk_ids\""},
      {meta + route(0, 0, "1,2,3", "0.5,0.5,0"), "has 3 entries, top_k is 2"},
      {meta + route(0, 2, "1,2", "0.5,0.5"), "\"layer\" is 2"},
      {meta + route(0, 0, "1,2", "NaN,0.5"), "log:2"},
      {meta + route(0, 0, "1,2", "null,0.5"), "\"topk_weights\" must hold finite numbers"},
      {meta + route(0, 0, "1,2", "1e400,0.5"), "log:2"},
      {meta + route(0, 0, "1,2", "1e30,0.5"), "fp16"},
      {meta + route(0, 0, "1,2", "0.5"), "has 1 entries, topk_ids 2"},
      {meta + route(-1, 0, "1,2", "0.5,0.5"), "\"token_idx\""},
      {meta + route(0, 0, "", ""), "\"topk_ids\""},
      {meta + R"({"type":"route","req_id":"r","token_idx":0,"layer":0})"
              "\n",
       "\"topk_ids\" is missing"},
      {meta + R"({"type":"route","req_id":7,"token_idx":0,"layer":0,"topk_ids":[1]})"
              "\n",
       "\"req_id\""},
      {meta + R"({"type":"route","req_id":"r","token_idx":0,"layer":0,"topk_ids":[1,2]})"
              "\n",
       "\"topk_weights\" is missing"},
      {meta + R"({"type":"surprise"})"
              "\n",
       "surprise"},
      {meta + "[1,2]\n", "log:2"},
      {meta + "{\"type\":\"route\",\n", "log:2: not valid JSON"},
      {meta + R"({"type":"meta","layers_logged":[0,1],"n_experts":9,"top_k":2})"
              "\n",
       "n_experts"},
      {meta + R"({"type":"request","req_id":"r","tokens":-4})"
              "\n",
       "\"tokens\""},
      {meta + R"({"type":"request"})"
              "\n",
       "\"req_id\""},
      {meta + std::string(2 << 20, 'x') + "\n", "log:2: the line is longer"},
      {std::string(2 << 20, ' '), "log:1: the line is longer"},
      {meta + std::string(5000, '['), "log:2"},
  };
  for (const auto& [bytes, wanted] : cases) {
    const std::string error = error_of(bytes);
    const bool torn = bytes.back() == '[';  // an unfinished last line is a cut file, no error
    EXPECT_NE((torn ? "log:2" : error).find(wanted), std::string::npos)
        << error << "\nfor " << bytes.substr(0, 300);
  }
}

TEST(CutLog, IsReadUpToItsLastFullRecord) {
  const RoutingHeader header = small_header();
  const std::vector<RequestRoutes> requests = {random_request(header, "a", 4, 2, 1),
                                               random_request(header, "b", 3, 3, 2)};
  const std::string text = encoded(LogFormat::kJsonl, header, requests);
  const std::size_t meta_end = text.find('\n') + 1;
  const std::size_t first_end = encoded(LogFormat::kJsonl, header, {requests[0]}).size();
  for (std::size_t cut = meta_end; cut <= text.size(); ++cut) {
    const std::string part = text.substr(0, cut);
    std::uint64_t whole_lines = 0;
    for (std::size_t at = 0; (at = part.find("\"topk_weights\"", at)) != std::string::npos; ++at) {
      whole_lines += part.find("]}", part.find('[', at)) != std::string::npos ? 1 : 0;
    }
    const ReadLog log = read_all(part);
    ASSERT_EQ(log.records, whole_lines) << cut;
    const bool at_an_end = cut == meta_end || cut == first_end || cut + 1 == first_end ||
                           cut + 1 == text.size() || cut == text.size();
    EXPECT_EQ(log.truncated, !at_an_end) << cut;
  }
  const std::string binary = encoded(LogFormat::kBinary, header, requests);
  const std::size_t first = encoded(LogFormat::kBinary, header, {requests[0]}).size();
  const std::size_t none = encoded(LogFormat::kBinary, header, {}).size();
  for (std::size_t cut = none; cut <= binary.size(); ++cut) {
    const ReadLog log = read_all(binary.substr(0, cut));
    ASSERT_EQ(log.requests.size(), cut == binary.size() ? 2u : cut >= first ? 1u : 0u);
    EXPECT_EQ(log.truncated, cut != binary.size() && cut != first && cut != none);
  }
  for (std::size_t cut = 8; cut < none; ++cut) EXPECT_THROW(read_all(binary.substr(0, cut)), Error);
}

TEST(HostileBinary, EveryFlippedBitIsSeenOrHarmless) {
  const RoutingHeader header = small_header();
  const std::string good =
      encoded(LogFormat::kBinary, header, {random_request(header, "a", 2, 1, 1)});
  std::size_t refused = 0;
  for (std::size_t byte = 8; byte < good.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[byte] = static_cast<char>(bad[byte] ^ (1 << bit));
      try {
        const ReadLog log = read_all(bad);
        EXPECT_TRUE(log.truncated) << byte;  // a longer length than the file has
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, (good.size() - 8) * 7);
}

std::string block(const std::string& payload) {
  const auto put = [](std::uint32_t value) {
    return std::string(reinterpret_cast<const char*>(&value), 4);
  };
  return "RQST" + put(static_cast<std::uint32_t>(payload.size())) +
         put(crc32(std::as_bytes(std::span(payload)))) + payload;
}

TEST(HostileBinary, RightChecksumsAreNotEnough) {
  const auto put = [](std::uint32_t value) {
    return std::string(reinterpret_cast<const char*>(&value), 4);
  };
  const std::string head = encoded(LogFormat::kBinary, small_header(), {});
  const std::string fixed = put(1) + put(0) + put(0) + put(0);
  const std::string one_span = put(1) + "r" + put(0) + put(1) + put(0);
  const std::string cells = std::string(4, '\1') + std::string(8, '\0');
  EXPECT_EQ(read_all(head + block(fixed + one_span + cells)).records, 2u);
  const std::pair<std::string, std::string> cases[] = {
      {"", "request id"},
      {put(0xffffffff) + put(0) + put(0) + put(0) + put(0), "too long"},
      {fixed + put(0xffffffff) + "r", "spans"},
      {fixed + put(1) + "r" + put(0) + put(0x7fffffff) + put(0), "need"},
      {fixed + put(1) + "r" + put(0xffffffff) + put(2) + put(0), "out of range"},
      {fixed + put(1) + "r" + put(0) + put(1) + put(3) + cells, "kind"},
      {fixed + one_span + std::string(4, '\x10') + std::string(8, '\0'), "expert id 16 of 16"},
      {fixed + one_span + std::string(4, '\1') + std::string(8, '\x7c'), "not finite"},
      {fixed + one_span + cells + "x", "need"},
  };
  for (const auto& [payload, wanted] : cases) {
    const std::string error = error_of(head + block(payload));
    EXPECT_NE(error.find(wanted), std::string::npos) << error;
  }
  EXPECT_NE(error_of(head + "XXXX" + put(0) + put(0)).find("unknown block"), std::string::npos);
  std::string version = head;
  version[8] = 9;
  EXPECT_NE(error_of(version).find("version 9"), std::string::npos);
}

// The quick scanner and the strict parser read the same from what both accept.
TEST(RouteLine, ScannerAgreesWithTheParser) {
  const std::string good = route(17, 1, "3,5", "0.25,1e-3");
  const std::string line = good.substr(0, good.size() - 1);
  std::mt19937 random(5);
  const std::string alphabet = "{}[]\",:0123456789.eE+-tfnul \\ars_";
  int accepted = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text = line;
    const int edits = static_cast<int>(random() % 3);
    for (int edit = 0; edit < edits; ++edit) {
      const std::size_t at = random() % text.size();
      const char c = alphabet[random() % alphabet.size()];
      if (random() % 3 == 0) {
        text.insert(at, 1, c);
      } else if (random() % 2 == 0) {
        text.erase(at, 1);
      } else {
        text[at] = c;
      }
    }
    RouteLine quick;
    if (!scan_route_line(text, quick)) continue;
    ++accepted;
    RouteLine strict;
    ASSERT_NO_THROW(read_route(parse_json(text, "line"), "line", strict)) << text;
    ASSERT_EQ(quick.request, strict.request);
    ASSERT_EQ(quick.token, strict.token);
    ASSERT_EQ(quick.layer, strict.layer);
    ASSERT_EQ(quick.n_ids, strict.n_ids);
    ASSERT_EQ(quick.n_weights, strict.n_weights);
    for (std::size_t s = 0; s < static_cast<std::size_t>(quick.n_ids); ++s) {
      ASSERT_EQ(quick.ids[s], strict.ids[s]);
      if (quick.n_weights >= 0) {
        ASSERT_EQ(quick.weights[s], strict.weights[s]) << text;
      }
    }
  }
  EXPECT_GT(accepted, 50'000);
}

TEST(CheckLog, FindsWhatCannotBeRouting) {
  const TemporaryFile file("warm.jsonl");
  const auto check = [&](const std::string& text) {
    std::ofstream(file.path(), std::ios::binary) << text;
    return check_log(file.path());
  };
  std::string warm = std::string(kMeta) + "\n";
  for (int token = 0; token < 200; ++token) warm += route(token, 0, "1,2", "0.5,0.5");
  const LogCheck all_same = check(warm);
  ASSERT_EQ(all_same.complaints.size(), 1u);
  EXPECT_NE(all_same.complaints[0].find("all 200 records are the same"), std::string::npos);
  const LogCheck twice = check(std::string(kMeta) + "\n" + route(0, 0, "1,1", "0.5,0.5"));
  ASSERT_EQ(twice.complaints.size(), 1u);
  const RoutingHeader header = small_header();
  const LogCheck fine =
      check(encoded(LogFormat::kJsonl, header, {random_request(header, "a", 300, 100, 3)}));
  EXPECT_TRUE(fine.complaints.empty()) << fine.complaints.front();
  EXPECT_EQ(fine.records, 800u);
}

}  // namespace
}  // namespace moeopt
