// The fields that chat and completion requests share: sampling, lengths, stops, streaming.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "serve/openai/field.h"
#include "serve/served_model.h"

namespace moeopt::serve {

inline constexpr int kMostChoices = 128;  // of one request, over all its prompts
inline constexpr std::size_t kMostStops = 16;
inline constexpr std::size_t kMostStopBytes = 1024;
inline constexpr std::size_t kMostBiases = 1024;

struct GenerationFields {
  std::optional<std::string> model;
  int n = 1;
  std::optional<int> best_of;
  bool stream = false;
  std::optional<bool> include_usage, continuous_usage_stats;  // of stream_options
  std::optional<int> max_tokens, max_completion_tokens, min_tokens;
  std::optional<float> temperature, top_p, min_p;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k;
  std::optional<std::int64_t> seed;
  std::vector<std::string> stop;
  std::vector<std::int32_t> stop_token_ids;
  std::vector<LogitBias> logit_bias;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
};

// The rows of T, a GenerationFields.
template <typename T>
Fields<T> generation_fields();

// The field at fault of a pair, where each alone is right. ApiError(400).
void check_together(const GenerationFields& fields);

// For a prompt that leaves no room for an output; `n_tokens` is a number, or "more than" one.
[[noreturn]] void refuse_long_prompt(const std::string& path, std::string_view n_tokens,
                                     const ServedModel& model);

// The engine's request but for its prompt; `max_tokens` when the client gives none.
Request make_request(const GenerationFields& fields, const ServedModel& model,
                     int default_max_tokens);

// For generation_fields<T>() alone.
void read_stop(const OrderedJson& value, std::string_view path, GenerationFields& into);
void read_stop_token_ids(const OrderedJson& value, std::string_view path, GenerationFields& into);
void read_logit_bias(const OrderedJson& value, std::string_view path, GenerationFields& into);
void read_stream_options(const OrderedJson& value, std::string_view path, GenerationFields& into);
OrderedJson stop_schema();
OrderedJson stream_options_schema();

template <typename T>
Fields<T> generation_fields() {
  using G = GenerationFields;
  constexpr std::int64_t kMost = INT32_MAX;
  return {
      string_field<T>("model", 1024, &G::model, "A name that /v1/models lists; absent: the model."),
      integer_field<T>("n", 1, kMostChoices, &G::n, "Choices; choice i samples with seed + i."),
      integer_field<T>("best_of", 1, kMostChoices, &G::best_of, "Must equal n."),
      bool_field<T>("stream", &G::stream, "Send the answer as server-sent events."),
      {"stream_options", stream_options_schema(), read_stream_options},
      integer_field<T>("max_tokens", 0, kMost, &G::max_tokens,
                       "Tokens of each choice at most; no more than the context holds."),
      integer_field<T>("max_completion_tokens", 1, kMost, &G::max_completion_tokens,
                       "The newer name of max_tokens."),
      integer_field<T>("min_tokens", 0, kMost, &G::min_tokens, "No end before as many tokens."),
      number_field<T>("temperature", 0, 100, &G::temperature, "0 is greedy."),
      number_field<T>("top_p", 1e-6, 1, &G::top_p, "Sample from the likeliest that make up top_p."),
      integer_field<T>("top_k", -1, kMost, &G::top_k,
                       "Sample from the top_k likeliest; 0 and -1: all."),
      number_field<T>("min_p", 0, 1, &G::min_p,
                      "Leave out ids less likely than min_p times the likeliest."),
      number_field<T>("repetition_penalty", 0.01, 100, &G::repetition_penalty,
                      "Over prompt and output; 1: none."),
      number_field<T>("presence_penalty", -2, 2, &G::presence_penalty,
                      "Once for an id in the output."),
      number_field<T>("frequency_penalty", -2, 2, &G::frequency_penalty,
                      "For each time an id is in the output."),
      integer_field<T>("seed", INT64_MIN, INT64_MAX, &G::seed,
                       "Same seed, same tokens; absent: another one each time."),
      {"stop", stop_schema(), read_stop},
      {"stop_token_ids",
       schema_of({{"type", "array"}, {"maxItems", 64}, {"items", token_id_schema()}},
                 "Ids that end the output, besides the model's own."),
       read_stop_token_ids},
      {"logit_bias",
       schema_of(
           {{"type", "object"},
            {"maxProperties", kMostBiases},
            {"propertyNames", {{"pattern", "^[0-9]+$"}}},
            {"additionalProperties", {{"type", "number"}, {"minimum", -100}, {"maximum", 100}}}},
           "Added to the logits of ids."),
       read_logit_bias},
      bool_field<T>("ignore_eos", &G::ignore_eos, "Go on past the end token."),
      bool_field<T>("skip_special_tokens", &G::skip_special_tokens,
                    "Control tokens leave no text."),
  };
}

}  // namespace moeopt::serve
