#include "plan/limits.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "plan/optimisations.h"

namespace moeopt {
namespace {

struct Defaults {
  std::int64_t max_model_len;
  int max_sequences;
  int max_step_tokens;
};
constexpr Defaults kCpuDefaults = {4096, 8, 512};
constexpr Defaults kGpuDefaults = {std::int64_t{1} << 40, 256, 8192};

template <typename T>
std::string named(std::string_view key, const Setting<T>& setting) {
  return fmt::format("{} {} ({})", key, setting.value, setting.origin.text());
}

const Setting<Ask>& ask_of(const Settings& settings, std::string_view name) {
  const Optimisation* row = find_optimisation(name);
  MOEOPT_CHECK(row != nullptr);
  return settings.optimisations.at(static_cast<std::size_t>(row - optimisation_table().data()));
}

DType kv_dtype_of(const Setting<KvDtype>& asked) {
  switch (asked.value) {
    case KvDtype::kAuto:
    case KvDtype::kBf16:
      return DType::kBF16;
    case KvDtype::kF32:
      return DType::kF32;
    case KvDtype::kFp8:
      break;
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("kv_dtype fp8 ({}): not in this version", asked.origin.text()),
              "bf16 and f32 are");
}

// How many sequences a step has, and how many of them must fit at full length. The later of
// batch_size and max_num_seqs in precedence decides.
void resolve_sequences(const Settings& settings, int fallback, AskedLimits& asked) {
  const Setting<int>& batch = settings.batch_size;
  const Setting<int>& sequences = settings.max_num_seqs;
  asked.limits.max_sequences = fallback;
  if (sequences.value > 0) {
    asked.limits.max_sequences = sequences.value;
    asked.may_narrow = false;
  }
  if (batch.value == 0) return;
  const bool same_level = batch.origin.kind == sequences.origin.kind;
  if (sequences.value > 0 && same_level && sequences.value < batch.value) {
    throw_error(ErrorCode::kUsage, "{} is more than {}", named("batch_size", batch),
                named("max_num_seqs", sequences));
  }
  asked.may_narrow = false;
  if (sequences.value == 0 || batch.origin.kind > sequences.origin.kind) {
    asked.limits.max_sequences = batch.value;
  }
  asked.full_sequences = std::min(batch.value, asked.limits.max_sequences);
}

void resolve_step_tokens(const Settings& settings, int fallback, AskedLimits& asked) {
  ExecutionLimits& limits = asked.limits;
  const Setting<int>& tokens = settings.max_num_batched_tokens;
  const Setting<Ask>& chunked = ask_of(settings, "chunked-prefill");
  if (tokens.value == 0) {
    std::int64_t chosen = std::max(fallback, limits.max_sequences);
    if (chunked.value == Ask::kOff) chosen = std::max(chosen, limits.max_model_len);
    chosen = std::min(chosen, limits.max_sequences * limits.max_model_len);
    limits.max_step_tokens = static_cast<int>(std::min<std::int64_t>(chosen, 1 << 24));
    return;
  }
  limits.max_step_tokens = tokens.value;
  if (tokens.value < limits.max_sequences) {
    if (!asked.may_narrow) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("{} is less than the {} sequences of a step",
                              named("max_num_batched_tokens", tokens), limits.max_sequences),
                  "each decoding sequence takes one token of every step");
    }
    limits.max_sequences = tokens.value;
  }
  if (chunked.value == Ask::kOff && tokens.value < limits.max_model_len) {
    if (asked.may_shorten) {
      limits.max_model_len = tokens.value;
      return;
    }
    throw Error(ErrorCode::kUsage,
                fmt::format("{} is less than max_model_len {}, and chunked-prefill is off ({})",
                            named("max_num_batched_tokens", tokens), limits.max_model_len,
                            chunked.origin.text()),
                "--enable-chunked-prefill splits long prompts over steps");
  }
}

// kv_cache_tokens hold what must fit at full length, or max_model_len becomes shorter where it was
// auto.
void resolve_kv_tokens(const Settings& settings, AskedLimits& asked) {
  const Setting<std::int64_t>& tokens = settings.kv_cache_tokens;
  if (tokens.value == 0) return;
  ExecutionLimits& limits = asked.limits;
  asked.most_kv_blocks =
      std::min<std::int64_t>(asked.most_kv_blocks, tokens.value / limits.block_tokens);
  const std::int64_t each = asked.most_kv_blocks / asked.full_sequences;  // blocks
  if (limits.blocks_per_sequence() <= each) return;
  if (!asked.may_shorten || each == 0) {
    throw_error(ErrorCode::kUsage, "{} does not hold {} of max_model_len {}",
                named("kv_cache_tokens", tokens),
                asked.full_sequences == 1 ? "a sequence"
                                          : fmt::format("{} sequences", asked.full_sequences),
                limits.max_model_len);
  }
  limits.max_model_len = each * limits.block_tokens;
}

}  // namespace

AskedLimits asked_limits(const ModelSpec& spec, const Settings& settings, HardwareKind kind,
                         int logit_rows) {
  const Defaults& defaults = kind == HardwareKind::kCpu ? kCpuDefaults : kGpuDefaults;
  AskedLimits asked;
  asked.kv_dtype = kv_dtype_of(settings.kv_dtype);
  ExecutionLimits& limits = asked.limits;
  limits.block_tokens = settings.block_tokens.value;

  const Setting<std::int64_t>& length = settings.max_model_len;
  if (length.value > spec.max_position) {
    throw_error(ErrorCode::kUsage, "{} is more than the model's {} positions",
                named("max_model_len", length), spec.max_position);
  }
  asked.may_shorten = length.value == 0;
  limits.max_model_len =
      asked.may_shorten ? std::min(spec.max_position, defaults.max_model_len) : length.value;
  resolve_sequences(settings, defaults.max_sequences, asked);
  resolve_kv_tokens(settings, asked);
  resolve_step_tokens(settings, defaults.max_step_tokens, asked);
  asked.logit_rows = std::min(logit_rows, limits.max_step_tokens);
  limits.max_logit_rows = std::max(limits.max_sequences, asked.logit_rows);

  const Setting<Ask>& fp8 = ask_of(settings, "fp8");
  if (fp8.value == Ask::kOff && spec.quantisation == Quantisation::kFp8Block128) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("fp8 is off ({}), and the checkpoint's weights are fp8: widening them "
                            "is not in this version",
                            fp8.origin.text()),
                "--enable-fp8 uses them as stored");
  }
  return asked;
}

}  // namespace moeopt
