// What is in a model and what it needs: counts, bytes, GPUs, and whether this program runs it.
// Works from a ModelSpec alone; with the tensors' headers the bytes are exact.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "checkpoint/tensor_source.h"
#include "model/model_spec.h"
#include "model/weight_class.h"

namespace moeopt {

struct ModelCounts {
  std::uint64_t total = 0;      // parameters; scales of quantised weights are not counted
  std::uint64_t active = 0;     // that one token uses: all but the experts it is not routed to
  std::uint64_t embedding = 0;  // of these, the input table, of which a token reads one row
};
ModelCounts count_parameters(const ModelSpec& spec);

struct GpuNeed {
  std::string_view name;  // "H100-80"
  std::uint64_t memory_bytes;
  int count;  // 0: more than 1024
};

struct Inspection {
  std::string name;
  ModelSpec spec;
  ModelCounts counts;
  struct ClassSize {
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;
  };
  std::array<ClassSize, kWeightClasses> classes{};
  std::vector<std::pair<std::string, std::uint64_t>> bytes_by_dtype;  // largest first
  std::uint64_t weight_bytes = 0;
  bool exact = false;  // bytes come from tensor headers, not from the config
  std::optional<std::string> weights_problem;  // why the tensors do not fit the config
  std::uint64_t kv_bytes_per_token = 0;        // of the whole model in bf16
  std::vector<GpuNeed> gpus;
};

// The rule behind GpuNeed::count, in one sentence.
extern const std::string_view kGpuRule;

// `tensors` may be null.
Inspection inspect_model(std::string name, const ModelSpec& spec, const TensorSource* tensors);

// Lines of at most 100 columns, for a terminal. UTF-8.
std::string inspection_text(const Inspection& inspection);
Json inspection_json(const Inspection& inspection);

}  // namespace moeopt
