#include "model/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/strings.h"

namespace moeopt {
namespace {

constexpr double kMaxFactor = 1e6;

// theta^(-2i / dim)
std::vector<double> plain_frequencies(double theta, int dim) {
  std::vector<double> out(static_cast<std::size_t>(dim / 2));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = std::pow(theta, -2.0 * static_cast<double>(i) / dim);
  }
  return out;
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// The (fractional) index of the pair that turns `rotations` times over `positions` tokens.
double pair_with_rotations(double rotations, int dim, double theta, double positions) {
  return dim * std::log(positions / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
}

void apply_yarn(const ConfigReader& scaling, int dim, double theta, std::int64_t max_position,
                RopeReading& out) {
  const auto original = static_cast<double>(scaling.integer_or(
      "original_max_position_embeddings", max_position, 1, config_limits::kPosition));
  const double factor = scaling.number_or(
      "factor", std::max(1.0, static_cast<double>(max_position) / original), 1.0, kMaxFactor);
  const double beta_fast = scaling.number_or("beta_fast", 32, 1e-3, kMaxFactor);
  const double beta_slow = scaling.number_or("beta_slow", 1, 1e-3, kMaxFactor);
  const double mscale = scaling.number_or("mscale", 0, 0, kMaxFactor);
  const double mscale_all_dim = scaling.number_or("mscale_all_dim", 0, 0, kMaxFactor);
  if (theta <= 1.0) scaling.refuse("rope_theta", "must be above 1 for yarn");

  double low = pair_with_rotations(beta_fast, dim, theta, original);
  double high = pair_with_rotations(beta_slow, dim, theta, original);
  if (scaling.flag_or("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < out.rope.inverse_frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    out.rope.inverse_frequencies[i] *= ramp / factor + (1 - ramp);
  }

  double magnitude = yarn_mscale(factor, 1);
  if (mscale > 0 && mscale_all_dim > 0) {
    magnitude = yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
  }
  out.rope.magnitude = scaling.number_or("attention_factor", magnitude, 1e-6, kMaxFactor);
  if (mscale_all_dim > 0) {
    out.softmax_mscale = std::pow(yarn_mscale(factor, mscale_all_dim), 2);
  }
}

void apply_llama3(const ConfigReader& scaling, std::int64_t max_position, RopeReading& out) {
  const double factor = scaling.number("factor", 1.0, kMaxFactor);
  const double low = scaling.number("low_freq_factor", 1e-3, kMaxFactor);
  const double high = scaling.number("high_freq_factor", 1e-3, kMaxFactor);
  if (high <= low) scaling.refuse("high_freq_factor", "must be above low_freq_factor");
  const auto original = static_cast<double>(scaling.integer_or(
      "original_max_position_embeddings", max_position, 1, config_limits::kPosition));
  for (double& frequency : out.rope.inverse_frequencies) {
    const double turns = original * frequency / (2 * std::numbers::pi);  // over the original length
    const double keep = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    frequency *= (1 - keep) / factor + keep;
  }
}

}  // namespace

RopeReading read_rope(const ConfigReader& config, int dim, double default_theta,
                      std::int64_t max_position) {
  const std::optional<ConfigReader> parameters = config.child("rope_parameters");
  const std::optional<ConfigReader> old_scaling = config.child("rope_scaling");
  const std::optional<ConfigReader>& scaling = old_scaling ? old_scaling : parameters;

  double theta = config.number_or("rope_theta", default_theta, 1e-3, 1e12);
  if (parameters) theta = parameters->number_or("rope_theta", theta, 1e-3, 1e12);
  if (old_scaling) theta = old_scaling->number_or("rope_theta", theta, 1e-3, 1e12);
  if (dim < 2 || dim % 2 != 0) {
    config.refuse("head_dim", fmt::format("{} rotated values a head: must be even", dim));
  }

  RopeReading out;
  out.rope.inverse_frequencies = plain_frequencies(theta, dim);
  double partial = config.number_or("partial_rotary_factor", 1.0, 0.0, 1.0);
  if (scaling) partial = scaling->number_or("partial_rotary_factor", partial, 0.0, 1.0);
  if (partial != 1.0) out.unsupported = fmt::format("partial_rotary_factor {}", partial);
  if (!scaling) return out;
  if (scaling->has("full_attention") || scaling->has("sliding_attention")) {
    out.unsupported = "rope parameters that differ by layer";
    return out;
  }

  const std::string rule = scaling->text_or("rope_type", scaling->text_or("type", "default"));
  if (rule == "linear") {
    const double factor = scaling->number("factor", 1.0, kMaxFactor);
    for (double& frequency : out.rope.inverse_frequencies) frequency /= factor;
  } else if (rule == "yarn") {
    apply_yarn(*scaling, dim, theta, max_position, out);
  } else if (rule == "llama3") {
    apply_llama3(*scaling, max_position, out);
  } else if (rule != "default") {
    out.unsupported = fmt::format("rope scaling \"{}\"", printable(rule, 40));
  }
  return out;
}

}  // namespace moeopt
