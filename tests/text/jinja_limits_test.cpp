// Templates that mean harm: each must end with an Error, soon and in little memory.
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "text/chat_template.h"

namespace moeopt {
namespace {

using nlohmann::ordered_json;

std::string repeat(std::string_view text, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += text;
  return out;
}

constexpr RenderLimits kManySteps = {
    .steps = 100'000'000, .output_bytes = 1 << 20, .memory_bytes = 8 << 20, .depth = 400};
constexpr RenderLimits kSmall = {
    .steps = 400'000, .output_bytes = 1 << 20, .memory_bytes = 8 << 20, .depth = 400};

std::string error_of(const std::string& source, const RenderLimits& limits = kSmall,
                     const ordered_json& inputs = ordered_json::object()) {
  try {
    ChatTemplate::parse(source, "t").render(inputs, limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
    return error.what();
  }
  return "no error";
}

void expect_error(const std::string& source, std::string_view part,
                  const RenderLimits& limits = kSmall) {
  const std::string error = error_of(source, limits);
  EXPECT_NE(error.find(part), std::string::npos)
      << source.substr(0, 200) << "\n  gives: " << error.substr(0, 300);
}

TEST(JinjaLimits, Steps) {
  const std::string nest = repeat("{% for a in range(1000) %}", 5) + repeat("{% endfor %}", 5);
  expect_error(nest, "more than 400000 steps");
  expect_error("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
               "steps");
  expect_error(
      "{% set ns = namespace(l=range(1000)|list) %}{% for a in range(1000) %}"
      "{% set ns.l = ns.l|sort|reverse|list %}{% endfor %}",
      "steps");
  expect_error("{% set l = range(3000)|list %}{% for a in l %}{{ 'x' if -1 in l }}{% endfor %}",
               "steps");
  expect_error("{{ range(100000)|unique|list }}", "steps");
  expect_error(
      "{% set s = 'ab' * 100000 %}{% for a in range(100000) %}{{ 'x' if 'ba' * 9 in s }}"
      "{% endfor %}",
      "steps");
}

TEST(JinjaLimits, Memory) {
  expect_error("{{ 'x' * 10 ** 12 }}", "bytes of values");
  expect_error("{{ [0] * 10 ** 15 }}", "bytes of values");
  expect_error("{{ 'x'.ljust(10 ** 15) }}", "bytes of values");
  expect_error("{{ '7'.zfill(10 ** 15) }}", "bytes of values");
  expect_error("{{ '%99999999d' % 1 }}", "a format asks for more");
  expect_error("{{ '%.999999999f' % 1.0 }}", "a format asks for more");
  expect_error("{{ '{:999999999}'.format(1) }}", "a format asks for more");
  expect_error("{{ 'x'|center(10 ** 15) }}", "bytes of values");
  expect_error("{{ 'x\nx'|indent(10 ** 15) }}", "bytes of values");
  constexpr std::string_view kHolds = "more than 8388608 bytes of values";
  expect_error("{{ ('a' * 3000000).replace('a', 'bbbbbbbb') }}", kHolds, kManySteps);
  expect_error("{{ ('x' * 4000000)|list }}", kHolds, kManySteps);
  expect_error(
      "{% set ns = namespace(s='x') %}{% for a in range(64) %}"
      "{% set ns.s = ns.s + ns.s %}{% endfor %}",
      kHolds, kManySteps);
  expect_error(
      "{% set ns = namespace(s=['x']) %}{% for a in range(64) %}"
      "{% set ns.s = ns.s + ns.s %}{% endfor %}",
      kHolds, kManySteps);
  expect_error("{% set x = 'y' * 5000000 %}{% set y = x ~ x %}", kHolds, kManySteps);
}

// What is let go is given back: only what lives at once counts.
TEST(JinjaLimits, MemoryIsWhatLives) {
  const std::string source = "{% for a in range(100) %}{% set x = 'y' * 3000000 %}{% endfor %}done";
  const RenderLimits limits = {
      .steps = 100'000'000, .output_bytes = 100, .memory_bytes = 8 << 20, .depth = 400};
  EXPECT_EQ(ChatTemplate::parse(source, "t").render(ordered_json::object(), limits), "done");
}

TEST(JinjaLimits, Output) {
  expect_error("{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", "output exceeds");
  expect_error("{% set x %}{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}{% endset %}",
               "output exceeds");
  expect_error("{% macro m(n) %}{{ 'x' * 100000 }}{{ m(n - 1) if n }}{% endmacro %}{{ m(30) }}",
               "output exceeds");
  // A list that holds itself ten times, ten times over: small to hold, large to print.
  const std::string bomb =
      "{% set ns = namespace(l=['xxxxxxxxxx']) %}{% for a in range(8) %}"
      "{% set ns.l = [ns.l, ns.l, ns.l, ns.l, ns.l, ns.l, ns.l, ns.l, ns.l, ns.l] %}{% endfor %}";
  expect_error(bomb + "{{ ns.l }}", "the text of a value exceeds", kManySteps);
  expect_error(bomb + "{{ ns.l|tojson }}", "the JSON of a value exceeds", kManySteps);
  expect_error(bomb + "{{ ns.l == ns.l }}{{ ns.l < ns.l }}", "steps");
}

TEST(JinjaLimits, Depth) {
  expect_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested deeper than 400");
  expect_error(
      "{% macro m() %}{{ n() }}{% endmacro %}{% macro n() %}{{ m() }}{% endmacro %}"
      "{{ m() }}",
      "nested deeper");
  expect_error("{% macro m() %}{{ caller }}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}",
               "nested deeper");
  expect_error("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "nested deeper");
  expect_error("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", "nested deeper");
  expect_error(
      "{% set ns = namespace(l=[]) %}{% for a in range(1000) %}{% set ns.l = [ns.l] %}"
      "{% endfor %}",
      "lists and dicts nested deeper");
  expect_error(
      "{% set ns = namespace(l={}) %}{% for a in range(1000) %}{% set ns.l = {'a': ns.l} %}"
      "{% endfor %}",
      "lists and dicts nested deeper");
  expect_error(
      "{% set ns = namespace(f='x'.upper) %}{% for a in range(1000) %}"
      "{% set ns.f = [ns.f].index %}{% endfor %}",
      "lists and dicts nested deeper");
  expect_error(
      "{% set ns = namespace(f='x') %}{% for a in range(1000) %}"
      "{% set ns.f = [ns.f]|select %}{% endfor %}",
      "lists and dicts nested deeper");
  // Generators that grow deeper than they said when they were made.
  expect_error(
      "{% set ns = namespace(a=[]) %}{% for i in range(1000) %}"
      "{% set g = [ns]|map(attribute='a') %}{% set ns.a = [g] %}{{ g|list|length }}"
      "{% endfor %}",
      "lists and dicts nested deeper");
}

TEST(JinjaLimits, DepthOfTheSource) {
  for (const auto& [open, close] : {std::pair{"(", ")"},
                                    {"[", "]"},
                                    {"{1:", "}"},
                                    {"x[", "]"},
                                    {"x(", ")"},
                                    {"not ", ""},
                                    {"-", ""},
                                    {"x|d(", ")"},
                                    {"1 if 1 else ", ""},
                                    {"x is eq ", ""}}) {
    expect_error("{{ " + repeat(open, 8000) + "1" + repeat(close, 8000) + " }}", "nested deeper");
  }
  for (const char* tail : {".a", "[0]", "()", "|d", " + 1", " ~ 1 + 1", " or 1", " ** 1", "*1"}) {
    const std::string error = error_of("{{ x" + repeat(tail, 8000) + " }}");
    EXPECT_NE(error.find("nested deeper"), std::string::npos) << tail << ": " << error;
  }
  expect_error(repeat("{% if 1 %}", 8000), "nested deeper");
  expect_error(repeat("{% for a in b %}", 8000), "nested deeper");
  expect_error(repeat("{% macro a() %}", 8000), "nested deeper");
  expect_error("{% set " + repeat("(", 20000) + "a", "nested deeper");
  expect_error(std::string((256 << 10) + 1, 'x'), "262145 bytes of template");
}

TEST(JinjaLimits, ManyNames) {
  std::string parameters = "a";
  std::string keywords = "a=1";
  for (int i = 0; i < 2000; ++i) {
    parameters += ",p" + std::to_string(i);
    keywords += ",p" + std::to_string(i) + "=1";
  }
  expect_error("{% macro m(" + parameters + ") %}{% endmacro %}", "too many parameters");
  expect_error("{{ dict(" + keywords + ") }}", "too many keyword arguments");
}

// Wide is fine where deep is not.
TEST(JinjaLimits, WideTemplatesWork) {
  const auto render = [](const std::string& source) {
    return ChatTemplate::parse(source, "t").render(ordered_json::object());
  };
  EXPECT_EQ(render("{% if 0 %}" + repeat("{% elif 0 %}", 5000) + "{% else %}x{% endif %}"), "x");
  EXPECT_EQ(render("{{ ''" + repeat(" ~ 'x'", 5000) + " }}").size(), 5000U);
  EXPECT_EQ(render("{{ [" + repeat("1,", 5000) + "]|length }}"), "5000");
  EXPECT_EQ(render(repeat("{% set x = 1 %}", 5000) + "{{ x }}"), "1");
}

TEST(JinjaLimits, RangesAndIntegers) {
  expect_error("{{ range(10 ** 9)|list }}", "Range too big");
  expect_error("{{ range(-9223372036854775807, 9223372036854775807) }}", "beyond 2**40");
  expect_error("{{ 9223372036854775807 + 1 }}", "does not fit 64 bits");
  expect_error("{{ -9223372036854775807 - 2 }}", "does not fit 64 bits");
  expect_error("{{ 10 ** 10 ** 10 }}", "does not fit 64 bits");
  expect_error("{{ 99999999999999999999 }}", "does not fit 64 bits");
  expect_error("{{ '99999999999999999999'|int }}", "does not fit 64 bits");
  expect_error("{{ 1e300|int }}", "does not fit 64 bits");
  expect_error("{{ (-9223372036854775807 - 1) // -1 }}", "does not fit 64 bits");
  expect_error("{{ -(-9223372036854775807 - 1) }}", "does not fit 64 bits");
  EXPECT_EQ(error_of("{{ (-9223372036854775807 - 1) % -1 }}{{ (-9223372036854775807 - 1)|abs }}"),
            "t:1: an integer does not fit 64 bits");
  EXPECT_EQ(error_of("{{ x }}", kSmall, {{"x", 18446744073709551615U}}),
            "t:1: integer 18446744073709551615 in the inputs does not fit 64 bits");
}

TEST(JinjaLimits, InputsAreChecked) {
  EXPECT_NE(error_of("x", kSmall, {{"a", "\xff"}}).find("UTF-8"), std::string::npos);
  EXPECT_NE(error_of("x", kSmall, ordered_json::array()).find("object"), std::string::npos);
  ordered_json deep = ordered_json::array();
  for (int i = 0; i < 500; ++i) deep = ordered_json::array({std::move(deep)});
  EXPECT_NE(error_of("x", kSmall, {{"a", deep}}).find("nested deeper"), std::string::npos);
  EXPECT_EQ(error_of("x", {.steps = 50, .output_bytes = 10, .memory_bytes = 1000, .depth = 5},
                     {{"a", std::string(2000, 'x')}}),
            "t:1: the template holds more than 1000 bytes of values");
  EXPECT_EQ(error_of("\xc3("), "t: the template is not UTF-8");
}

// Nothing is left behind by values that refer to each other (the leak checker of asan looks).
TEST(JinjaLimits, CyclesAreFreed) {
  const std::string source =
      "{% set ns = namespace() %}{% set ns.self = [ns] %}"
      "{% macro m() %}{% set ns.m = m %}{% set ns.c = caller %}{{ caller() }}{% endmacro %}"
      "{% for a in [1, 2] recursive %}{% set ns.loop = loop %}{{ loop.changed(loop.changed) }}"
      "{% set ns.f = loop.changed %}{% call m() %}{{ a }}{% endcall %}{% endfor %}"
      "{{ ns.f(ns.f) }}";
  EXPECT_EQ(ChatTemplate::parse(source, "t").render(ordered_json::object()), "True1True2True");
}

}  // namespace
}  // namespace moeopt
