// Rotary embeddings from a config: its base and its scaling rule, turned into inverse frequencies.
// Reads both spellings: `rope_theta` + `rope_scaling`, and Transformers 5's `rope_parameters`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/config_reader.h"
#include "model/model_spec.h"

namespace moeopt {

struct RopeReading {
  RopeSpec rope;
  double softmax_mscale = 1.0;  // DeepSeek's factor on the softmax scale (mscale squared)
  std::optional<std::string> unsupported;  // a scaling rule that is known but not built
};

// `dim` rotated values a head (even), `max_position` as the config gives it.
// Scaling rules: linear; yarn (arXiv 2309.00071, section 3.2, with DeepSeek's mscale pair); llama3
// (the three wavelength bands of Llama 3.1). Error(kInvalidData) on a broken field or an odd `dim`.
RopeReading read_rope(const ConfigReader& config, int dim, double default_theta,
                      std::int64_t max_position);

}  // namespace moeopt
