// Reasoning, content and tool calls in a model's text, however it is cut into parts.
#include "text/parse/output_parser.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

namespace moeopt {
namespace {

using Kind = OutputPiece::Kind;

// All pieces put together, so that results can be compared.
struct Outcome {
  std::string reasoning;
  std::string content;
  struct Call {
    std::string id;
    std::string name;
    std::string arguments;
    bool operator==(const Call&) const = default;
  };
  std::vector<Call> calls;
  bool operator==(const Outcome&) const = default;

  void add(const OutputPieces& pieces) {
    for (const OutputPiece& piece : pieces) {
      if (piece.kind == Kind::kReasoning) reasoning += piece.text;
      if (piece.kind == Kind::kContent) content += piece.text;
      if (piece.kind != Kind::kToolCall) continue;
      if (!piece.id.empty()) {
        EXPECT_EQ(piece.index, static_cast<int>(calls.size()));
        calls.push_back({piece.id, piece.name, ""});
      }
      EXPECT_EQ(piece.index, static_cast<int>(calls.size()) - 1);
      calls.back().arguments += piece.text;
    }
  }
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  out << "reasoning [" << outcome.reasoning << "] content [" << outcome.content << "]";
  for (const auto& call : outcome.calls)
    out << " call " << call.id << " " << call.name << " [" << call.arguments << "]";
  return out;
}

OutputParser::Options options(ToolCallFormat format, bool open = false) {
  return {
      .reasoning = true, .reasoning_open = open, .tool_calls = format, .tool_call_id_prefix = "c"};
}

// Cut at random into parts of up to `most` bytes; 0: at once.
Outcome read(std::string_view text, const OutputParser::Options& options, std::size_t most,
             unsigned seed) {
  std::mt19937 random(seed);
  OutputParser parser(options);
  Outcome outcome;
  while (!text.empty()) {
    const std::size_t n =
        most == 0 ? text.size() : std::min<std::size_t>(1 + random() % most, text.size());
    outcome.add(parser.push(text.substr(0, n)));
    text.remove_prefix(n);
  }
  outcome.add(parser.finish());
  EXPECT_EQ(parser.n_calls(), static_cast<int>(outcome.calls.size()));
  return outcome;
}

Outcome read(std::string_view text, ToolCallFormat format = ToolCallFormat::kHermes,
             bool open = false) {
  const Outcome outcome = read(text, options(format, open), 0, 0);
  for (unsigned seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(read(text, options(format, open), 1 + seed % 7, seed), outcome) << text;
  }
  return outcome;
}

TEST(ReasoningSplitter, SplitsAtTheMarkers) {
  EXPECT_EQ(read("<think>\nwhy\n\nso\n</think>\n\nanswer\n"),
            (Outcome{"why\n\nso", "answer\n", {}}));
  EXPECT_EQ(read(" \n<think>a</think>b"), (Outcome{"a", "b", {}}));
  EXPECT_EQ(read("why\n</think>\n\nanswer", ToolCallFormat::kHermes, true),
            (Outcome{"why", "answer", {}}));
  EXPECT_EQ(read("<think>\n\n</think>\n\nanswer"), (Outcome{"", "answer", {}}));
  EXPECT_EQ(read("<think>never closed </thin"), (Outcome{"never closed </thin", "", {}}));
}

TEST(ReasoningSplitter, LeavesOtherTextAlone) {
  for (const char* text : {"", "plain", "\n\nplain\n", "a <think>b</think>", "<thin", "<thinking>",
                           "</think>x", "  "}) {
    EXPECT_EQ(read(text), (Outcome{"", text, {}})) << text;
  }
  EXPECT_EQ(read("<think>a</think>b<think>c</think>"), (Outcome{"a", "b<think>c</think>", {}}));
}

TEST(ReasoningSplitter, KnowsWhatAPromptLeavesOpen) {
  EXPECT_TRUE(ends_in_open_reasoning("<|Assistant|><think>\n"));
  EXPECT_TRUE(ends_in_open_reasoning("x<think>"));
  EXPECT_FALSE(ends_in_open_reasoning("<think>\n\n</think>\n\n"));
  EXPECT_FALSE(ends_in_open_reasoning("what is <think>? <|assistant|>"));
  EXPECT_FALSE(ends_in_open_reasoning(""));
  EXPECT_TRUE(template_knows_reasoning("... '</think>' ..."));
  EXPECT_FALSE(template_knows_reasoning("plain"));
}

TEST(ReasoningSplitter, NeverGivesOutAPartOfAMarker) {
  const std::string text = "<think>why</think>answer";
  OutputParser parser(options(ToolCallFormat::kHermes));
  for (const char byte : text) {
    for (const OutputPiece& piece : parser.push({&byte, 1})) {
      EXPECT_EQ(piece.text.find_first_of("<>/"), std::string::npos) << piece.text;
    }
  }
}

TEST(BareCall, BeginsWithTheContentAndEndsWithAWholeText) {
  for (const bool reasons : {false, true}) {
    for (const std::size_t part : {1, 3, 100}) {
      for (const bool is_whole : {false, true}) {
        OutputParser::Options asked = options(ToolCallFormat::kHermes, true);
        asked.reasoning = reasons;
        asked.bare_call = true;
        OutputParser parser(asked);
        Outcome outcome;
        std::string_view text = "why\n</think>\n\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}";
        if (!reasons) text.remove_prefix(text.find('{'));
        for (; !text.empty(); text.remove_prefix(std::min(part, text.size())))
          outcome.add(parser.push(text.substr(0, part)));
        outcome.add(parser.finish(is_whole));
        EXPECT_EQ(outcome, (Outcome{reasons ? "why" : "", "", {{"c0", "f", R"({"a": 1})"}}}));
      }
    }
  }
}

TEST(BareCall, IsNoneWhereTheReasoningNeverEnds) {
  OutputParser::Options asked = options(ToolCallFormat::kHermes, true);
  asked.bare_call = true;
  OutputParser parser(asked);
  Outcome outcome;
  outcome.add(parser.push("why"));
  outcome.add(parser.finish(true));
  EXPECT_EQ(outcome, (Outcome{"why", "", {}}));
}

TEST(HermesCalls, AreRead) {
  EXPECT_EQ(read("Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1, "
                 "\"}\\\"\"]}}\n</tool_call>"),
            (Outcome{"", "Let me see.\n", {{"c0", "f", R"({"x": [1, "}\""]})"}}}));
  EXPECT_EQ(read("<think>hm</think>\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
                 "<tool_call>{\"arguments\":{\"a\":1},\"name\":\"g\\u00e9\"}</tool_call>\n done"),
            (Outcome{"hm", "done", {{"c0", "f", "{}"}, {"c1", "g\xC3\xA9", R"({"a":1})"}}}));
  EXPECT_EQ(read("<tool_call>{\"name\":\"f\"}</tool_call>"),
            (Outcome{"", "", {{"c0", "f", "{}"}}}));
  EXPECT_EQ(read("<tool_call>{\"id\":7,\"name\":\"f\",\"parameters\":{\"a\":-1.5e3},\"x\":[]}</"
                 "tool_call>"),
            (Outcome{"", "", {{"c0", "f", R"({"a":-1.5e3})"}}}));
  // The object or the call was not closed.
  EXPECT_EQ(read("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}</tool_call>x"),
            (Outcome{"", "x", {{"c0", "f", R"({"a":1})"}}}));
  EXPECT_EQ(read("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}"),
            (Outcome{"", "", {{"c0", "f", R"({"a":1})"}}}));
  EXPECT_EQ(read("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}\n<tool_call>{\"name\":\"g\"}<"
                 "/tool_call>"),
            (Outcome{"", "", {{"c0", "f", R"({"a":1})"}, {"c1", "g", "{}"}}}));
  // A length limit.
  EXPECT_EQ(read("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"lon"),
            (Outcome{"", "", {{"c0", "f", R"({"a":"lon)"}}}));
}

TEST(HermesCalls, WhatOnlyLooksLikeACallIsContent) {
  for (const char* text :
       {"<tool_call>", "<tool_cal", "a <tool_call> is what I write", "<tool_call>[1]</tool_call>",
        "<tool_call>{}</tool_call>", "<tool_call>{\"name\": 1}</tool_call>",
        "<tool_call>{\"name\": \"\"}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": \"{}\"}</tool_call>",
        "<tool_call>{\"name\": \"f\", ", "<tool_call>{'name': 'f'}</tool_call>", "<tool_call>\n\n",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"\\ud800\"}</tool_call>", "<tool_call>{\"a\": 01}</tool_call>"}) {
    EXPECT_EQ(read(text), (Outcome{"", text, {}})) << text;
  }
  EXPECT_EQ(read("<tool_call> or <tool_call>{\"name\":\"f\"}</tool_call>"),
            (Outcome{"", "<tool_call> or ", {{"c0", "f", "{}"}}}));
}

TEST(HermesCalls, HeldBackIsBounded) {
  const std::string text =
      "<tool_call>{\"x\":\"" + std::string(ToolCallParser::kMostHeldBytes * 2, 'a');
  ToolCallParser parser(ToolCallFormat::kHermes, "c");
  std::string given;
  for (const char byte : text) {
    for (const OutputPiece& piece : parser.push({&byte, 1})) given += piece.text;
  }
  EXPECT_EQ(given, text);
  EXPECT_EQ(
      read("<tool_call>" + std::string(ToolCallParser::kMostHeldBytes, ' ') + "x").content.size(),
      ToolCallParser::kMostHeldBytes + 12);
}

TEST(HermesCalls, ArgumentsStream) {
  ToolCallParser parser(ToolCallFormat::kHermes, "c");
  EXPECT_EQ(parser.push("<tool_call>{\"name\": \"f\", \"arguments\":"), OutputPieces{});
  EXPECT_EQ(parser.push(" {\"a\": "), (OutputPieces{{Kind::kToolCall, "{\"a\": ", 0, "c0", "f"}}));
  EXPECT_EQ(parser.push("1}"), (OutputPieces{{Kind::kToolCall, "1}", 0, "", ""}}));
  EXPECT_EQ(parser.push("}</tool_call>"), OutputPieces{});
}

TEST(HermesCalls, EndWhereTheirArgumentsStopBeingJson) {
  EXPECT_EQ(read("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1,}}</tool_call>"),
            (Outcome{"", "}}</tool_call>", {{"c0", "f", R"({"a":1,)"}}}));
}

TEST(DeepSeekCalls, AreRead) {
  EXPECT_EQ(
      read("Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```"
           "json\n"
           "{\"city\": "
           "\"Paris\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n"
           "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
           ToolCallFormat::kDeepSeek),
      (Outcome{"", "Sure.", {{"c0", "get_weather", R"({"city": "Paris"})"}, {"c1", "now", "{}"}}}));
  EXPECT_EQ(
      read(
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": {}}<｜tool▁call▁end｜>"
          "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>\nx",
          ToolCallFormat::kDeepSeek),
      (Outcome{"", "x", {{"c0", "f", R"({"a": {}})"}, {"c1", "g", "{}"}}}));
  EXPECT_EQ(read("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": ",
                 ToolCallFormat::kDeepSeek),
            (Outcome{"", "", {{"c0", "f", "{\"a\": "}}}));
}

TEST(DeepSeekCalls, WhatOnlyLooksLikeACallIsContent) {
  for (const char* text :
       {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜>x",
        "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\nno fence",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n[1]",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>\n",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜><｜tool▁sep｜>{}",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool<｜tool▁sep｜>f\n```json\n{}", "<｜tool▁",
        "a < b", "<tool_call>{\"name\":\"f\"}</tool_call>"}) {
    EXPECT_EQ(read(text, ToolCallFormat::kDeepSeek), (Outcome{"", text, {}})) << text;
  }
}

// Any cut of any text gives the same; text that holds no call comes out whole.
TEST(OutputParser, AnyCutGivesTheSame) {
  const char* const kParts[] = {"<think>",
                                "</think>",
                                "<tool_call>",
                                "</tool_call>",
                                "{",
                                "}",
                                "\"name\"",
                                ":",
                                "\"f\"",
                                ",",
                                "\"arguments\"",
                                "{\"a\":1}",
                                "\n",
                                " ",
                                "x",
                                "<",
                                "｜tool▁",
                                "<｜tool▁calls▁begin｜>",
                                "<｜tool▁call▁begin｜>",
                                "function",
                                "<｜tool▁sep｜>",
                                "```json\n",
                                "\n```",
                                "<｜tool▁call▁end｜>",
                                "<｜tool▁calls▁end｜>",
                                "{\"name\":\"f\",\"arguments\":",
                                "\"",
                                "\\",
                                "[1",
                                "]",
                                "<tool_call>{\"name\":\"f\",\"arguments\":{",
                                "\xE4\xBD\xA0"};
  std::mt19937 random(11);
  for (int n = 0; n < 3000; ++n) {
    std::string text;
    for (unsigned i = random() % 14; i > 0; --i) text += kParts[random() % std::size(kParts)];
    const auto format = n % 2 == 0 ? ToolCallFormat::kHermes : ToolCallFormat::kDeepSeek;
    const OutputParser::Options how = {.reasoning = n % 3 != 0,
                                       .reasoning_open = n % 5 == 0,
                                       .tool_calls = format,
                                       .tool_call_id_prefix = "c"};
    const Outcome outcome = read(text, how, 0, 0);
    for (unsigned seed = 1; seed < 5; ++seed)
      ASSERT_EQ(read(text, how, seed, seed), outcome) << text;
    if (outcome.calls.empty() && !how.reasoning) {
      ASSERT_EQ(outcome.content, text);
    }
  }
}

TEST(OutputParser, FormatsAreToldByTheTemplate) {
  EXPECT_EQ(tool_call_format("... <tool_call> ..."), ToolCallFormat::kHermes);
  EXPECT_EQ(tool_call_format("'<｜tool▁calls▁begin｜>'"), ToolCallFormat::kDeepSeek);
  EXPECT_EQ(tool_call_format("plain"), std::nullopt);
}

}  // namespace
}  // namespace moeopt
