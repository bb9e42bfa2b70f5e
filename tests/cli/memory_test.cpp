// Holds the plan against what the kernel says of this process (/proc/self/smaps), not against an
// allocator's own sum.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "checkpoint/random_source.h"
#include "cli/session.h"
#include "engine/scoring.h"
#include "model/parse.h"

namespace moeopt::cli {
namespace {

struct Resident {
  std::uint64_t of_file = 0;  // pages of the checkpoint that are mapped and resident
  std::uint64_t anonymous = 0;
};

// Sums over smaps; `file` is the checkpoint.
Resident resident(const std::filesystem::path& file) {
  std::ifstream smaps("/proc/self/smaps");
  Resident sum;
  std::string line;
  bool is_file = false;
  while (std::getline(smaps, line)) {
    const auto colon = line.find(':');
    const bool is_field = colon != std::string::npos && line.find('-') > colon;
    if (!is_field) {
      is_file = line.find(file.string()) != std::string::npos;
      continue;
    }
    const std::string field = line.substr(0, colon);
    if (field != "Rss" && field != "Anonymous") continue;
    const std::uint64_t bytes = std::stoull(line.substr(colon + 1)) * 1024;
    if (field == "Rss" && is_file) sum.of_file += bytes;
    if (field == "Anonymous") sum.anonymous += bytes;
  }
  return sum;
}

constexpr const char* kConfig = R"({
  "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "torch_dtype": "bfloat16",
  "vocab_size": 8192, "hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8,
  "num_key_value_heads": 4, "head_dim": 64, "moe_intermediate_size": 512, "intermediate_size": 512,
  "num_experts": 16, "num_experts_per_tok": 4, "norm_topk_prob": true, "decoder_sparse_step": 1,
  "mlp_only_layers": [], "tie_word_embeddings": true, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
  "max_position_embeddings": 4096, "hidden_act": "silu", "attention_bias": false})";

// A checkpoint of random weights of about 84 MB in `folder`.
void write_checkpoint(const std::filesystem::path& folder) {
  const ModelSpec spec = parse_model_spec(Json::parse(kConfig), "config.json");
  std::vector<TensorInfo> infos;
  for (const WeightSpec& weight : weights_of(spec)) {
    TensorInfo info;
    info.name = weight.name;
    info.dtype = DType::kBF16;
    info.shape = weight.shape;
    infos.push_back(info);
  }
  const RandomSource source(infos, 20261121);
  nlohmann::ordered_json header;
  std::uint64_t offset = 0;
  for (const TensorInfo* info : source.list()) {
    header[info->name] = {{"dtype", "BF16"},
                          {"shape", info->shape.extents()},
                          {"data_offsets", {offset, offset + info->size_bytes}}};
    offset += info->size_bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::ofstream(folder / "config.json") << kConfig;
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  const std::uint64_t length = text.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file << text;
  for (const TensorInfo* info : source.list()) {
    const auto bytes = source.view(info->name).bytes();
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
}

SettingsSources sources() {
  SettingsSources sources;
  sources.flags = {{"max-model-len", "2048"}, {"max-num-seqs", "8"}, {"threads", "2"}};
  sources.data_folders = {MOEOPT_SOURCE_DIR};
  return sources;
}

TEST(Memory, ThePlanIsWhatTheProcessHolds) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's shadow memory is resident too";
#endif
  const auto folder =
      std::filesystem::path(testing::TempDir()) / ("moeopt-memory-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  write_checkpoint(folder);
  const Resident before = resident(folder / "model.safetensors");

  SessionOptions options;
  options.model = folder.string();
  options.settings = load_settings(sources());
  options.with_text = false;
  Session session(std::move(options));
  session.start();
  std::vector<std::int32_t> ids(1024);
  std::mt19937 random(1);
  for (auto& id : ids) id = static_cast<std::int32_t>(random() % 8192);
  score(session.backend(), ids, session.plan().limits.max_logit_rows,
        [](int, std::span<const float>) {});

  const Resident after = resident(folder / "model.safetensors");
  const RankPlan& rank = session.plan().per_rank.front();
  const double weights = static_cast<double>(rank.weight_bytes());
  const double buffers = static_cast<double>(rank.kv_bytes + rank.workspace_bytes);
  const double measured_weights = static_cast<double>(after.of_file);
  const double measured_buffers = static_cast<double>(after.anonymous - before.anonymous);
  EXPECT_GT(weights, 80e6);
  EXPECT_GT(buffers, 30e6);
  EXPECT_NEAR(measured_weights, weights, 0.02 * weights);
  EXPECT_NEAR(measured_weights + measured_buffers, weights + buffers, 0.02 * (weights + buffers));
  // Nothing else came with them: a float32 copy of the weights would be twice all of it.
  EXPECT_NEAR(measured_buffers, buffers, 0.02 * (weights + buffers));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace moeopt::cli
