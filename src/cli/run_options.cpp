#include "cli/run_options.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "base/error.h"

namespace moeopt::cli {
namespace {

constexpr int kDefaultMaxTokens = 512;

template <typename T>
T parse_number(std::string_view text, std::string_view whole) {
  T value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) {
    throw_error(ErrorCode::kUsage, "--logit-bias {}: expected ID=BIAS", whole);
  }
  return value;
}

}  // namespace

void SamplingFlags::add_to(CLI::App& verb) {
  const auto add = [&verb](const char* flag, auto& value, const char* type, const char* help) {
    std::string name = "MOEOPT_" + std::string(flag + 2);
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
    verb.add_option(flag, value, help)->type_name(type)->envname(name)->group("Generation");
  };
  add("--max-tokens", max_tokens, "N", "Tokens to generate at most");
  add("--temperature", temperature, "T", "0 is greedy");
  add("--top-k", top_k, "K", "Sample from the K likeliest (0: all)");
  add("--top-p", top_p, "P", "Sample from the likeliest that make up P");
  add("--min-p", min_p, "P", "Leave out ids less likely than P times the likeliest");
  add("--repetition-penalty", repetition_penalty, "R", "Over prompt and output; 1: none");
  add("--presence-penalty", presence_penalty, "P", "Once for an id in the output");
  add("--frequency-penalty", frequency_penalty, "P", "For each time an id is in the output");
  add("--logit-bias", logit_bias, "ID=BIAS", "Add BIAS to an id's logit; may be repeated");
  add("--seed", seed, "S", "Same seed, same tokens");
  add("--min-tokens", min_tokens, "N", "No end before N tokens");
  add("--logprobs", logprobs, "N", "With --json: log probabilities and the N best of each token");
  add("--stop", stop, "TEXT", "End before this text; may be repeated");
  verb.add_flag("--ignore-eos", ignore_eos, "Go on past the end token")
      ->envname("MOEOPT_IGNORE_EOS")
      ->group("Generation");
  verb.add_flag("--show-special", show_special, "Print control tokens too")
      ->envname("MOEOPT_SHOW_SPECIAL")
      ->group("Generation");
}

Request SamplingFlags::request(const GenerationDefaults& defaults) const {
  Request request;
  request.sampling = defaults.sampling;
  SamplingParams& sampling = request.sampling;
  request.max_tokens = max_tokens.value_or(defaults.max_tokens.value_or(kDefaultMaxTokens));
  request.stop_ids = defaults.stop_ids;
  request.stop = stop;
  request.ignore_eos = ignore_eos;
  request.skip_special = !show_special;
  sampling.temperature = temperature.value_or(sampling.temperature);
  sampling.top_k = top_k.value_or(sampling.top_k);
  sampling.top_p = top_p.value_or(sampling.top_p);
  sampling.min_p = min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.presence_penalty = presence_penalty.value_or(sampling.presence_penalty);
  sampling.frequency_penalty = frequency_penalty.value_or(sampling.frequency_penalty);
  sampling.seed = seed.value_or(sampling.seed);
  sampling.min_tokens = min_tokens.value_or(sampling.min_tokens);
  sampling.n_logprobs = logprobs.value_or(sampling.n_logprobs);
  for (const std::string& text : logit_bias) {
    const auto equals = text.find('=');
    if (equals == std::string::npos) {
      throw_error(ErrorCode::kUsage, "--logit-bias {}: expected ID=BIAS", text);
    }
    const std::string_view view = text;
    sampling.logit_bias.push_back({parse_number<std::int32_t>(view.substr(0, equals), text),
                                   parse_number<float>(view.substr(equals + 1), text)});
  }
  return request;
}

}  // namespace moeopt::cli
