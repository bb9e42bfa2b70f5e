#include "backend/sampling_params.h"

#include "base/error.h"

namespace moeopt {
namespace {

void require(bool good, const char* field, const std::string& value, const char* range) {
  if (!good) throw_error(ErrorCode::kUsage, "{} is {}, it must be {}", field, value, range);
}

void require_in(float value, const char* field, float low, float high, const char* range) {
  // Written so that NaN fails.
  require(value >= low && value <= high, field, fmt::format("{}", value), range);
}

void require_id(std::int32_t id, std::int64_t vocab, const char* field) {
  if (id < 0 || id >= vocab) {
    throw_error(ErrorCode::kUsage, "{}: token id {} is outside the vocabulary of {}", field, id,
                vocab);
  }
}

}  // namespace

void validate(const SamplingParams& params, std::int64_t vocab) {
  require_in(params.temperature, "temperature", 0, 100, "from 0 to 100");
  require(params.top_k >= 0, "top_k", fmt::format("{}", params.top_k), "0 (all) or more");
  require(params.top_p > 0 && params.top_p <= 1, "top_p", fmt::format("{}", params.top_p),
          "above 0 and at most 1");
  require_in(params.min_p, "min_p", 0, 1, "from 0 to 1");
  require_in(params.repetition_penalty, "repetition_penalty", 0.01f, 100, "from 0.01 to 100");
  require_in(params.presence_penalty, "presence_penalty", -2, 2, "from -2 to 2");
  require_in(params.frequency_penalty, "frequency_penalty", -2, 2, "from -2 to 2");
  require(params.min_tokens >= 0, "min_tokens", fmt::format("{}", params.min_tokens), "0 or more");
  require(params.n_logprobs >= -1 && params.n_logprobs <= kMaxLogprobs, "logprobs",
          fmt::format("{}", params.n_logprobs), "from 0 to 20");
  for (const LogitBias& entry : params.logit_bias) {
    require_id(entry.token, vocab, "logit_bias");
    require_in(entry.bias, "logit_bias", -100, 100, "from -100 to 100");
  }
  for (const std::int32_t id : params.banned_until_min_tokens) {
    require_id(id, vocab, "banned_until_min_tokens");
  }
}

}  // namespace moeopt
