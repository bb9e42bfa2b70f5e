// What a config's quantization_config means: none, fp8 in 128x128 blocks, or a format that is
// recognised by name and not read.
#pragma once

#include "model/config_reader.h"
#include "model/model_spec.h"

namespace moeopt {

// Sets spec.quantisation and spec.unquantised_modules, or spec.not_runnable with a hint.
void read_quantisation(const ConfigReader& config, ModelSpec& spec);

}  // namespace moeopt
