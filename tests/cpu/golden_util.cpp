#include "cpu/golden_util.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace moeopt {
namespace {

// A C-order float32 array of two axes, NumPy's format 1.0.
std::vector<float> read_npy(const std::filesystem::path& file, std::int64_t& rows,
                            std::int64_t& columns) {
  std::ifstream stream(file, std::ios::binary);
  char prelude[10];
  stream.read(prelude, sizeof(prelude));
  if (!stream || std::memcmp(prelude, "\x93NUMPY\x01", 7) != 0) throw std::runtime_error(file);
  std::uint16_t header_bytes = 0;
  std::memcpy(&header_bytes, prelude + 8, sizeof(header_bytes));
  std::string header(header_bytes, ' ');
  stream.read(header.data(), header_bytes);
  if (header.find("'<f4'") == std::string::npos || header.find("True") != std::string::npos ||
      std::sscanf(header.c_str() + header.find("'shape'"), "'shape': (%ld, %ld)", &rows,
                  &columns) != 2) {
    throw std::runtime_error(header);
  }
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  stream.read(reinterpret_cast<char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!stream) throw std::runtime_error(file);
  return values;
}

std::filesystem::path golden_root() {
  return std::filesystem::path(MOEOPT_SOURCE_DIR) / "tests" / "golden";
}

}  // namespace

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_root())) {
    if (std::filesystem::exists(entry.path() / "golden.json")) {
      names.push_back(entry.path().filename());
    }
  }
  std::ranges::sort(names);
  return names;
}

Golden load_golden(const std::string& name) {
  Golden golden;
  golden.name = name;
  golden.folder = golden_root() / name;
  std::ifstream stream(golden.folder / "golden.json");
  const auto json = nlohmann::json::parse(stream);
  golden.prompt = json.at("prompt").get<std::vector<std::int32_t>>();
  golden.greedy = json.at("greedy").get<std::vector<std::int32_t>>();
  for (const auto& layer : json.at("routing")) {
    GoldenLayer routing;
    if (!layer.is_null()) {
      layer.at("experts").get_to(routing.experts);
      layer.at("weights").get_to(routing.weights);
    }
    golden.routing.push_back(std::move(routing));
  }
  std::int64_t rows = 0;
  golden.logits = read_npy(golden.folder / "logits.npy", rows, golden.vocab);
  if (rows != static_cast<std::int64_t>(golden.prompt.size())) throw std::runtime_error(name);
  return golden;
}

}  // namespace moeopt
