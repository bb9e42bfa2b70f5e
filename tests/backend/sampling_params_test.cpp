#include "backend/sampling_params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"

namespace moeopt {
namespace {

constexpr std::int64_t kVocab = 100;

struct BadParams {
  std::string field;
  std::function<void(SamplingParams&)> spoil;
};

const BadParams kBad[] = {
    {"temperature", [](auto& p) { p.temperature = -0.1f; }},
    {"temperature", [](auto& p) { p.temperature = NAN; }},
    {"temperature", [](auto& p) { p.temperature = INFINITY; }},
    {"top_k", [](auto& p) { p.top_k = -1; }},
    {"top_p", [](auto& p) { p.top_p = 0; }},
    {"top_p", [](auto& p) { p.top_p = 1.01f; }},
    {"top_p", [](auto& p) { p.top_p = NAN; }},
    {"min_p", [](auto& p) { p.min_p = -0.01f; }},
    {"min_p", [](auto& p) { p.min_p = NAN; }},
    {"repetition_penalty", [](auto& p) { p.repetition_penalty = 0; }},
    {"repetition_penalty", [](auto& p) { p.repetition_penalty = INFINITY; }},
    {"presence_penalty", [](auto& p) { p.presence_penalty = 2.5f; }},
    {"frequency_penalty", [](auto& p) { p.frequency_penalty = NAN; }},
    {"min_tokens", [](auto& p) { p.min_tokens = -1; }},
    {"logprobs", [](auto& p) { p.n_logprobs = 21; }},
    {"logprobs", [](auto& p) { p.n_logprobs = -2; }},
    {"logit_bias",
     [](auto& p) {
       p.logit_bias = {{100, 0}};
     }},
    {"logit_bias",
     [](auto& p) {
       p.logit_bias = {{-1, 0}};
     }},
    {"logit_bias",
     [](auto& p) {
       p.logit_bias = {{5, NAN}};
     }},
    {"logit_bias",
     [](auto& p) {
       p.logit_bias = {{5, 101}};
     }},
    {"banned_until_min_tokens",
     [](auto& p) {
       p.banned_until_min_tokens = {3, 100};
     }},
};

TEST(SamplingParams, EachBadFieldIsNamed) {
  for (const BadParams& bad : kBad) {
    SamplingParams params;
    bad.spoil(params);
    try {
      validate(params, kVocab);
      ADD_FAILURE() << bad.field << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_THAT(error.what(), testing::HasSubstr(bad.field));
    }
  }
}

TEST(SamplingParams, DefaultsAndLimitsAreGood) {
  EXPECT_NO_THROW(validate(SamplingParams{}, kVocab));
  SamplingParams params;
  params.temperature = 0;
  params.top_k = 1 << 20;
  params.top_p = 1e-6f;
  params.min_p = 1;
  params.repetition_penalty = 0.01f;
  params.presence_penalty = -2;
  params.frequency_penalty = 2;
  params.logit_bias = {{0, -100}, {99, 100}};
  params.banned_until_min_tokens = {99};
  params.min_tokens = 5;
  params.n_logprobs = 20;
  EXPECT_NO_THROW(validate(params, kVocab));
}

}  // namespace
}  // namespace moeopt
