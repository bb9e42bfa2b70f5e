#include "cli/generation_defaults.h"

#include <cmath>

#include "base/error.h"

namespace moeopt::cli {
namespace {

constexpr const char* kFile = "generation_config.json";

[[noreturn]] void refuse(const char* field, const char* expected) {
  throw_error(ErrorCode::kInvalidData, "{}: {}: expected {}", kFile, field, expected);
}

const Json* present(const Json& config, const char* field) {
  const auto found = config.find(field);
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

void read_float(const Json& config, const char* field, double minimum, double maximum, float& out) {
  const Json* value = present(config, field);
  if (value == nullptr) return;
  if (!value->is_number()) refuse(field, "a number");
  const double number = value->get<double>();
  if (!(number >= minimum && number <= maximum)) refuse(field, "a number in range");
  out = static_cast<float>(number);
}

std::optional<std::int64_t> read_integer(const Json& value, std::int64_t maximum) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() &&
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(maximum)) {
    return std::nullopt;
  }
  const auto number = value.get<std::int64_t>();
  if (number < 0 || number > maximum) return std::nullopt;
  return number;
}

void read_stop_ids(const Json& config, std::int64_t vocab, std::vector<std::int32_t>& out) {
  const Json* value = present(config, "eos_token_id");
  if (value == nullptr) return;
  constexpr const char* kExpected = "a token id, or a list of them, inside the vocabulary";
  out.clear();
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& entry : list) {
    const auto id = read_integer(entry, vocab - 1);
    if (!id) refuse("eos_token_id", kExpected);
    out.push_back(static_cast<std::int32_t>(*id));
  }
}

}  // namespace

GenerationDefaults generation_defaults(const std::optional<Json>& config, const ModelSpec& spec) {
  GenerationDefaults defaults;
  defaults.sampling.temperature = 0.0f;
  defaults.stop_ids = spec.eos_ids;
  if (!config) return defaults;

  bool do_sample = false;
  if (const Json* value = present(*config, "do_sample")) {
    if (!value->is_boolean()) refuse("do_sample", "true or false");
    do_sample = value->get<bool>();
  }
  read_stop_ids(*config, spec.vocab, defaults.stop_ids);
  read_float(*config, "repetition_penalty", 1e-3, 1e3, defaults.sampling.repetition_penalty);
  if (const Json* value = present(*config, "max_new_tokens")) {
    const auto number = read_integer(*value, 1 << 30);
    if (!number || *number == 0) refuse("max_new_tokens", "a positive number");
    defaults.max_tokens = static_cast<int>(*number);
  }
  if (!do_sample) return defaults;

  defaults.sampling.temperature = 1.0f;
  read_float(*config, "temperature", 0.0, 100.0, defaults.sampling.temperature);
  read_float(*config, "top_p", 1e-6, 1.0, defaults.sampling.top_p);
  read_float(*config, "min_p", 0.0, 1.0, defaults.sampling.min_p);
  if (const Json* value = present(*config, "top_k")) {
    const auto number = read_integer(*value, 1 << 30);
    if (!number) refuse("top_k", "a whole number");
    defaults.sampling.top_k = static_cast<int>(*number);
  }
  return defaults;
}

}  // namespace moeopt::cli
