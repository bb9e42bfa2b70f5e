#include "plan/plan_util.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/json.h"
#include "model/known_models.h"
#include "model/parse.h"

namespace moeopt::test {

namespace fs = std::filesystem;

ModelSpec known_spec(std::string_view name) {
  const auto model = find_known_model(fs::path(MOEOPT_SOURCE_DIR) / "models", name);
  if (!model) throw std::runtime_error("no such known model");
  return parse_model_spec(model->config, model->where);
}

ModelSpec tiny_spec(const std::map<std::string, std::string>& changes) {
  Json config = Json::parse(R"({
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": 1000,
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "intermediate_size": 128, "decoder_sparse_step": 1,
    "norm_topk_prob": true, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "max_position_embeddings": 2048, "tie_word_embeddings": false, "hidden_act": "silu",
    "torch_dtype": "bfloat16"})");
  for (const auto& [key, value] : changes) config[key] = Json::parse(value);
  return parse_model_spec(config, "config.json");
}

Settings settings_of(const Flags& flags) {
  SettingsSources sources;
  sources.flags = flags;
  return load_settings(sources);
}

Hardware cpu_with(std::uint64_t memory_bytes) {
  HostProbe host;
  host.available_bytes = memory_bytes;
  host.total_bytes = memory_bytes;
  return parse_hardware("cpu", host);
}

Hardware gpus(std::string_view name) {
  return parse_hardware(name, HostProbe{});
}

MemoryPlan plan_of(const ModelSpec& spec, const Hardware& hardware, const Flags& flags) {
  const Settings settings = settings_of(flags);
  PlanInput input;
  input.spec = &spec;
  input.settings = &settings;
  input.hardware = &hardware;
  return plan_memory(input);
}

TempFolder::TempFolder() {
  std::string name = (fs::temp_directory_path() / "moeopt_plan_XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path TempFolder::write(const std::string& name, std::string_view text) const {
  const fs::path file = path_ / name;
  fs::create_directories(file.parent_path());
  std::ofstream(file) << text;
  return file;
}

}  // namespace moeopt::test
