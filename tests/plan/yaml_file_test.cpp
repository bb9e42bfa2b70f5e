#include "plan/yaml_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/plan_util.h"

namespace moeopt {
namespace {

using test::thrown_by;
using testing::HasSubstr;
using testing::StartsWith;

std::string refusal(std::string_view text) {
  const auto thrown = thrown_by([&] { parse_yaml_settings(text, "x.yaml"); });
  EXPECT_EQ(thrown.code, ErrorCode::kInvalidData) << text;
  return thrown.what;
}

TEST(YamlFile, ReadsScalarsWithTheirLines) {
  const auto entries = parse_yaml_settings(
      "# comment\n\nthreads: 4\nisa: 'amx'\noptimisations:\n  fp8: off  # not false\n", "x.yaml");
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].key, "threads");
  EXPECT_EQ(entries[0].text, "4");
  EXPECT_EQ(entries[0].line, 3);
  EXPECT_EQ(entries[0].section, "");
  EXPECT_EQ(entries[1].text, "amx");
  EXPECT_EQ(entries[2].section, "optimisations");
  EXPECT_EQ(entries[2].key, "fp8");
  EXPECT_EQ(entries[2].text, "off");
  EXPECT_EQ(entries[2].line, 6);
}

TEST(YamlFile, FlowMappingsAreTheSame) {
  const auto entries = parse_yaml_settings("{optimisations: {fp8: off}, threads: 2}", "x.yaml");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].section, "optimisations");
  EXPECT_EQ(entries[1].section, "");
  EXPECT_EQ(entries[1].key, "threads");
}

TEST(YamlFile, EmptyIsNoEntries) {
  EXPECT_TRUE(parse_yaml_settings("", "x.yaml").empty());
  EXPECT_TRUE(parse_yaml_settings("# nothing\n", "x.yaml").empty());
  EXPECT_TRUE(parse_yaml_settings("---\n...\n", "x.yaml").empty());
}

TEST(YamlFile, RefusesWhatIsNotASettingsFile) {
  EXPECT_THAT(refusal("threads: 1\nthreads: 2\n"), StartsWith("x.yaml:2: threads: given twice"));
  EXPECT_THAT(refusal("o: {a: 1,\n a: 2}"), StartsWith("x.yaml:2: a: given twice"));
  EXPECT_THAT(refusal("threads:\n"), HasSubstr("threads: no value"));
  EXPECT_THAT(refusal("threads: ~\n"), HasSubstr("threads: no value"));
  EXPECT_THAT(refusal("- threads\n"), StartsWith("x.yaml:1: lists are not used"));
  EXPECT_THAT(refusal("threads: [1, 2]\n"), HasSubstr("lists are not used"));
  EXPECT_THAT(refusal("just words\n"), HasSubstr("expected `key: value`"));
  EXPECT_THAT(refusal("a: 1\n---\nb: 2\n"), HasSubstr("a second document"));
  EXPECT_THAT(refusal("a: {b: {c: 1}}\n"), HasSubstr("nested deeper"));
  EXPECT_THAT(refusal("? {a: 1}\n: 2\n"), HasSubstr("a mapping cannot be a key"));
  EXPECT_THAT(refusal("threads: !!int 4\n"), HasSubstr("tag"));
  EXPECT_THAT(refusal("a: 1\n\tb: 2\n"), StartsWith("x.yaml:2: "));
  EXPECT_THAT(refusal("a: {b: 1\n"), StartsWith("x.yaml:"));
}

TEST(YamlFile, RefusesAliasesBeforeTheyCanExpand) {
  EXPECT_THAT(refusal("a: &x 1\nb: *x\n"), StartsWith("x.yaml:1: anchors"));
  std::string bomb = "a: &a [\"lol\",\"lol\"]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    bomb += fmt::format("{0}: &{0} [*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1}]\n", c,
                        static_cast<char>(c - 1));
  }
  EXPECT_THAT(refusal(bomb), StartsWith("x.yaml:1: "));
}

TEST(YamlFile, IsBoundedInSizeDepthAndEntries) {
  EXPECT_THAT(refusal(std::string(70'000, '#')), HasSubstr("at most 64.0 KiB"));
  EXPECT_THAT(refusal(std::string(30'000, '[')), StartsWith("x.yaml:1: lists are not used"));
  EXPECT_THAT(refusal(std::string(30'000, '{')), StartsWith("x.yaml:1: "));
  std::string many;
  for (int i = 0; i < 1001; ++i) many += fmt::format("k{}: 1\n", i);
  EXPECT_THAT(refusal(many), HasSubstr("x.yaml:1001: more than 1000 entries"));
}

TEST(YamlFile, ControlCharactersDoNotReachTheTerminal) {
  const std::string message = refusal("\"a\\e[31m\": 1\n\"a\\e[31m\": 2\n");
  EXPECT_THAT(message, HasSubstr("a\\x1b[31m: given twice"));
}

}  // namespace
}  // namespace moeopt
