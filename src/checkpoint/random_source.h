// Random weights of given names, shapes and dtypes: for benchmarks and tests without a checkpoint.
// Invariant: a tensor's bytes depend on (seed, name, dtype, shape) alone, on every machine,
// whatever else the source holds and in whatever order it is asked.
//
// Values are close to normal (a sum of four uniforms), with a spread that keeps activations O(1):
//   matrices (the last extent is the inputs)   std 1/sqrt(inputs)
//   vectors called "...norm...weight"          mean 1, std 0.1
//   other vectors (biases)                     std 0.02
//   fp8 matrices with "<name>_scale_inv"       fp8 codes of std 100; scales around 1/(100
//   sqrt(inputs)) fp8 matrices without                       std 1/sqrt(inputs) integers and
//   booleans                      zero
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"

namespace moeopt {

class RandomSource final : public TensorSource {
 public:
  // Memory is made when a tensor is first viewed, which may throw Error(kDoesNotFit). size_bytes
  // and file of the infos are filled in. Error(kUsage) on a duplicate name or a shape that
  // overflows.
  RandomSource(std::vector<TensorInfo> tensors, std::uint64_t seed);
  ~RandomSource() override;

  const TensorInfo* find(std::string_view name) const override;
  TensorView view(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::vector<const TensorInfo*> list() const override;
  std::string describe() const override;

 private:
  struct Tensor;

  Tensor* lookup(std::string_view name) const;

  std::vector<std::unique_ptr<Tensor>> tensors_;  // by name
  std::uint64_t seed_;
};

}  // namespace moeopt
