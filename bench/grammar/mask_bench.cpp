// Times the masks of JSON grammars on a made vocabulary of Qwen's size: words of Latin letters with
// and without a blank before them, Chinese characters, digits, punctuation, white space.
//   grammar_mask_bench [SEED]
// Prints per schema: seconds to compile; microseconds of masks made anew and of masks found again
// (median, 99th percentile, largest), over random texts that follow the grammar.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "text/grammar/json_rules.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/token_machine.h"

namespace {

using moeopt::VocabularyTrie;
using Clock = std::chrono::steady_clock;
using Random = std::mt19937;

constexpr std::size_t kTokens = 151'643;

std::vector<std::optional<std::string>> make_tokens(Random& random) {
  std::vector<std::optional<std::string>> tokens;
  std::unordered_set<std::string> known;
  const auto add = [&](const std::string& text) {
    if (!text.empty() && known.insert(text).second) tokens.emplace_back(text);
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (int n = 2; n <= 100; ++n) add(std::string(static_cast<std::size_t>(n), ' '));
  const std::string punctuation = "{}[]():,.\"'\\/_-+=<>#\n\t ";
  while (tokens.size() < 6'000) {
    std::string text;
    for (auto n = 2 + random() % 4; n > 0; --n) text += punctuation[random() % punctuation.size()];
    add(text);
  }
  const std::string common = "etaoinshrdlucmfwypvbgkjqxz";
  while (tokens.size() < 30'000) {
    std::string text;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      const auto code = 0x4E00 + random() % 20'000;
      text += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 63)),
               static_cast<char>(0x80 | (code & 63))};
    }
    add(text);
  }
  while (tokens.size() < kTokens) {
    std::string text = random() % 2 == 0 ? " " : "";
    for (auto n = 2 + random() % 9; n > 0; --n) {
      text += common[std::min({random() % 26, random() % 26, random() % 26})];
    }
    if (random() % 4 == 0) text[text[0] == ' '] = static_cast<char>(text[text[0] == ' '] - 32);
    add(text);
  }
  tokens.emplace_back();  // the end
  return tokens;
}

std::string summary(std::vector<double> us) {
  if (us.empty()) return fmt::format("{:>8} {:>8} {:>8}", "-", "-", "-");
  std::sort(us.begin(), us.end());
  return fmt::format("{:8.1f} {:8.1f} {:8.1f}", us[us.size() / 2], us[us.size() * 99 / 100],
                     us.back());
}

void measure(const std::string& name, const nlohmann::ordered_json& schema,
             const VocabularyTrie& vocabulary, Random& random) {
  const auto begin = Clock::now();
  moeopt::PushdownBuilder builder;
  moeopt::JsonRules rules(builder);
  const moeopt::StateId start = moeopt::compile_json_schema(schema, builder, rules);
  const std::int32_t end_id = vocabulary.id_end() - 1;
  moeopt::TokenMachine machine(builder.finish(start, vocabulary.single_bytes()), vocabulary,
                               {&end_id, 1});
  const double compile_s = std::chrono::duration<double>(Clock::now() - begin).count();

  std::vector<std::uint64_t> mask((static_cast<std::size_t>(vocabulary.id_end()) + 63) / 64);
  std::vector<double> made_us;
  std::vector<double> found_us;
  for (int run = 0; run < 40; ++run) {
    const std::size_t text = machine.enter();
    for (int n = 0; n < 150; ++n) {
      const std::uint64_t made = machine.statistics().masks_made;
      const auto from = Clock::now();
      machine.fill_mask(text, mask);
      const double us = std::chrono::duration<double, std::micro>(Clock::now() - from).count();
      (machine.statistics().masks_made > made ? made_us : found_us).push_back(us);
      std::vector<std::int32_t> ids;
      for (std::int32_t id = 0; id < vocabulary.id_end(); ++id) {
        if ((mask[static_cast<std::size_t>(id) / 64] >> (id % 64) & 1) != 0) ids.push_back(id);
      }
      std::int32_t id = ids[random() % ids.size()];
      // Texts of a usual length: a string ends after some tokens.
      if ((mask['"' / 64] >> ('"' % 64) & 1) != 0 && random() % 4 == 0) id = '"';
      if (id == end_id) break;
      machine.accept(text, id);
    }
    machine.leave(text);
  }
  const auto statistics = machine.statistics();
  std::cout << fmt::format("{:<22} {:9.4f} | {} | {} | {:6} {:6} {:4} {:4}\n", name, compile_s,
                           summary(made_us), summary(found_us), made_us.size(), found_us.size(),
                           statistics.collections, statistics.walks_cut_short);
}

}  // namespace

int main(int argc, char** argv) {
  Random random(argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 1);
  const auto tokens = make_tokens(random);
  const auto begin = Clock::now();
  const VocabularyTrie vocabulary(tokens);
  std::cout << fmt::format("{} tokens, {} nodes, made in {:.3f} s\n", tokens.size(),
                           vocabulary.nodes().size(),
                           std::chrono::duration<double>(Clock::now() - begin).count());
  std::cout << fmt::format("{:<22} {:>9} | {:^26} | {:^26} | {:>6} {:>6} {:>4} {:>4}\n", "schema",
                           "compile s", "made, us: 50% 99% max", "found, us: 50% 99% max", "made",
                           "found", "gc", "cut");
  const auto schema = [](const char* text) { return nlohmann::ordered_json::parse(text); };
  measure("any object", schema(R"({"type":"object"})"), vocabulary, random);
  measure(
      "person",
      schema(R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},
    "tags":{"type":"array","items":{"enum":["red","green","blue"]}},"address":{"type":"object","properties":
    {"street":{"type":"string"},"city":{"type":"string"}},"required":["street","city"]}},
    "required":["name","age","tags","address"],"additionalProperties":false})"),
      vocabulary, random);
  measure("string of 10..500", schema(R"({"type":"string","minLength":10,"maxLength":500})"),
          vocabulary, random);
  nlohmann::ordered_json choices = {{"anyOf", nlohmann::ordered_json::array()}};
  for (int i = 0; i < 30; ++i) {
    choices["anyOf"].push_back(
        {{"type", "object"},
         {"properties",
          {{"id", {{"type", "string"}}}, {"k" + std::to_string(i), {{"type", "integer"}}}}},
         {"required", {"id", "k" + std::to_string(i)}}});
  }
  measure("30 ambiguous objects", choices, vocabulary, random);
  nlohmann::ordered_json optional = {{"type", "object"},
                                     {"properties", nlohmann::ordered_json::object()}};
  for (int i = 0; i < 400; ++i)
    optional["properties"]["field_" + std::to_string(i)] = {{"type", "string"}};
  measure("400 optional members", optional, vocabulary, random);
  nlohmann::ordered_json values = {{"enum", nlohmann::ordered_json::array()}};
  for (int i = 0; i < 5'000; ++i)
    values["enum"].push_back("value number " + std::to_string(i * 7919));
  measure("enum of 5000", values, vocabulary, random);
  return 0;
}
