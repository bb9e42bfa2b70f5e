#include "serve/openai/generation_fields.h"

#include <algorithm>
#include <charconv>
#include <random>

#include "base/strings.h"

namespace moeopt::serve {
namespace {

std::uint64_t random_seed() {
  thread_local std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace

OrderedJson stop_schema() {
  const OrderedJson text = {{"type", "string"}, {"minLength", 1}, {"maxLength", kMostStopBytes}};
  return schema_of(
      {{"oneOf", {text, {{"type", "array"}, {"maxItems", kMostStops}, {"items", text}}}}},
      "The output ends before the first of these texts.");
}

OrderedJson stream_options_schema() {
  return schema_of(
      {{"type", "object"},
       {"properties",
        {{"include_usage", or_null({{"type", "boolean"}})},
         {"continuous_usage_stats", or_null({{"type", "boolean"}})}}}},
      "With stream alone. include_usage: a last chunk without choices tells the usage; "
      "continuous_usage_stats: every chunk does.");
}

void read_stop(const OrderedJson& value, std::string_view path, GenerationFields& into) {
  const auto read = [&into](const OrderedJson& entry, std::string_view where) {
    const std::string& text = read_string(entry, where, kMostStopBytes);
    if (text.empty()) refuse_field(where, "an empty text would stop everything");
    into.stop.push_back(text);
  };
  if (value.is_string()) return read(value, path);
  if (!value.is_array()) refuse_field(path, "expected a string or a list of strings");
  read_array(value, path, kMostStops);
  for (std::size_t i = 0; i < value.size(); ++i) read(value[i], fmt::format("{}[{}]", path, i));
}

void read_stop_token_ids(const OrderedJson& value, std::string_view path, GenerationFields& into) {
  read_array(value, path, 64);
  for (std::size_t i = 0; i < value.size(); ++i) {
    into.stop_token_ids.push_back(static_cast<std::int32_t>(
        read_integer(value[i], fmt::format("{}[{}]", path, i), 0, INT32_MAX)));
  }
}

void read_logit_bias(const OrderedJson& value, std::string_view path, GenerationFields& into) {
  read_object(value, path);
  if (value.size() > kMostBiases) {
    refuse_field(path, "has {} entries, at most {} may be", value.size(), kMostBiases);
  }
  for (const auto& [name, bias] : value.items()) {
    const std::string where = fmt::format("{}.{}", path, printable(name, 40));
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (error != std::errc() || end != name.data() + name.size() || id < 0) {
      refuse_field(where, "the name of an entry is a token id");
    }
    into.logit_bias.push_back({id, static_cast<float>(read_number(bias, where, -100, 100))});
  }
}

void read_stream_options(const OrderedJson& value, std::string_view path, GenerationFields& into) {
  read_object(value, path);
  for (const auto& [name, entry] : value.items()) {
    if (entry.is_null()) continue;
    const std::string where = fmt::format("{}.{}", path, name);
    if (name == "include_usage") into.include_usage = read_bool(entry, where);
    if (name == "continuous_usage_stats") into.continuous_usage_stats = read_bool(entry, where);
  }
}

void check_together(const GenerationFields& fields) {
  if (fields.best_of && *fields.best_of != fields.n) {
    refuse_field("best_of", "only best_of equal to n ({}) is supported", fields.n);
  }
  if (!fields.stream && (fields.include_usage || fields.continuous_usage_stats)) {
    refuse_field("stream_options", "needs stream to be true");
  }
  if (fields.max_tokens && fields.max_completion_tokens &&
      *fields.max_tokens != *fields.max_completion_tokens) {
    refuse_field("max_completion_tokens", "max_tokens says something else");
  }
}

void refuse_long_prompt(const std::string& path, std::string_view n_tokens,
                        const ServedModel& model) {
  throw ApiError(400,
                 fmt::format("{}: {} tokens, the context holds {}, prompt and output", path,
                             n_tokens, model.max_model_len),
                 path, "context_length_exceeded");
}

Request make_request(const GenerationFields& fields, const ServedModel& model,
                     int default_max_tokens) {
  const auto check_id = [&model](std::int64_t id, const char* path) {
    if (id >= model.vocab) {
      refuse_field(path, "token id {} is outside the vocabulary of {}", id, model.vocab);
    }
  };
  Request request;
  request.n = fields.n;
  const char* limit_name = fields.max_completion_tokens ? "max_completion_tokens" : "max_tokens";
  const auto asked =
      fields.max_completion_tokens ? fields.max_completion_tokens : fields.max_tokens;
  if (asked && *asked > model.max_model_len) {
    refuse_field(limit_name, "{} is too large: the context holds {} tokens, prompt and output",
                 *asked, model.max_model_len);
  }
  request.max_tokens = asked.value_or(default_max_tokens);
  request.stop = fields.stop;
  request.stop_ids = model.stop_ids;
  for (const std::int32_t id : fields.stop_token_ids) {
    check_id(id, "stop_token_ids");
    request.stop_ids.push_back(id);
  }
  request.ignore_eos = fields.ignore_eos;
  request.skip_special = fields.skip_special_tokens;

  SamplingParams& sampling = request.sampling;
  sampling = model.sampling;
  sampling.temperature = fields.temperature.value_or(sampling.temperature);
  sampling.top_p = fields.top_p.value_or(sampling.top_p);
  sampling.min_p = fields.min_p.value_or(sampling.min_p);
  sampling.top_k = std::max(0, fields.top_k.value_or(sampling.top_k));
  sampling.repetition_penalty = fields.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.presence_penalty = fields.presence_penalty.value_or(sampling.presence_penalty);
  sampling.frequency_penalty = fields.frequency_penalty.value_or(sampling.frequency_penalty);
  sampling.min_tokens = fields.min_tokens.value_or(0);
  sampling.seed = fields.seed ? static_cast<std::uint64_t>(*fields.seed) : random_seed();
  for (const LogitBias& entry : fields.logit_bias) check_id(entry.token, "logit_bias");
  sampling.logit_bias = fields.logit_bias;
  return request;
}

}  // namespace moeopt::serve
