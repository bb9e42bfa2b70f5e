// The renderer against Jinja2's own results (tools/template_goldens/make.py wrote them).
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/chat_template.h"

namespace moeopt {
namespace {

using nlohmann::ordered_json;

std::filesystem::path data_folder() {
  return std::filesystem::path(MOEOPT_SOURCE_DIR) / "tests/text/data/templates";
}

const ordered_json& goldens() {
  static const ordered_json kGoldens = parse_ordered_json(
      read_file(data_folder() / "goldens.json", std::size_t{4} << 20), "goldens.json");
  return kGoldens;
}

struct Outcome {
  std::string text;
  std::string error;
};

Outcome outcome_of(const std::string& source, const ordered_json& inputs) {
  try {
    return {ChatTemplate::parse(source, "t").render(inputs), {}};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
    return {{}, error.what()};
  }
}

// Jinja2's own words, or its line, where it promises them; else that it failed at all.
void expect_same(const ordered_json& golden, const Outcome& outcome) {
  if (golden.contains("text")) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.text, golden["text"].get<std::string>());
    return;
  }
  ASSERT_NE(outcome.error, "") << "gives " << outcome.text;
  const auto kind = golden["kind"].get<std::string>();
  const auto message = golden["error"].get<std::string>();
  if (kind == "TemplateError" || kind == "UndefinedError" || kind == "SecurityError") {
    EXPECT_TRUE(outcome.error.ends_with(": " + message)) << outcome.error << "\nnot " << message;
  } else if (golden.contains("line")) {
    const auto start = "t:" + std::to_string(golden["line"].get<int>()) + ": ";
    EXPECT_TRUE(outcome.error.starts_with(start)) << outcome.error << "\nnot at " << start;
  }
}

TEST(JinjaGolden, TemplatesOfWholeConversations) {
  ASSERT_GE(goldens()["renders"].size(), 90U);
  for (const auto& golden : goldens()["renders"]) {
    const auto name = golden["template"].get<std::string>();
    const auto inputs = golden["inputs"].get<std::string>();
    SCOPED_TRACE(name + " with " + inputs);
    const std::string source = read_file(data_folder() / name, std::size_t{1} << 20);
    expect_same(golden, outcome_of(source, goldens()["inputs"][inputs]));
  }
}

TEST(JinjaGolden, OneConstructAtATime) {
  ASSERT_GE(goldens()["snippets"].size(), 400U);
  for (const auto& golden : goldens()["snippets"]) {
    const auto source = golden["source"].get<std::string>();
    SCOPED_TRACE(source);
    expect_same(golden, outcome_of(source, goldens()["snippet_inputs"]));
  }
}

TEST(JinjaGolden, StrftimeNowIsTheClock) {
  const std::string text =
      outcome_of("{{ strftime_now('%Y %d é %f') }}", ordered_json::object()).text;
  EXPECT_GE(std::stoi(text.substr(0, 4)), 2024);
  EXPECT_NE(text.find(" é "), std::string::npos);
  EXPECT_EQ(text.size(), std::string("2024 01 é 123456").size());
}

TEST(JinjaGolden, WhatIsLeftOutIsNamed) {
  const auto error_of = [](const std::string& source) {
    return outcome_of(source, ordered_json::object()).error;
  };
  EXPECT_EQ(error_of("a\n{% include 'x' %}"), "t:2: the tag 'include' is not supported");
  EXPECT_EQ(error_of("{{ 'x'|urlize }}"), "t:1: the filter 'urlize' is not supported");
  EXPECT_EQ(error_of("{{ 'x'.encode() }}"), "t:1: attribute 'encode' of 'str' is not supported");
  EXPECT_EQ(error_of("{{ lipsum() }}"), "t:1: the function 'lipsum' is not supported");
  EXPECT_EQ(error_of("{{ 2 ** 64 }}"), "t:1: an integer does not fit 64 bits");
}

}  // namespace
}  // namespace moeopt
