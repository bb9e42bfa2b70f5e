// Holds a checkpoint's tensors against what its config promises, from headers alone.
#pragma once

#include "checkpoint/tensor_source.h"
#include "model/model_spec.h"

namespace moeopt {

// Every tensor of weights_of(spec) must be there with its shape, in f32, f16 or bf16; a quantised
// one in e4m3 with scales (f32 or bf16) beside it. Error(kInvalidData) names the first that is not,
// and its file. What models carry and this program does not use is tolerated (layers behind the
// last: multi-token prediction; rotary tables; a tied lm_head); anything else is one warning line.
// `spec` must be runnable.
void check_weights(const ModelSpec& spec, const TensorSource& source);

}  // namespace moeopt
