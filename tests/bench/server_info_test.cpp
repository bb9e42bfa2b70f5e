#include "bench/server_info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "bench/fake_server_util.h"
#include "bench/fetch.h"
#include "bench/server_process.h"

namespace moeopt::bench {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

// A server with the given pages; everything else is a 404.
FakeServer pages(std::map<std::string, std::pair<int, std::string>> answers) {
  return FakeServer([answers = std::move(answers)](const FakeRequest& request) -> FakeScript {
    const auto at = answers.find(request.path);
    if (at == answers.end()) return {{0, http_answer(404, "nothing here")}};
    return {{0, http_answer(at->second.first, at->second.second)}};
  });
}

const std::pair<int, std::string> kModels = {200, R"({"data":[{"id":"a"},{"id":"b"}]})"};

TEST(ServerInfo, TakesIdsOfWordsWhereTheServerTokenizes) {
  std::string tokens;
  for (int id = 40; id > 0; --id) tokens += std::to_string(id % 30 + 5) + (id > 1 ? "," : "");
  const FakeServer server = pages({{"/v1/models", kModels},
                                   {"/tokenize", {200, R"({"tokens":[)" + tokens + "]}"}},
                                   {"/health", {200, R"({"status":"ok","optimisations":[]})"}},
                                   {"/version", {200, R"({"version":"1.2"})"}}});
  const ServerInfo info = ask_server(server.url(), "", "", 0);
  EXPECT_EQ(info.model, "a");
  EXPECT_EQ(info.prompts.ids.size(), 30u);  // each once
  EXPECT_EQ(info.version["version"], "1.2");
  EXPECT_EQ(info.health["status"], "ok");
  EXPECT_THAT(server.requests().at(0).body, HasSubstr("\"add_special_tokens\":false"));
  const ServerInfo given = ask_server(server.url(), "", "b", 77);
  EXPECT_EQ(given.model, "b");
  EXPECT_EQ(given.prompts.vocab_size, 77);
  EXPECT_TRUE(given.prompts.ids.empty());
  EXPECT_EQ(server.requests().size(), 1u);  // and /tokenize was not asked for it
}

TEST(ServerInfo, FallsBackToTheVocabularyAndThenToText) {
  const FakeServer llama =
      pages({{"/v1/models", {200, R"({"data":[{"id":"g","meta":{"n_vocab":512}}]})"}},
             {"/tokenize", {200, R"({"tokens":["a","b"]})"}},
             {"/health", {200, ""}}});
  EXPECT_EQ(ask_server(llama.url(), "", "", 0).prompts.vocab_size, 512);
  EXPECT_TRUE(ask_server(llama.url(), "", "", 0).health.is_null());
  const FakeServer plain = pages({{"/v1/models", kModels}});
  const ServerInfo info = ask_server(plain.url(), "", "", 0);
  EXPECT_EQ(info.prompts.vocab_size, 0);
  EXPECT_TRUE(info.prompts.ids.empty());
  EXPECT_THAT(info.prompts.description, HasSubstr("words of text"));
  EXPECT_TRUE(info.version.is_null());
}

TEST(ServerInfo, SaysWhyAServerWillNotDo) {
  EXPECT_THROW(ask_server({"127.0.0.1", std::to_string(free_port()), ""}, "", "", 0), Error);
  for (const std::pair<int, std::string>& models : {std::pair<int, std::string>{200, "{}"},
                                                    {200, R"({"data":[]})"},
                                                    {200, R"({"data":[{}]})"},
                                                    {200, "no"},
                                                    {404, ""},
                                                    {401, ""}}) {
    const FakeServer server = pages({{"/v1/models", models}});
    EXPECT_THROW(ask_server(server.url(), "", "", 0), Error) << models.second;
  }
  const FakeServer nameless = pages({});
  EXPECT_EQ(ask_server(nameless.url(), "", "named", 0).model, "named");
}

TEST(Fetch, GivesUpAfterItsTimeout) {
  const FakeServer server([](const FakeRequest&) -> FakeScript { return {{60'000, "x"}}; });
  try {
    fetch(server.url(), "/slow", {}, {}, std::chrono::milliseconds(100));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), HasSubstr("/slow"));
  }
}

TEST(Counters, AreSummedOverTheirLabels) {
  const Counters counters = parse_counters(
      "# HELP a_total x\n# TYPE a_total counter\n"
      "a_total{x=\"1\"} 3\na_total{x=\"} 9 {\"} 4 1700000000\n"
      "moeopt:generation_tokens_total 120\nb_count 2\nb_sum 2.5\nb_bucket{le=\"1\"} 9\n"
      "gauge 7\nbroken_total\nbroken_total{\nnan_total NaN\ninf_total +Inf\nlast_total 1e3");
  EXPECT_THAT(counters, UnorderedElementsAre(Pair("a_total", 7), Pair("b_count", 2),
                                             Pair("b_sum", 2.5), Pair("last_total", 1000),
                                             Pair("moeopt:generation_tokens_total", 120)));
  const Counters later = {{"a_total", 9}, {"b_count", 2}, {"new_total", 4}};
  EXPECT_THAT(counters_moved(counters, later),
              UnorderedElementsAre(Pair("a_total", 2), Pair("new_total", 4)));
  EXPECT_EQ(counter_ending(counters, "generation_tokens_total"), 120);
  EXPECT_EQ(counter_ending(counters, "prompt_tokens_total"), std::nullopt);
}

TEST(Optimisations, AreReadFromHealth) {
  const auto states = server_optimisations(parse_ordered_json(
      R"({"optimisations":[{"name":"a","asked":"prefer","state":"applied","layers":4,"launches":9},
          {"name":"b","state":"declined","reason":"no GPU"},{},5]})",
      "health"));
  ASSERT_EQ(states.size(), 3u);
  EXPECT_EQ(states[0].launches, 9);
  EXPECT_EQ(states[1].reason, "no GPU");
  EXPECT_TRUE(server_optimisations(nullptr).empty());
  EXPECT_TRUE(server_optimisations(parse_ordered_json(R"({"optimisations":3})", "h")).empty());
}

}  // namespace
}  // namespace moeopt::bench
