// Where a model's tensors come from: files on disk, or random numbers for benchmarks.
// Invariant: every TensorInfo has been checked: shape x dtype is size_bytes, nothing overflows, and
// a name occurs once. Consumers never check a source again, they check it against the config.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"
#include "tensor/tensor.h"

namespace moeopt {

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t size_bytes = 0;
  std::string file;  // file name, for messages
};

// All members may be called from several threads at once.
class TensorSource {
 public:
  virtual ~TensorSource();

  // nullptr when absent. Lives as long as the source.
  virtual const TensorInfo* find(std::string_view name) const = 0;

  // The tensor's bytes, aligned to its element type at least. They live as long as the source, or
  // until release(name). Error(kNotFound) names the tensor and the source; Error(kInvalidData) when
  // the file behind it has changed since the source was opened.
  virtual TensorView view(std::string_view name) const = 0;

  // The caller has no views of this tensor any more (it was packed elsewhere): its memory may go.
  // A later view() brings it back. An unknown name is ignored.
  virtual void release(std::string_view name) const = 0;

  // By name, in byte order.
  virtual std::vector<const TensorInfo*> list() const = 0;

  // For messages: "3 shards, 5.20 GiB".
  virtual std::string describe() const = 0;
};

// Sum over list().
std::uint64_t total_bytes(const TensorSource& source);

// find(name), or Error(kNotFound) as view() throws it.
const TensorInfo& require_tensor(const TensorSource& source, std::string_view name);

}  // namespace moeopt
