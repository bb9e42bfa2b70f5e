// What does not fit is refused with advice, and following the advice works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/plan_util.h"

namespace moeopt {
namespace {

using test::Flags;
using test::kGiB;
using test::Thrown;
using test::thrown_by;
using testing::HasSubstr;
using testing::Not;

Thrown refusal(const ModelSpec& spec, const Hardware& hardware, const Flags& flags = {}) {
  const Thrown thrown = thrown_by([&] { test::plan_of(spec, hardware, flags); });
  EXPECT_EQ(thrown.code, ErrorCode::kDoesNotFit) << thrown.what;
  EXPECT_EQ(exit_code(thrown.code), 3);
  return thrown;
}

// The values of every "--flag value" in a hint; of "a or b", the first.
std::vector<std::pair<std::string, std::string>> advised(const std::string& hint) {
  std::vector<std::pair<std::string, std::string>> flags;
  for (std::size_t at = hint.find("--"); at != std::string::npos; at = hint.find("--", at)) {
    const std::size_t space = hint.find(' ', at);
    const std::size_t end = hint.find_first_of(" ;", space + 1);
    flags.emplace_back(hint.substr(at + 2, space - at - 2),
                       hint.substr(space + 1, end - space - 1));
    at = space;
  }
  return flags;
}

TEST(FitAdvice, SaysWhatIsNeededAndWhatThereIs) {
  const Thrown thrown = refusal(test::known_spec("Qwen3-30B-A3B"), test::gpus("h100x1"),
                                {{"max-model-len", "40960"}, {"batch-size", "64"}});
  EXPECT_THAT(thrown.what, HasSubstr("and has 71.2 GiB (90% of 79.1 GiB, 1 x H100 80 GB)"));
  EXPECT_THAT(thrown.what, HasSubstr("weights 56.9 GiB, KV of 64 x 40960 tokens 240 GiB"));
  EXPECT_THAT(thrown.hint, HasSubstr("fewer tokens: --max-model-len "));
  EXPECT_THAT(thrown.hint, HasSubstr("a smaller batch: --batch-size "));
  EXPECT_THAT(thrown.hint, HasSubstr("more or larger GPUs: --hardware "));
  EXPECT_THAT(thrown.hint, Not(HasSubstr("--gpu-memory-utilization"))) << "all of it is too little";
}

TEST(FitAdvice, EachSuggestionFitsAndOneMoreDoesNot) {
  const ModelSpec spec = test::known_spec("Qwen3-30B-A3B");
  const Hardware h100 = test::gpus("h100x1");
  const Flags asked = {{"max-model-len", "40960"}, {"batch-size", "4"}};
  const Thrown thrown = refusal(spec, h100, asked);
  const auto advice = advised(thrown.hint);
  ASSERT_GE(advice.size(), 3u) << thrown.hint;
  for (const auto& [flag, value] : advice) {
    Flags flags = asked;
    flags[flag] = value;
    const Hardware hardware = flag == "hardware" ? test::gpus(value) : h100;
    EXPECT_NO_THROW(test::plan_of(spec, hardware, flags)) << flag << " " << value;
    if (flag == "hardware" || flag == "gpu-memory-utilization") continue;
    flags[flag] = std::to_string(std::stoll(value) + 16);
    refusal(spec, hardware, flags);
  }
}

TEST(FitAdvice, WeightsAloneTooLargeNeedMoreGpus) {
  const Thrown thrown = refusal(test::known_spec("DeepSeek-V3"), test::gpus("h100x8"));
  EXPECT_THAT(thrown.hint, Not(HasSubstr("fewer tokens")));
  EXPECT_THAT(thrown.hint, HasSubstr("--hardware h200x8 or b200x8"));
}

TEST(FitAdvice, Fp8IsAdvisedWhereItWouldFit) {
  const Thrown thrown = refusal(test::known_spec("Qwen3-30B-A3B"), test::cpu_with(48 * kGiB));
  EXPECT_THAT(thrown.hint, HasSubstr("fp8: a checkpoint of it in fp8 blocks has 29."));
  EXPECT_THAT(refusal(test::known_spec("Qwen3-30B-A3B"), test::cpu_with(8 * kGiB)).hint,
              Not(HasSubstr("fp8")));
  EXPECT_THAT(refusal(test::known_spec("DeepSeek-V3"), test::gpus("h100x8")).hint,
              Not(HasSubstr("fp8:")));
}

TEST(FitAdvice, ALargerShareIsAdvisedWhenItIsEnough) {
  const ModelSpec spec = test::known_spec("Qwen3-30B-A3B");
  const Hardware cpu = test::cpu_with(60 * kGiB);
  const Thrown thrown = refusal(spec, cpu, {{"max-model-len", "1024"}});
  EXPECT_THAT(thrown.hint, HasSubstr("--gpu-memory-utilization 0.96"));
  EXPECT_NO_THROW(
      test::plan_of(spec, cpu, {{"max-model-len", "1024"}, {"gpu-memory-utilization", "0.96"}}));
}

TEST(FitAdvice, NoMemoryAtAllIsStillAnAnswer) {
  const Thrown thrown = refusal(test::tiny_spec(), test::cpu_with(0));
  EXPECT_THAT(thrown.what, HasSubstr("has 0 B"));
  EXPECT_THAT(thrown.hint, HasSubstr("GPUs: --hardware h100x1"));
}

}  // namespace
}  // namespace moeopt
