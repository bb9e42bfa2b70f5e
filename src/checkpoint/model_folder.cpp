#include "checkpoint/model_folder.h"

#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"
#include "checkpoint/folder_file.h"
#include "checkpoint/safetensors_source.h"
#include "checkpoint/weights_search.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

constexpr JsonLimits kConfigLimits = {
    .bytes = std::size_t{16} << 20, .depth = 32, .nodes = 1'000'000};

Json read_object(const ModelFolder& model, std::string_view name, const fs::path& real_path) {
  const std::string where = (model.folder / name).string();
  Json json = parse_json(read_file(real_path, kConfigLimits.bytes), where, kConfigLimits);
  if (!json.is_object()) throw_error(ErrorCode::kInvalidData, "{}: is not a JSON object", where);
  return json;
}

std::string folder_name(const fs::path& folder) {
  std::error_code error;
  const fs::path real = fs::canonical(folder, error);
  return (error ? folder : real).filename().string();
}

}  // namespace

ModelFolder resolve_model(std::string_view name_or_path, const EnvironmentLookup& environment) {
  if (name_or_path.empty()) throw Error(ErrorCode::kUsage, "the model's name is empty");
  if (name_or_path.size() > 4096 || name_or_path.find('\0') != std::string_view::npos) {
    throw_error(ErrorCode::kUsage, "\"{}\" is neither a path nor the name of a model",
                printable(name_or_path));
  }
  const fs::path path = expand_home(name_or_path, environment);
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::directory) return {path, folder_name(path), false};
  if (status.type() != fs::file_type::not_found) {
    if (error) throw_error(ErrorCode::kIo, "{}: {}", path.string(), error.message());
    refuse_file_as_model(path);
  }
  if (const auto hub_name = parse_hub_name(name_or_path)) {
    return {find_in_hub_cache(*hub_name, environment), hub_name->repository, true};
  }
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}: there is no such folder", printable(path.string())),
              std::string(kModelHint));
}

std::optional<fs::path> find_file(const ModelFolder& model, std::string_view name) {
  return find_in_folder(model.folder, name);
}

fs::path require_file(const ModelFolder& model, std::string_view name) {
  if (const auto file = find_file(model, name)) return *file;
  throw Error(ErrorCode::kNotFound, fmt::format("{}: there is no {}", model.folder.string(), name),
              model.from_hub_cache ? fetch_hint(model.name) : std::string());
}

Json read_config(const ModelFolder& model) {
  if (const auto file = find_file(model, "config.json")) {
    return read_object(model, "config.json", *file);
  }
  refuse_without_config(model.folder);
}

std::optional<Json> read_generation_config(const ModelFolder& model) {
  const auto file = find_file(model, "generation_config.json");
  if (!file) return std::nullopt;
  return read_object(model, "generation_config.json", *file);
}

std::unique_ptr<TensorSource> open_tensors(const ModelFolder& model) {
  return open_safetensors(model.folder);
}

}  // namespace moeopt
