#include "cli/generation_defaults.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace moeopt::cli {
namespace {

ModelSpec spec_of_100() {
  ModelSpec spec;
  spec.vocab = 100;
  spec.eos_ids = {7};
  return spec;
}

TEST(GenerationDefaults, GreedyWithoutAFile) {
  const auto defaults = generation_defaults(std::nullopt, spec_of_100());
  EXPECT_EQ(defaults.sampling.temperature, 0.0f);
  EXPECT_EQ(defaults.stop_ids, std::vector<std::int32_t>{7});
  EXPECT_FALSE(defaults.max_tokens.has_value());
}

TEST(GenerationDefaults, SamplesOnlyWhenTheFileSaysSo) {
  const Json greedy = {{"temperature", 0.7}, {"top_k", 20}, {"do_sample", false}};
  EXPECT_EQ(generation_defaults(greedy, spec_of_100()).sampling.temperature, 0.0f);
  const Json sampled = {{"do_sample", true},   {"temperature", 0.5},    {"top_k", 20},
                        {"top_p", 0.75},       {"min_p", 0.25},         {"repetition_penalty", 1.5},
                        {"max_new_tokens", 9}, {"eos_token_id", {1, 2}}};
  const auto defaults = generation_defaults(sampled, spec_of_100());
  EXPECT_EQ(defaults.sampling.temperature, 0.5f);
  EXPECT_EQ(defaults.sampling.top_k, 20);
  EXPECT_EQ(defaults.sampling.top_p, 0.75f);
  EXPECT_EQ(defaults.sampling.min_p, 0.25f);
  EXPECT_EQ(defaults.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(defaults.max_tokens, 9);
  EXPECT_EQ(defaults.stop_ids, (std::vector<std::int32_t>{1, 2}));
}

TEST(GenerationDefaults, NamesTheFieldThatIsWrong) {
  const std::vector<std::pair<const char*, Json>> cases = {
      {"do_sample", {{"do_sample", 1}}},
      {"temperature", {{"do_sample", true}, {"temperature", "hot"}}},
      {"temperature", {{"do_sample", true}, {"temperature", -1}}},
      {"top_p", {{"do_sample", true}, {"top_p", 1.5}}},
      {"top_k", {{"do_sample", true}, {"top_k", -3}}},
      {"repetition_penalty", {{"repetition_penalty", 0}}},
      {"eos_token_id", {{"eos_token_id", 100}}},
      {"eos_token_id", {{"eos_token_id", {1, -1}}}},
      {"eos_token_id", {{"eos_token_id", 18446744073709551615ull}}},
      {"max_new_tokens", {{"max_new_tokens", 0}}},
  };
  for (const auto& [field, config] : cases) {
    try {
      generation_defaults(config, spec_of_100());
      ADD_FAILURE() << "accepted " << config;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
      EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace moeopt::cli
