#include "checkpoint/safetensors_index.h"

#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/strings.h"
#include "checkpoint/folder_file.h"
#include "checkpoint/safetensors.h"

namespace moeopt {
namespace {

// Values: the tensors and what little lies around them.
constexpr JsonLimits kLimits = {
    .bytes = std::size_t{256} << 20, .depth = 8, .nodes = kSafetensorsMaxTensors + 10'000};

}  // namespace

SafetensorsIndex parse_safetensors_index(std::string_view text, std::string_view where) {
  const Json json = parse_json(text, where, kLimits);
  const auto found = json.is_object() ? json.find("weight_map") : json.end();
  if (found == json.end() || !found->is_object()) {
    throw_error(ErrorCode::kInvalidData, "{}: has no object \"weight_map\"", where);
  }
  SafetensorsIndex index;
  std::set<std::string> shards;
  for (const auto& item : found->items()) {
    const auto refuse = [&](const std::string& why) {
      throw_error(ErrorCode::kInvalidData, "{}: weight_map: tensor \"{}\": {}", where,
                  printable(item.key()), why);
    };
    if (item.key().size() > kSafetensorsMaxNameBytes) {
      refuse(fmt::format("name of {} bytes, the limit is {}", item.key().size(),
                         kSafetensorsMaxNameBytes));
    }
    if (!item.value().is_string()) refuse("its shard is not a string");
    const auto& shard = item.value().get_ref<const std::string&>();
    if (!is_plain_file_name(shard) || !shard.ends_with(".safetensors")) {
      refuse(fmt::format("shard \"{}\" is not the name of a .safetensors file in this folder",
                         printable(shard)));
    }
    index.weight_map.emplace(item.key(), shard);
    shards.insert(shard);
  }
  if (shards.empty()) throw_error(ErrorCode::kInvalidData, "{}: weight_map is empty", where);
  if (shards.size() > kMaxShards) {
    throw_error(ErrorCode::kInvalidData, "{}: {} shards, the limit is {}", where, shards.size(),
                kMaxShards);
  }
  index.shards.assign(shards.begin(), shards.end());
  return index;
}

SafetensorsIndex read_safetensors_index(const std::filesystem::path& file, std::string_view where) {
  return parse_safetensors_index(read_file(file, kLimits.bytes), where);
}

}  // namespace moeopt
