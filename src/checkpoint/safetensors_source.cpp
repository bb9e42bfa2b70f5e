#include "checkpoint/safetensors_source.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/strings.h"
#include "checkpoint/folder_file.h"
#include "checkpoint/safetensors_index.h"
#include "checkpoint/shard.h"
#include "checkpoint/weights_search.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

class SafetensorsSource final : public TensorSource {
 public:
  explicit SafetensorsSource(std::vector<std::unique_ptr<Shard>> shards)
      : shards_(std::move(shards)) {
    for (const auto& shard : shards_) {
      const std::string file = shard->shown_path().filename().string();
      for (SafetensorsEntry& entry : shard->take_tensors()) {
        total_bytes_ += entry.size_bytes;
        tensors_.push_back(
            {{std::move(entry.name), entry.dtype, entry.shape, entry.size_bytes, file},
             shard.get(),
             entry.offset});
      }
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const Tensor& a, const Tensor& b) { return a.info.name < b.info.name; });
  }

  const TensorInfo* find(std::string_view name) const override {
    const Tensor* tensor = lookup(name);
    return tensor == nullptr ? nullptr : &tensor->info;
  }

  TensorView view(std::string_view name) const override {
    require_tensor(*this, name);
    const Tensor& tensor = *lookup(name);
    const auto bytes = tensor.shard->bytes(tensor.offset, tensor.info.size_bytes);
    TensorView view{tensor.info.dtype, tensor.info.shape, bytes.data()};
    if (!view.is_aligned(dtype_bytes(view.dtype))) view.data = aligned_copy(tensor, bytes);
    return view;
  }

  void release(std::string_view name) const override {
    const Tensor* tensor = lookup(name);
    if (tensor == nullptr) return;
    tensor->shard->drop(tensor->offset, tensor->info.size_bytes);
    const std::lock_guard lock(copies_mutex_);
    copies_.erase(tensor);
  }

  std::vector<const TensorInfo*> list() const override {
    std::vector<const TensorInfo*> infos;
    infos.reserve(tensors_.size());
    for (const Tensor& tensor : tensors_) infos.push_back(&tensor.info);
    return infos;
  }

  std::string describe() const override {
    const std::string files = shards_.size() == 1
                                  ? shards_.front()->shown_path().filename().string()
                                  : fmt::format("{} shards", shards_.size());
    return fmt::format("{}, {}", files, format_bytes(total_bytes_));
  }

 private:
  struct Tensor {
    TensorInfo info;
    const Shard* shard;
    std::uint64_t offset;
  };

  const Tensor* lookup(std::string_view name) const {
    const auto found = std::lower_bound(
        tensors_.begin(), tensors_.end(), name,
        [](const Tensor& tensor, std::string_view wanted) { return tensor.info.name < wanted; });
    return found == tensors_.end() || found->info.name != name ? nullptr : &*found;
  }

  // A header of odd length shifts all that follows it. Old writers made such files, rarely.
  const std::byte* aligned_copy(const Tensor& tensor, std::span<const std::byte> bytes) const {
    const std::lock_guard lock(copies_mutex_);
    const auto [place, made] = copies_.try_emplace(&tensor);
    if (made) {
      place->second = Buffer(bytes.size());
      std::memcpy(place->second.bytes().data(), bytes.data(), bytes.size());
    }
    return place->second.bytes().data();
  }

  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<Tensor> tensors_;  // by name
  std::uint64_t total_bytes_ = 0;
  mutable std::mutex copies_mutex_;
  mutable std::unordered_map<const Tensor*, Buffer> copies_;
};

std::unique_ptr<Shard> open_shard(const fs::path& folder, const std::string& name,
                                  const fs::path& real_path) {
  return std::make_unique<Shard>(folder / name, real_path);
}

// Every tensor of the shard is the index's, and the index says it is in this shard.
void check_against_index(const Shard& shard, const SafetensorsIndex& index) {
  const fs::path& file = shard.shown_path();
  for (const SafetensorsEntry& entry : shard.header().tensors) {
    const auto found = index.weight_map.find(entry.name);
    if (found == index.weight_map.end()) {
      throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": is not in {}", file.string(),
                  printable(entry.name), kIndexFile);
    }
    if (found->second != file.filename()) {
      throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": is here, but {} places it in {}",
                  file.string(), printable(entry.name), kIndexFile, printable(found->second));
    }
  }
}

[[noreturn]] void refuse_missing_shard(const fs::path& index_file, const SafetensorsIndex& index,
                                       const std::string& shard) {
  const auto tensor = std::find_if(index.weight_map.begin(), index.weight_map.end(),
                                   [&](const auto& item) { return item.second == shard; });
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}: shard {} is not in the folder (tensor \"{}\" should be in it)",
                          index_file.string(), printable(shard), printable(tensor->first)),
              "the download may be incomplete: fetch the missing file");
}

std::vector<std::unique_ptr<Shard>> open_shards(const fs::path& folder,
                                                const fs::path& real_index) {
  const fs::path index_file = folder / kIndexFile;
  const SafetensorsIndex index = read_safetensors_index(real_index, index_file.string());
  std::vector<std::unique_ptr<Shard>> shards;
  std::size_t found_tensors = 0;
  for (const std::string& name : index.shards) {
    const auto real_path = find_in_folder(folder, name);
    if (!real_path) refuse_missing_shard(index_file, index, name);
    shards.push_back(open_shard(folder, name, *real_path));
    check_against_index(*shards.back(), index);
    found_tensors += shards.back()->header().tensors.size();
  }
  if (found_tensors == index.weight_map.size()) return shards;

  for (const auto& shard : shards) {
    std::vector<std::string_view> names;
    for (const SafetensorsEntry& entry : shard->header().tensors) names.push_back(entry.name);
    std::sort(names.begin(), names.end());
    for (const auto& [tensor, file] : index.weight_map) {
      if (file != shard->shown_path().filename()) continue;
      if (std::binary_search(names.begin(), names.end(), tensor)) continue;
      throw_error(ErrorCode::kInvalidData, "{}: tensor \"{}\": is not in shard {}",
                  index_file.string(), printable(tensor), printable(file));
    }
  }
  throw_error(ErrorCode::kInternal, "{}: counts of tensors disagree", index_file.string());
}

}  // namespace

std::unique_ptr<TensorSource> open_safetensors(const fs::path& folder) {
  std::vector<std::unique_ptr<Shard>> shards;
  if (const auto single = find_in_folder(folder, kSingleFile)) {
    shards.push_back(open_shard(folder, std::string(kSingleFile), *single));
  } else if (const auto index = find_in_folder(folder, kIndexFile)) {
    shards = open_shards(folder, *index);
  } else {
    refuse_without_weights(folder);
  }
  return std::make_unique<SafetensorsSource>(std::move(shards));
}

}  // namespace moeopt
