#include "bench/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"
#include "bench/dataset.h"

namespace moeopt::bench {
namespace {

using testing::HasSubstr;

const PromptSource kIds = {{100, 200, 300, 400, 500, 600, 700, 800}, 0, "ids"};

Json body(const PlannedRequest& request) {
  return parse_json(request.body, "body");
}

class DatasetFile {
 public:
  explicit DatasetFile(const std::string& text)
      : path_(std::filesystem::temp_directory_path() /
              ("bench_dataset_" + std::to_string(::getpid()) + ".jsonl")) {
    std::ofstream(path_) << text;
  }
  ~DatasetFile() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(Workload, AsksForWhatItsSpecSays) {
  WorkloadSpec spec;
  spec.requests = 20;
  spec.warmup = 2;
  spec.prompt_tokens = LengthDistribution::parse("uniform:5-9", "f");
  spec.output_tokens = LengthDistribution::always(33);
  const Workload workload = make_workload(spec, kIds, "m");
  ASSERT_EQ(workload.requests.size(), 20u);
  ASSERT_EQ(workload.warmup.size(), 2u);
  std::set<std::string> bodies;
  for (const PlannedRequest& request : workload.requests) {
    const Json json = body(request);
    EXPECT_EQ(request.path, "/v1/completions");
    EXPECT_EQ(json["model"], "m");
    EXPECT_EQ(json["max_tokens"], 33);
    EXPECT_EQ(json["temperature"], 0.0);
    EXPECT_EQ(json["ignore_eos"], true);
    EXPECT_EQ(json["stream"], true);
    EXPECT_EQ(json["stream_options"]["include_usage"], true);
    EXPECT_FALSE(json.contains("seed"));
    const auto prompt = json["prompt"].get<std::vector<int>>();
    EXPECT_GE(prompt.size(), 5u);
    EXPECT_LE(prompt.size(), 9u);
    for (const int id : prompt) EXPECT_THAT(kIds.ids, testing::Contains(id));
    EXPECT_EQ(request.due_us, 0);
    bodies.insert(request.body);
  }
  for (const PlannedRequest& request : workload.warmup) bodies.insert(request.body);
  EXPECT_EQ(bodies.size(), 22u);  // a repeated prompt would be answered from the prefix cache
}

TEST(Workload, IsTheSameForASeedAndAnotherForEveryOtherChange) {
  WorkloadSpec spec;
  spec.requests = 10;
  spec.prompt_tokens = LengthDistribution::parse("normal:20,4", "f");
  const Workload first = make_workload(spec, kIds, "m"), second = make_workload(spec, kIds, "m");
  EXPECT_EQ(first.digest, second.digest);
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(first.requests[i].body, second.requests[i].body);

  std::set<std::string> digests = {first.digest};
  const auto add = [&](auto change) {
    WorkloadSpec other = spec;
    change(other);
    digests.insert(make_workload(other, kIds, "m").digest);
  };
  add([](WorkloadSpec& s) { s.seed = 2; });
  add([](WorkloadSpec& s) { s.requests = 11; });
  add([](WorkloadSpec& s) { s.level = 9; });
  add([](WorkloadSpec& s) { s.arrival = Arrival::kBatch; });
  add([](WorkloadSpec& s) { s.arrival = Arrival::kRate; });
  add([](WorkloadSpec& s) { s.output_tokens = LengthDistribution::always(65); });
  add([](WorkloadSpec& s) { s.shared_prefix_tokens = 4; });
  add([](WorkloadSpec& s) { s.ignore_eos = false; });
  add([](WorkloadSpec& s) { s.temperature = 0.5; });
  digests.insert(make_workload(spec, kIds, "n").digest);
  EXPECT_EQ(digests.size(), 11u);
}

TEST(Workload, SharesAPrefixOfTheLengthAskedFor) {
  WorkloadSpec spec;
  spec.requests = 12;
  spec.prompt_tokens = LengthDistribution::parse("uniform:30-40", "f");
  spec.shared_prefix_tokens = 25;
  const Workload workload = make_workload(spec, kIds, "m");
  const Json first = body(workload.warmup[0])["prompt"];
  std::set<int> after;
  for (const PlannedRequest& request : workload.requests) {
    const Json prompt = body(request)["prompt"];
    EXPECT_GE(prompt.size(), 30u);
    EXPECT_LE(prompt.size(), 40u);
    for (std::size_t i = 0; i < 25; ++i) EXPECT_EQ(prompt[i], first[i]);
    after.insert(prompt[25].get<int>());
  }
  EXPECT_GT(after.size(), 1u);
}

TEST(Workload, ArrivesAsAPoissonProcess) {
  WorkloadSpec spec;
  spec.arrival = Arrival::kRate;
  spec.level = 50;
  spec.requests = 40'000;
  spec.prompt_tokens = LengthDistribution::always(1);
  const Workload workload = make_workload(spec, kIds, "m");
  EXPECT_EQ(workload.requests[0].due_us, 0);
  double sum = 0, squares = 0;
  for (std::size_t i = 1; i < workload.requests.size(); ++i) {
    const auto gap =
        static_cast<double>(workload.requests[i].due_us - workload.requests[i - 1].due_us) * 1e-6;
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  const double mean = sum / 39'999;
  EXPECT_NEAR(mean, 0.02, 0.0004);
  // Of an exponential the deviation is the mean.
  EXPECT_NEAR(std::sqrt(squares / 39'999 - mean * mean), 0.02, 0.0006);
}

TEST(Workload, MakesPromptsOfAVocabularyOrOfWords) {
  WorkloadSpec spec;
  spec.requests = 3;
  spec.prompt_tokens = LengthDistribution::always(50);
  const Json ids = body(make_workload(spec, {{}, 10, "below"}, "m").requests[0])["prompt"];
  EXPECT_EQ(ids.size(), 50u);
  for (const Json& id : ids) EXPECT_LT(id.get<int>(), 10);
  const Json text = body(make_workload(spec, {{}, 0, "words"}, "m").requests[0])["prompt"];
  const auto words = text.get<std::string>();
  EXPECT_EQ(std::ranges::count(words, ' '), 49);
}

TEST(Workload, TakesPromptsFromADataset) {
  const DatasetFile file(
      "{\"prompt\": \"one\", \"output_tokens\": 5, \"other\": {}}\r\n\n"
      "{\"prompt\": [1, 2, 3]}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}");
  WorkloadSpec spec;
  spec.dataset = file.path();
  spec.requests = 4;
  spec.output_tokens = LengthDistribution::always(9);
  const Workload workload = make_workload(spec, kIds, "m");
  EXPECT_EQ(body(workload.requests[0])["prompt"], "one");
  EXPECT_EQ(body(workload.requests[0])["max_tokens"], 5);
  EXPECT_EQ(body(workload.requests[1])["prompt"], (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(body(workload.requests[1])["max_tokens"], 9);
  EXPECT_EQ(workload.requests[2].path, "/v1/chat/completions");
  EXPECT_EQ(body(workload.requests[2])["messages"][0]["content"], "hi");
  EXPECT_EQ(workload.requests[3].body, workload.requests[0].body);
}

TEST(Dataset, NamesTheLineAndTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {"{\"prompt\": \"a\"}\nx", "line 2: not valid JSON"},
      {"[]", "line 1: not a JSON object"},
      {"{}", "needs either \"prompt\" or \"messages\""},
      {"{\"prompt\": \"a\", \"messages\": []}", "needs either"},
      {"{\"prompt\": 5}", "\"prompt\" is neither text nor token ids"},
      {"{\"prompt\": []}", "\"prompt\" is neither"},
      {"{\"prompt\": [-1]}", "\"prompt\" is neither"},
      {"{\"messages\": []}", "\"messages\" is not"},
      {"{\"prompt\": \"a\", \"output_tokens\": 0}", "\"output_tokens\" is not"},
      {"{\"prompt\": \"a\", \"output_tokens\": 1e9}", "\"output_tokens\" is not"},
      {"\n \n", "no prompts in it"}};
  for (const auto& [text, why] : cases) {
    const DatasetFile file(text);
    try {
      read_dataset(file.path());
      ADD_FAILURE() << "accepted " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
      EXPECT_THAT(error.what(), HasSubstr(why));
    }
  }
}

TEST(Workload, RefusesWhatMakesNoSense) {
  const auto refused = [](auto change) {
    WorkloadSpec spec;
    change(spec);
    try {
      make_workload(spec, kIds, "m");
    } catch (const Error& error) {
      return error.code() == ErrorCode::kUsage;
    }
    return false;
  };
  EXPECT_TRUE(refused([](WorkloadSpec& s) { s.requests = 0; }));
  EXPECT_TRUE(refused([](WorkloadSpec& s) { s.level = 0; }));
  EXPECT_TRUE(refused([](WorkloadSpec& s) { s.level = NAN; }));
  EXPECT_TRUE(refused([](WorkloadSpec& s) { s.warmup = -1; }));
  EXPECT_TRUE(refused([](WorkloadSpec& s) { s.temperature = -1; }));
  EXPECT_TRUE(refused([](WorkloadSpec& s) { s.shared_prefix_tokens = 128; }));
  EXPECT_FALSE(refused([](WorkloadSpec& s) { s.shared_prefix_tokens = 127; }));
}

}  // namespace
}  // namespace moeopt::bench
