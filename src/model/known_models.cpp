#include "model/known_models.h"

#include <algorithm>
#include <cctype>

#include "model/config_reader.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxNames = 64;
constexpr double kMaxBillion = 1e6;

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

KnownModel read_model(const fs::path& file) {
  const Json json = parse_json_file(file, {.bytes = std::size_t{1} << 20, .depth = 16});
  const ConfigReader reader(json, file.string());
  KnownModel model;
  model.where = file.string();
  model.names = reader.texts("names", kMaxNames);
  if (model.names.empty()) reader.refuse("names", "is missing");
  if (const auto published = reader.child("published")) {
    model.published_billion = published->number_or("parameters_billion", 0, 0, kMaxBillion);
    model.published_active_billion = published->number_or("active_billion", 0, 0, kMaxBillion);
  }
  if (!reader.child("config")) reader.refuse("config", "is missing");
  model.config = json.at("config");
  return model;
}

}  // namespace

std::vector<KnownModel> known_models(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".json") files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  std::vector<KnownModel> models;
  models.reserve(files.size());
  for (const fs::path& file : files) models.push_back(read_model(file));
  return models;
}

std::optional<KnownModel> find_known_model(const fs::path& folder, std::string_view name) {
  const std::string wanted = lower(name);
  for (KnownModel& model : known_models(folder)) {
    bool matches = lower(fs::path(model.where).stem().string()) == wanted;
    for (const std::string& hub_name : model.names) {
      const std::string full = lower(hub_name);
      matches = matches || full == wanted || full.substr(full.find('/') + 1) == wanted;
    }
    if (matches) return std::move(model);
  }
  return std::nullopt;
}

}  // namespace moeopt
