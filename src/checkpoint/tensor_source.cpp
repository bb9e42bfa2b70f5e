#include "checkpoint/tensor_source.h"

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {

TensorSource::~TensorSource() = default;

std::uint64_t total_bytes(const TensorSource& source) {
  std::uint64_t sum = 0;
  for (const TensorInfo* tensor : source.list()) sum += tensor->size_bytes;
  return sum;
}

const TensorInfo& require_tensor(const TensorSource& source, std::string_view name) {
  const TensorInfo* tensor = source.find(name);
  if (tensor == nullptr) {
    throw_error(ErrorCode::kNotFound, "tensor \"{}\" is not in {}", printable(name),
                source.describe());
  }
  return *tensor;
}

}  // namespace moeopt
