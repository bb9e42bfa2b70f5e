// What the tests of model/ share: the golden folders, and checkpoints that exist as headers alone.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/tensor_source.h"
#include "model/model_spec.h"

namespace moeopt {

std::filesystem::path golden_folder(std::string_view name);
std::vector<std::string> golden_names();
Json golden_config(std::string_view name);

// A ModelSpec in words, every field of it: equal texts, equal specs.
std::string describe(const ModelSpec& spec);

// Headers without data: view() is never called on it.
class HeaderSource : public TensorSource {
 public:
  // Exactly the tensors of `spec`, in `dtype`, quantised ones in e4m3 with f32 scales.
  HeaderSource(const ModelSpec& spec, DType dtype);
  HeaderSource() = default;

  void set(const std::string& name, DType dtype, const Shape& shape);
  void remove(const std::string& name) { tensors_.erase(name); }
  TensorInfo& at(const std::string& name) { return tensors_.at(name); }

  const TensorInfo* find(std::string_view name) const override;
  TensorView view(std::string_view name) const override;
  void release(std::string_view) const override {}
  std::vector<const TensorInfo*> list() const override;
  std::string describe() const override { return "model.safetensors"; }

 private:
  std::map<std::string, TensorInfo, std::less<>> tensors_;
};

// The Error that `action` throws; fails the test (and returns an empty one) when it throws none.
Error error_of(const std::function<void()>& action);

}  // namespace moeopt
