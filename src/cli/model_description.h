// A model as inspect and plan need it: from a folder, or from the table of known models.
#pragma once

#include <memory>
#include <string>

#include "checkpoint/tensor_source.h"
#include "model/model_spec.h"

namespace moeopt::cli {

struct ModelDescription {
  std::string name;
  ModelSpec spec;
  std::unique_ptr<TensorSource> tensors;  // headers only; null when there are no weights here
};

// A folder (config.json alone is enough), a name in the Hugging Face cache, else a known model.
// Errors as resolve_model; a misspelt known name is suggested in the hint.
ModelDescription describe_model(const std::string& name_or_path);

}  // namespace moeopt::cli
