// tests/golden/: what Transformers says about tiny checkpoints, as tools/goldens/make.py wrote it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace moeopt {

struct GoldenLayer {
  std::vector<std::vector<std::int32_t>> experts;  // per prompt position, ascending
  std::vector<std::vector<float>> weights;         // in the order of `experts`
};

struct Golden {
  std::string name;
  std::filesystem::path folder;
  std::vector<std::int32_t> prompt, greedy;
  std::vector<GoldenLayer> routing;  // per layer; empty for a dense one
  std::int64_t vocab = 0;
  std::vector<float> logits;  // [prompt, vocab]
};

std::vector<std::string> golden_names();
Golden load_golden(const std::string& name);

}  // namespace moeopt
