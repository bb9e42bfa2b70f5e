// From a config.json to a ModelSpec.
#pragma once

#include <string_view>

#include "base/json.h"
#include "model/model_spec.h"

namespace moeopt {

// `config` is the parsed config.json (or a known model's fields), `where` the file's name for
// messages. Hostile input: every field is checked for type and range.
// Error(kInvalidData) names file and field. Error(kUnsupported): a model without experts. What is
// understood but not built here is no error: the spec says so in `not_runnable`.
ModelSpec parse_model_spec(const Json& config, std::string_view where);

// Error(kUnsupported) with the reason and hint when the program only inspects and plans `spec`.
void require_runnable(const ModelSpec& spec, std::string_view where);

}  // namespace moeopt
