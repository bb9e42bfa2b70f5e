// Every golden checkpoint as Transformers made it: its config becomes the constants that
// Transformers computes with, and its tensors are exactly those that the spec expects.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "checkpoint/fp8_blocks.h"
#include "checkpoint/model_folder.h"
#include "golden_test_name.h"
#include "model/check_weights.h"
#include "model/model_util.h"
#include "model/parse.h"

namespace moeopt {
namespace {

class GoldenConfig : public testing::TestWithParam<std::string> {
 protected:
  GoldenConfig() : spec_(parse_model_spec(golden_config(GetParam()), "config.json")) {}
  ModelSpec spec_;
};

INSTANTIATE_TEST_SUITE_P(All, GoldenConfig, testing::ValuesIn(golden_names()), golden_test_name);

TEST_P(GoldenConfig, HasTransformersConstants) {
  EXPECT_FALSE(spec_.not_runnable.has_value()) << *spec_.not_runnable;
  const Json golden = parse_json_file(golden_folder(GetParam()) / "golden.json");
  const Json& attention = golden.at("attention");
  const auto frequencies = attention.at("inverse_frequencies").get<std::vector<double>>();
  ASSERT_EQ(spec_.rope.inverse_frequencies.size(), frequencies.size());
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    EXPECT_NEAR(spec_.rope.inverse_frequencies[i] / frequencies[i], 1.0, 1e-5) << i;
  }
  EXPECT_NEAR(spec_.rope.magnitude, attention.at("magnitude").get<double>(), 1e-7);
  EXPECT_NEAR(spec_.layers.front().attention.softmax_scale,
              attention.at("softmax_scale").get<double>(), 1e-7);
}

TEST_P(GoldenConfig, HasTransformersSparseLayersAndTopK) {
  const Json golden = parse_json_file(golden_folder(GetParam()) / "golden.json");
  const Json& routing = golden.at("routing");
  ASSERT_EQ(routing.size(), spec_.layers.size());
  for (std::size_t i = 0; i < spec_.layers.size(); ++i) {
    ASSERT_EQ(spec_.layers[i].moe.has_value(), !routing[i].is_null()) << "layer " << i;
    if (!spec_.layers[i].moe) continue;
    EXPECT_EQ(spec_.layers[i].moe->top_k, static_cast<int>(routing[i]["experts"][0].size()));
  }
}

TEST_P(GoldenConfig, IsTheSameInTransformers5Spelling) {
  const auto file = golden_folder(GetParam()) / "config.transformers5.json";
  const ModelSpec saved = parse_model_spec(parse_json_file(file), "config.json");
  EXPECT_EQ(describe(saved), describe(spec_));
}

TEST_P(GoldenConfig, ExpectsExactlyTheTensorsOfTheCheckpoint) {
  const auto tensors = open_tensors(resolve_model(golden_folder(GetParam()).string()));
  check_weights(spec_, *tensors);
  std::set<std::string> expected;
  for (const WeightSpec& weight : weights_of(spec_)) {
    EXPECT_TRUE(expected.insert(weight.name).second) << weight.name << " occurs twice";
    if (weight.quantised) expected.insert(fp8_scale_name(weight.name));
  }
  const std::string mtp = "model.layers." + std::to_string(spec_.layers.size()) + ".";
  for (const TensorInfo* info : tensors->list()) {
    EXPECT_TRUE(expected.contains(info->name) || info->name.starts_with(mtp)) << info->name;
  }
}

TEST(GoldenConfigs, CoverEveryFamily) {
  std::set<Family> families;
  for (const std::string& name : golden_names()) {
    families.insert(parse_model_spec(golden_config(name), name).family);
  }
  EXPECT_EQ(families.size(), 5u);
  EXPECT_FALSE(families.contains(Family::kUnknown));
}

}  // namespace
}  // namespace moeopt
