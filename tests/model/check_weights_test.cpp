// A checkpoint that does not fit its config is refused from headers alone, naming the tensor.
#include "model/check_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/model_util.h"
#include "model/parse.h"

namespace moeopt {
namespace {

using testing::HasSubstr;

constexpr const char* kQ = "model.layers.1.self_attn.q_b_proj.weight";

class CheckWeights : public testing::Test {
 protected:
  explicit CheckWeights(std::string_view golden = "deepseek-v3-fp8")
      : spec_(parse_model_spec(golden_config(golden), "config.json")),
        source_(spec_, DType::kBF16) {}

  void expect_refused(const std::string& message) {
    const Error error = error_of([this] { check_weights(spec_, source_); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
    EXPECT_THAT(error.what(), HasSubstr("model.safetensors: "));
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
  std::string warnings() {
    testing::internal::CaptureStderr();
    check_weights(spec_, source_);
    return testing::internal::GetCapturedStderr();
  }

  ModelSpec spec_;
  HeaderSource source_;
};

TEST_F(CheckWeights, AcceptsWhatTheConfigPromises) {
  EXPECT_EQ(warnings(), "");
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    check_weights(spec_, HeaderSource(spec_, dtype));
  }
}

TEST_F(CheckWeights, NamesAMissingTensor) {
  source_.remove("model.layers.1.mlp.experts.4.up_proj.weight");
  expect_refused("tensor model.layers.1.mlp.experts.4.up_proj.weight is missing");
}

TEST_F(CheckWeights, NamesFusedExpertsAsTheReason) {
  source_.remove("model.layers.1.mlp.experts.0.gate_proj.weight");
  source_.set("model.layers.0.mlp.experts.gate_up_proj", DType::kBF16, {6, 48, 160});
  EXPECT_THAT(error_of([this] { check_weights(spec_, source_); }).hint(), HasSubstr("fused"));
}

TEST_F(CheckWeights, NamesAWrongShape) {
  source_.set("model.norm.weight", DType::kBF16, {161});
  expect_refused("model.norm.weight: has shape [161], config.json makes it [160]");
  source_.set("model.norm.weight", DType::kBF16, {160, 1});
  expect_refused("model.norm.weight: has shape [160, 1]");
}

TEST_F(CheckWeights, NamesATransposedMatrix) {
  const Shape shape = source_.at(kQ).shape;
  source_.set(kQ, DType::kF8E4M3, {shape[1], shape[0]});
  expect_refused("q_b_proj.weight: has shape [22, 48], config.json makes it [48, 22]");
}

TEST_F(CheckWeights, NamesAWrongDtype) {
  source_.at("model.norm.weight").dtype = DType::kI32;
  expect_refused("model.norm.weight: is i32, must be f32, f16 or bf16");
}

TEST_F(CheckWeights, WantsFp8WhereTheConfigSaysSoAndNowhereElse) {
  source_.at(kQ).dtype = DType::kBF16;
  expect_refused("q_b_proj.weight: is bf16, quantization_config in config.json makes it");
  source_.at(kQ).dtype = DType::kF8E4M3;
  source_.at("model.embed_tokens.weight").dtype = DType::kF8E4M3;
  expect_refused("model.embed_tokens.weight: is");
}

TEST_F(CheckWeights, WantsScalesWithRoundedUpEdges) {
  const std::string scale = std::string(kQ) + "_scale_inv";
  source_.set(scale, DType::kBF16, {1, 1});
  EXPECT_EQ(warnings(), "");
  source_.set(scale, DType::kF16, {1, 1});
  expect_refused("_scale_inv: is f16, must be f32 or bf16");
  source_.set(scale, DType::kF32, {2, 1});
  expect_refused("_scale_inv: has shape [2, 1], config.json makes it [1, 1]");
  source_.remove(scale);
  expect_refused("q_b_proj.weight_scale_inv is missing");
}

TEST_F(CheckWeights, ToleratesWhatModelsCarryAlong) {
  source_.set("model.layers.2.eh_proj.weight", DType::kBF16, {160, 320});
  source_.set("model.layers.61.mlp.experts.7.up_proj.weight", DType::kF8E4M3, {24, 160});
  source_.set("model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {3});
  EXPECT_EQ(warnings(), "");
}

TEST_F(CheckWeights, WarnsOnceOfOtherTensors) {
  source_.set("vision.patch.weight", DType::kBF16, {4});
  source_.set("model.layers.x.weight", DType::kBF16, {4});
  source_.set("model.layers.1.self_attn.q_proj.lora_A", DType::kBF16, {4});
  const std::string text = warnings();
  EXPECT_THAT(text, HasSubstr("3 tensors are not used"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

class CheckTiedWeights : public CheckWeights {
 protected:
  CheckTiedWeights() : CheckWeights("qwen3-dense-layers") {}
};

TEST_F(CheckTiedWeights, TolerateAnOutputMatrix) {
  source_.set("lm_head.weight", DType::kBF16, {211, 44});
  EXPECT_EQ(warnings(), "");
}

}  // namespace
}  // namespace moeopt
