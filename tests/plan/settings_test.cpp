#include "plan/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/optimisations.h"
#include "plan/plan_util.h"

namespace moeopt {
namespace {

using test::Flags;
using test::TempFolder;
using test::thrown_by;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

EnvironmentLookup environment_of(std::map<std::string, std::string> variables) {
  return [variables](const std::string& name) -> std::optional<std::string> {
    const auto at = variables.find(name);
    return at == variables.end() ? std::nullopt : std::optional(at->second);
  };
}

const Setting<Ask>& ask_of(const Settings& settings, std::string_view name) {
  const auto table = optimisation_table();
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i].name == name) return settings.optimisations[i];
  }
  throw std::runtime_error("no such optimisation");
}

// A data folder with one profile, and a user's file.
class Precedence : public testing::Test {
 protected:
  Precedence() {
    folder_.write("profiles/balanced.yaml",
                  "threads: 1\nblock_tokens: 32\noptimisations:\n  fp8: require\n");
    sources_.data_folders = {folder_.path()};
  }

  TempFolder folder_;
  SettingsSources sources_;
};

TEST_F(Precedence, EachPlaceBeatsTheOneBelow) {
  EXPECT_EQ(load_settings(sources_).threads.value, 1);
  EXPECT_THAT(load_settings(sources_).threads.origin.text(),
              testing::AllOf(StartsWith("profile balanced ("), EndsWith("balanced.yaml:1)")));

  sources_.config_file = folder_.write("mine.yaml", "\nthreads: 2\n");
  EXPECT_EQ(load_settings(sources_).threads.value, 2);
  EXPECT_THAT(load_settings(sources_).threads.origin.text(), EndsWith("/mine.yaml:2"));

  sources_.environment = environment_of({{"MOEOPT_THREADS", "3"}});
  EXPECT_EQ(load_settings(sources_).threads.value, 3);
  EXPECT_EQ(load_settings(sources_).threads.origin.text(), "MOEOPT_THREADS");

  sources_.flags = {{"threads", "4"}};
  EXPECT_EQ(load_settings(sources_).threads.value, 4);
  EXPECT_EQ(load_settings(sources_).threads.origin.text(), "--threads");
  EXPECT_EQ(load_settings(sources_).threads.origin.kind, OriginKind::kFlag);

  EXPECT_EQ(load_settings(sources_).block_tokens.value, 32);
  EXPECT_EQ(load_settings(sources_).isa.value, "auto");
  EXPECT_EQ(load_settings(sources_).isa.origin.text(), "default");
}

TEST_F(Precedence, OptimisationsFollowTheSameOrder) {
  EXPECT_EQ(ask_of(load_settings(sources_), "fp8").value, Ask::kRequire);
  sources_.config_file = folder_.write("mine.yaml", "optimisations: {fp8: off}\n");
  EXPECT_EQ(ask_of(load_settings(sources_), "fp8").value, Ask::kOff);
  sources_.environment = environment_of({{"MOEOPT_REQUIRE_FP8", "1"}});
  EXPECT_EQ(ask_of(load_settings(sources_), "fp8").value, Ask::kRequire);
  sources_.flags = {{"enable-fp8", "1"}};
  EXPECT_EQ(ask_of(load_settings(sources_), "fp8").value, Ask::kPrefer);
  EXPECT_EQ(ask_of(load_settings(sources_), "fp8").origin.text(), "--enable-fp8");
  EXPECT_EQ(ask_of(load_settings(sources_), "chunked-prefill").value, Ask::kPrefer);
  EXPECT_EQ(ask_of(load_settings(sources_), "sparsity-2-4").value, Ask::kOff);
}

TEST_F(Precedence, TheProfileItselfIsASetting) {
  folder_.write("profiles/single_h100.yaml", "threads: 7\n");
  sources_.config_file = folder_.write("mine.yaml", "profile: single-h100\n");
  EXPECT_EQ(load_settings(sources_).threads.value, 7);
  EXPECT_THAT(load_settings(sources_).profile.origin.text(), EndsWith("mine.yaml:1"));
  sources_.flags = {{"profile", "balanced"}};
  EXPECT_EQ(load_settings(sources_).threads.value, 1);
  sources_.flags = {{"profile", folder_.write("other.yaml", "threads: 9\n").string()}};
  EXPECT_EQ(load_settings(sources_).threads.value, 9);
  sources_.flags = {};
  sources_.config_file = folder_.write("mine.yaml", "profile: ./other.yaml\n");
  EXPECT_EQ(load_settings(sources_).threads.value, 9) << "relative to the file that names it";
}

TEST_F(Precedence, TheUsersOwnFileIsFoundByXdg) {
  folder_.write("moeopt/config.yaml", "threads: 5\n");
  sources_.environment = environment_of({{"XDG_CONFIG_HOME", folder_.path().string()}});
  EXPECT_EQ(load_settings(sources_).threads.value, 5);
  folder_.write(".config/moeopt/config.yaml", "threads: 6\n");
  sources_.environment = environment_of({{"HOME", folder_.path().string()}});
  EXPECT_EQ(load_settings(sources_).threads.value, 6);
  sources_.config_file = folder_.write("mine.yaml", "threads: 8\n");
  EXPECT_EQ(load_settings(sources_).threads.value, 8);
  sources_.config_file = folder_.path() / "absent.yaml";
  EXPECT_EQ(thrown_by([&] { load_settings(sources_); }).code, ErrorCode::kNotFound);
}

TEST_F(Precedence, EmptyVariablesSayNothing) {
  sources_.environment = environment_of({{"MOEOPT_THREADS", ""}, {"MOEOPT_REQUIRE_FP8", "0"}});
  EXPECT_EQ(load_settings(sources_).threads.value, 1);
}

TEST(Settings, DefaultsNeedNoProfile) {
  const Settings settings = test::settings_of();
  EXPECT_EQ(settings.profile.value, "none");
  EXPECT_EQ(settings.max_model_len.value, 0);
  EXPECT_DOUBLE_EQ(settings.gpu_memory_utilization.value, 0.9);
  EXPECT_EQ(settings.block_tokens.value, 16);
  EXPECT_EQ(settings.hardware.value, "auto");
  EXPECT_EQ(settings.kv_dtype.value, KvDtype::kAuto);
}

TEST(Settings, EveryFlagHasItsVariable) {
  for (const FlagInfo& flag : setting_flags()) {
    EXPECT_THAT(flag.environment_name, StartsWith("MOEOPT_"));
    EXPECT_FALSE(flag.help.empty()) << flag.name;
    EXPECT_EQ(flag.takes_value, !flag.placeholder.empty()) << flag.name;
  }
  EXPECT_EQ(setting_flags().size(), setting_table().size() + 3 * optimisation_table().size());
}

struct Wrong {
  const char* flag;
  const char* value;
  const char* message;
};

class WrongValue : public testing::TestWithParam<Wrong> {};

TEST_P(WrongValue, IsRefusedByName) {
  const auto thrown = thrown_by([&] { test::settings_of({{GetParam().flag, GetParam().value}}); });
  EXPECT_EQ(thrown.code, ErrorCode::kUsage);
  EXPECT_EQ(thrown.what, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, WrongValue,
    testing::Values(
        Wrong{"threads", "0", "--threads: \"0\" is not a whole number from 1 to 1024, or auto"},
        Wrong{"threads", "4.5", "--threads: \"4.5\" is not a whole number from 1 to 1024, or auto"},
        Wrong{"threads", "", "--threads: \"\" is not a whole number from 1 to 1024, or auto"},
        Wrong{"max-model-len", "-1",
              "--max-model-len: \"-1\" is not a whole number from 1 to 16777216, or auto"},
        Wrong{"max-model-len", "99999999999999999999",
              "--max-model-len: \"99999999999999999999\" is not a whole number from 1 to "
              "16777216, or auto"},
        Wrong{"gpu-memory-utilization", "1.01",
              "--gpu-memory-utilization: \"1.01\" is not a number from 0.05 to 1"},
        Wrong{"gpu-memory-utilization", "nan",
              "--gpu-memory-utilization: \"nan\" is not a number from 0.05 to 1"},
        Wrong{"gpu-memory-utilization", "90%",
              "--gpu-memory-utilization: \"90%\" is not a number from 0.05 to 1"},
        Wrong{"block-tokens", "17", "--block-tokens: \"17\" is not one of 8, 16, 32, 64, 128"},
        Wrong{"block-tokens", "auto", "--block-tokens: \"auto\" is not one of 8, 16, 32, 64, 128"},
        Wrong{"kv-dtype", "bf61", "--kv-dtype: \"bf61\" is not one of auto, bf16, f32, fp8"},
        Wrong{"hardware", "", "--hardware: \"\" is not a name"},
        Wrong{"enable-fp8", "maybe", "--enable-fp8: \"maybe\" is not 1 or 0"}));

TEST(Settings, MisspeltNamesGetASuggestion) {
  const TempFolder folder;
  const auto from_file = [&](std::string_view text) {
    SettingsSources sources;
    sources.config_file = folder.write("mine.yaml", text);
    return thrown_by([&] { load_settings(sources); });
  };
  auto thrown = from_file("threads: 1\nmax_model_length: 4\n");
  EXPECT_EQ(thrown.code, ErrorCode::kUsage);
  EXPECT_THAT(thrown.what, EndsWith("mine.yaml:2: no setting is called \"max_model_length\""));
  EXPECT_EQ(thrown.hint, "did you mean max_model_len?");

  thrown = from_file("max-model-len: 4\n");
  EXPECT_EQ(thrown.hint, "did you mean max_model_len?");

  thrown = from_file("optimisations:\n  chunked-prefil: off\n");
  EXPECT_THAT(thrown.what, EndsWith(":2: no optimisation is called \"chunked-prefil\""));
  EXPECT_EQ(thrown.hint, "did you mean chunked-prefill?");

  thrown = from_file("optimizations:\n  fp8: off\n");
  EXPECT_THAT(thrown.what, EndsWith(":2: no section is called \"optimizations\""));
  EXPECT_EQ(thrown.hint, "did you mean optimisations?");

  thrown = from_file("optimisations:\n  fp8: of\n");
  EXPECT_THAT(thrown.what, EndsWith(":2: fp8: \"of\" is not one of off, prefer, require"));
  EXPECT_EQ(thrown.hint, "did you mean off?");

  thrown = from_file("xyzzy: 1\n");
  EXPECT_THAT(thrown.hint, StartsWith("known: profile, hardware, "));

  thrown = thrown_by([] { test::settings_of({{"thread", "4"}}); });
  EXPECT_EQ(thrown.what, "command line: no flag is called \"--thread\"");
  EXPECT_EQ(thrown.hint, "did you mean --threads?");
}

TEST(Settings, FilesSayWhereAValueIsWrong) {
  const TempFolder folder;
  SettingsSources sources;
  sources.config_file = folder.write("mine.yaml", "threads: 1\n\nkv_dtype: int4\n");
  const auto thrown = thrown_by([&] { load_settings(sources); });
  EXPECT_EQ(thrown.code, ErrorCode::kUsage);
  EXPECT_THAT(thrown.what,
              EndsWith("mine.yaml:3: kv_dtype: \"int4\" is not one of auto, bf16, f32, fp8"));
}

TEST(Settings, ContradictionsAreRefused) {
  const auto flags = [](const Flags& given) {
    return thrown_by([&] { test::settings_of(given); }).what;
  };
  EXPECT_EQ(flags({{"enable-fp8", "1"}, {"disable-fp8", "1"}}),
            "--enable-fp8 and --disable-fp8 contradict each other");
  const TempFolder folder;
  SettingsSources sources;
  sources.config_file =
      folder.write("mine.yaml", "optimisations:\n  fp8-kv: off\n  fp8_kv: prefer\n");
  EXPECT_THAT(thrown_by([&] { load_settings(sources); }).what, EndsWith(":3: fp8-kv: given twice"));
  sources.config_file = folder.write("mine.yaml", "optimisations: prefer\n");
  EXPECT_THAT(thrown_by([&] { load_settings(sources); }).what, HasSubstr("expected lines such as"));
}

}  // namespace
}  // namespace moeopt
