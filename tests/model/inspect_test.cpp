// Counts against the published ones, and inspections from a config and from headers.
#include "model/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/strings.h"
#include "checkpoint/model_folder.h"
#include "model/known_models.h"
#include "model/model_util.h"
#include "model/parse.h"

namespace moeopt {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::Le;

std::filesystem::path table() {
  return std::filesystem::path(MOEOPT_SOURCE_DIR) / "models";
}

ModelSpec known_spec(std::string_view name) {
  const auto model = find_known_model(table(), name);
  EXPECT_TRUE(model.has_value()) << name;
  return parse_model_spec(model->config, model->where);
}

// Columns that a terminal shows: one a character.
std::size_t columns(std::string_view line) {
  return static_cast<std::size_t>(std::count_if(line.begin(), line.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
  }));
}

TEST(KnownModels, CountsAreThePublishedOnes) {
  const std::vector<KnownModel> models = known_models(table());
  ASSERT_EQ(models.size(), 10u);
  for (const KnownModel& model : models) {
    SCOPED_TRACE(model.where);
    const ModelSpec spec = parse_model_spec(model.config, model.where);
    EXPECT_FALSE(spec.not_runnable.has_value());
    const ModelCounts counts = count_parameters(spec);
    const double total = static_cast<double>(counts.total) / 1e9;
    EXPECT_NEAR(total / model.published_billion, 1.0, 0.004);
    // Publishers count the input embedding as active, or not, and round down or to nearest.
    const double active = static_cast<double>(counts.active) / 1e9;
    const double without = static_cast<double>(counts.active - counts.embedding) / 1e9;
    EXPECT_LE(model.published_active_billion, active * 1.005);
    EXPECT_GE(model.published_active_billion, without * 0.979);
  }
}

TEST(KnownModels, ExactCounts) {
  // Sums of the tensors that these checkpoints hold, without prediction layers and scales.
  EXPECT_EQ(count_parameters(known_spec("Qwen3-30B-A3B")).total, 30'532'122'624u);
  EXPECT_EQ(count_parameters(known_spec("Mixtral-8x7B-v0.1")).total, 46'702'792'704u);
  EXPECT_EQ(count_parameters(known_spec("DeepSeek-V3")).total, 671'026'419'200u);
}

TEST(KnownModels, AreFoundByEveryName) {
  for (const char* name :
       {"Qwen/Qwen3-30B-A3B", "Qwen3-30B-A3B", "qwen3-30b-a3b", "QWEN/QWEN3-30B-A3B"}) {
    const auto model = find_known_model(table(), name);
    ASSERT_TRUE(model.has_value()) << name;
    EXPECT_EQ(model->names.front(), "Qwen/Qwen3-30B-A3B");
  }
  EXPECT_EQ(find_known_model(table(), "DeepSeek-R1")->names.front(), "deepseek-ai/DeepSeek-R1");
  EXPECT_FALSE(find_known_model(table(), "Qwen").has_value());
  EXPECT_FALSE(find_known_model(table(), "").has_value());
  EXPECT_FALSE(find_known_model(table() / "absent", "DeepSeek-R1").has_value());
}

TEST(Inspect, SizesFromConfigAndFromHeadersAgree) {
  for (const std::string& name : golden_names()) {
    SCOPED_TRACE(name);
    const ModelSpec spec = parse_model_spec(golden_config(name), "config.json");
    const HeaderSource headers(spec, DType::kBF16);
    const Inspection estimated = inspect_model(name, spec, nullptr);
    const Inspection exact = inspect_model(name, spec, &headers);
    EXPECT_FALSE(estimated.exact);
    EXPECT_TRUE(exact.exact);
    EXPECT_EQ(estimated.weight_bytes, exact.weight_bytes);
    EXPECT_EQ(exact.weight_bytes, total_bytes(headers));
    EXPECT_EQ(estimated.bytes_by_dtype, exact.bytes_by_dtype);
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;
    for (const Inspection::ClassSize& size : exact.classes) {
      parameters += size.parameters;
      bytes += size.bytes;
    }
    EXPECT_EQ(parameters, exact.counts.total);
    EXPECT_EQ(bytes, exact.weight_bytes);
  }
}

TEST(Inspect, CountsPredictionLayersAsUnused) {
  const auto folder = resolve_model(golden_folder("deepseek-v3").string());
  const auto tensors = open_tensors(folder);
  const Inspection inspection =
      inspect_model("v3", parse_model_spec(read_config(folder), "config.json"), tensors.get());
  constexpr std::uint64_t kHidden = 48;
  EXPECT_EQ(inspection.classes[static_cast<std::size_t>(WeightClass::kOther)].bytes,
            2 * (3 * kHidden + 2 * kHidden * kHidden));
  EXPECT_FALSE(inspection.weights_problem.has_value());
}

TEST(Inspect, SaysWhenTheWeightsDoNotFit) {
  const ModelSpec spec = parse_model_spec(golden_config("qwen3"), "config.json");
  HeaderSource headers(spec, DType::kBF16);
  headers.remove("lm_head.weight");
  const Inspection inspection = inspect_model("qwen3", spec, &headers);
  ASSERT_TRUE(inspection.weights_problem.has_value());
  EXPECT_THAT(inspection_text(inspection), HasSubstr("no: model.safetensors: tensor lm_head"));
  EXPECT_FALSE(inspection_json(inspection).at("runs").get<bool>());
}

TEST(Inspect, CacheIsHeadsOrLatent) {
  // 48 layers x (4 + 4 heads) x 128 x 2 bytes; 61 layers x (512 + 64) x 2 bytes.
  EXPECT_EQ(inspect_model("q", known_spec("Qwen3-30B-A3B"), nullptr).kv_bytes_per_token, 98304u);
  EXPECT_EQ(inspect_model("d", known_spec("DeepSeek-V3"), nullptr).kv_bytes_per_token, 70272u);
}

TEST(Inspect, GpusFollowTheRule) {
  const auto counts = [](std::string_view name) {
    std::vector<int> out;
    for (const GpuNeed& gpu : inspect_model("m", known_spec(name), nullptr).gpus) {
      out.push_back(gpu.count);
    }
    return out;
  };
  EXPECT_THAT(counts("Qwen3-30B-A3B"), testing::ElementsAre(1, 1, 1));
  EXPECT_THAT(counts("Mixtral-8x7B-v0.1"), testing::ElementsAre(2, 1, 1));
  EXPECT_THAT(counts("DeepSeek-V3"), testing::ElementsAre(16, 8, 8));
}

TEST(Inspect, JsonHasTheFacts) {
  const Json json =
      inspection_json(inspect_model("DeepSeek-V3", known_spec("DeepSeek-V3"), nullptr));
  EXPECT_EQ(json.at("layers").at("moe"), 58);
  EXPECT_EQ(json.at("layers").at("dense"), 3);
  EXPECT_EQ(json.at("moe").at("n_experts"), 256);
  EXPECT_EQ(json.at("moe").at("router").at("score"), "sigmoid");
  EXPECT_EQ(json.at("attention").at("kind"), "mla");
  EXPECT_EQ(json.at("gpus").size(), 3u);
  EXPECT_TRUE(json.at("runs").get<bool>());
  EXPECT_GT(json.at("weights").at("by_dtype").at(std::string(dtype_name(DType::kF8E4M3))), 600e9);
}

TEST(Inspect, TextIsAlignedAndFitsATerminal) {
  for (const KnownModel& model : known_models(table())) {
    const std::string text = inspection_text(
        inspect_model(model.names.front(), parse_model_spec(model.config, model.where), nullptr));
    std::vector<std::size_t> widths;
    for (const std::string& line : split(text, '\n')) {
      widths.push_back(columns(line));
      EXPECT_FALSE(line.ends_with(' ')) << line;
    }
    EXPECT_THAT(widths, Each(Le(100u))) << text;
  }
}

TEST(Inspect, TextOfAKnownModel) {
  const std::string text =
      inspection_text(inspect_model("Qwen/Qwen3-30B-A3B", known_spec("Qwen3-30B-A3B"), nullptr));
  EXPECT_THAT(text, HasSubstr("Qwen/Qwen3-30B-A3B · Qwen3MoeForCausalLM\n"));
  EXPECT_THAT(text, HasSubstr("  parameters    30.5 B in all, 3.35 B a token (11.0%)\n"));
  EXPECT_THAT(text, HasSubstr("  experts       128 a layer, 8 a token, each 2048 → 768 → 2048\n"));
  EXPECT_THAT(text, HasSubstr("GQA, 32 heads of 128 on 4 key/value heads, q/k norm\n"));
  EXPECT_THAT(text, HasSubstr("  runs here     yes, with its weights\n"));
}

}  // namespace
}  // namespace moeopt
