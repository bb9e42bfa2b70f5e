#include "plan/profiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/optimisations.h"
#include "plan/plan_util.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using test::thrown_by;
using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<fs::path> kSource = {MOEOPT_SOURCE_DIR};

Settings shipped(const std::string& name) {
  SettingsSources sources;
  sources.data_folders = kSource;
  sources.flags = {{"profile", name}};
  return load_settings(sources);
}

std::vector<std::string> preferred(const Settings& settings) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < settings.optimisations.size(); ++i) {
    if (settings.optimisations[i].value != Ask::kOff) {
      names.emplace_back(optimisation_table()[i].name);
    }
  }
  return names;
}

TEST(Profiles, FourAreShipped) {
  EXPECT_THAT(profile_names(kSource),
              ElementsAre("aggressive", "balanced", "conservative", "single_h100"));
}

TEST(Profiles, EachSpeaksOfEveryOptimisation) {
  for (const std::string& name : profile_names(kSource)) {
    const Settings settings = shipped(name);
    for (std::size_t i = 0; i < settings.optimisations.size(); ++i) {
      EXPECT_EQ(settings.optimisations[i].origin.kind, OriginKind::kProfile)
          << name << " says nothing of " << optimisation_table()[i].name;
      EXPECT_NE(settings.optimisations[i].value, Ask::kRequire) << name;
    }
  }
}

TEST(Profiles, SayWhatTheirNamesPromise) {
  EXPECT_THAT(preferred(shipped("balanced")),
              ElementsAre("flashdmoe", "fp8", "cuda-graphs", "chunked-prefill", "prefix-cache"));
  EXPECT_THAT(preferred(shipped("conservative")), ElementsAre("fp8", "chunked-prefill"));
  EXPECT_LT(shipped("conservative").gpu_memory_utilization.value,
            shipped("balanced").gpu_memory_utilization.value);
  EXPECT_GT(shipped("aggressive").gpu_memory_utilization.value,
            shipped("balanced").gpu_memory_utilization.value);
  EXPECT_GT(preferred(shipped("aggressive")).size(), preferred(shipped("balanced")).size());
  EXPECT_EQ(shipped("single-h100").hardware.value, "h100x1");
  EXPECT_EQ(shipped("single_h100").gpus.value, 1);
}

TEST(Profiles, BalancedIsTheDefaultAndSaysTheDefaults) {
  SettingsSources sources;
  sources.data_folders = kSource;
  const Settings settings = load_settings(sources);
  EXPECT_EQ(settings.profile.value, "balanced");
  const Settings bare = test::settings_of();
  EXPECT_EQ(settings.gpu_memory_utilization.value, bare.gpu_memory_utilization.value);
  EXPECT_EQ(settings.block_tokens.value, bare.block_tokens.value);
  EXPECT_EQ(preferred(settings), preferred(bare));
}

TEST(Profiles, AnUnknownNameIsRefusedWithASuggestion) {
  auto thrown = thrown_by([] { shipped("agressive"); });
  EXPECT_EQ(thrown.code, ErrorCode::kUsage);
  EXPECT_EQ(thrown.what,
            "--profile: no profile is called \"agressive\"; there are aggressive, balanced, "
            "conservative, single_h100");
  EXPECT_EQ(thrown.hint, "did you mean aggressive?");
  thrown = thrown_by([] { shipped("./absent.yaml"); });
  EXPECT_EQ(thrown.code, ErrorCode::kNotFound);
  EXPECT_THAT(thrown.what, HasSubstr("there is no file ./absent.yaml"));
}

TEST(Profiles, WithoutADataFolderAskedOnesAreNotFound) {
  const TempFolder empty;
  SettingsSources sources;
  sources.data_folders = {empty.path()};
  EXPECT_EQ(load_settings(sources).profile.value, "none");
  sources.flags = {{"profile", "balanced"}};
  const auto thrown = thrown_by([&] { load_settings(sources); });
  EXPECT_EQ(thrown.code, ErrorCode::kNotFound);
  EXPECT_THAT(thrown.what, HasSubstr(empty.path().string()));
  EXPECT_THAT(thrown.hint, HasSubstr("MOEOPT_DATA_DIR"));
  sources.flags = {{"profile", "none"}};
  EXPECT_EQ(load_settings(sources).profile.value, "none");
}

TEST(Profiles, AProfileNamesNoProfile) {
  const TempFolder folder;
  folder.write("profiles/loop.yaml", "profile: balanced\n");
  SettingsSources sources;
  sources.data_folders = {folder.path()};
  sources.flags = {{"profile", "loop"}};
  EXPECT_THAT(thrown_by([&] { load_settings(sources); }).what,
              HasSubstr("loop.yaml:1: no setting is called \"profile\""));
}

TEST(DataFolders, NextToTheProgramInItsTreeOrAsTold) {
  EXPECT_THAT(data_folders_of("/usr/bin/moeopt", {}), ElementsAre("/usr/share/moeopt"));
  const fs::path built = fs::path(MOEOPT_SOURCE_DIR) / "build/release/moeopt";
  const auto folders = data_folders_of(built, {});
  ASSERT_EQ(folders.size(), 2u);
  EXPECT_TRUE(fs::equivalent(folders[0], MOEOPT_SOURCE_DIR));
  const EnvironmentLookup told = [](const std::string& name) -> std::optional<std::string> {
    if (name == "MOEOPT_DATA_DIR") return "/data";
    return std::nullopt;
  };
  EXPECT_THAT(data_folders_of(built, told), ElementsAre("/data"));
}

}  // namespace
}  // namespace moeopt
