// `moeopt routing stats|convert|check`: what a routing log says, quickly.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/strings.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "routing/log_check.h"
#include "routing/log_statistics.h"

namespace moeopt::cli {
namespace {

struct StatsFlags {
  std::vector<std::filesystem::path> files;
  std::string phase = "both";
  bool json = false;
};

void describe(const LogStatistics& log, std::string& text) {
  const RoutingHeader& header = log.header;
  text += fmt::format("model       {}\n",
                      header.model.empty() ? "(not said)" : printable(header.model));
  text += fmt::format("experts     {} a layer, {} chosen a token, {} layers logged\n",
                      header.n_experts, header.top_k, header.layers.size());
  text += fmt::format("requests    {}\n", log.counted.requests);
  text += fmt::format("tokens      {} ({} prefill, {} decode; {} replayed ones left out)\n",
                      log.counted.tokens, log.prefill_tokens, log.decode_tokens,
                      log.counted.replayed_tokens);
  if (log.counted.cached_tokens > 0) {
    text += fmt::format("cached      {} tokens came from the prefix cache\n",
                        log.counted.cached_tokens);
  }
  if (log.stated.dropped_requests > 0) {
    text += fmt::format("dropped     {} requests with {} tokens\n", log.stated.dropped_requests,
                        log.stated.dropped_tokens);
  }
  if (log.truncated) text += "truncated   the file ends within a record\n";
  if (!header.missing.empty()) {
    text += fmt::format("missing     the header lacks {}\n", fmt::join(header.missing, ", "));
  }
}

int stats(const StatsFlags& flags) {
  StatisticsOptions options;
  if (flags.phase == "prefill") options.phase = RoutePhase::kPrefill;
  if (flags.phase == "decode") options.phase = RoutePhase::kDecode;
  const LogStatistics log = read_statistics(flags.files, options);
  std::string text;
  describe(log, text);
  text += "\nlayer  max/mean    gini  entropy  of bits  variation  used  busiest\n";
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < log.layers.size(); ++i) {
    const std::vector<double> rows = log.layers[i].total();
    const Balance b = balance_of(rows);
    text +=
        fmt::format("{:5}  {:8.3f}  {:6.3f}  {:7.3f}  {:7.3f}  {:9.3f}  {:4}  {:7}\n",
                    log.header.layers[i], b.max_over_mean, b.gini, b.entropy_bits,
                    std::log2(static_cast<double>(rows.size())), b.variation, b.used, b.busiest);
    layers.push_back({{"layer", log.header.layers[i]},
                      {"rows", rows},
                      {"max_over_mean", b.max_over_mean},
                      {"gini", b.gini},
                      {"entropy_bits", b.entropy_bits},
                      {"variation", b.variation},
                      {"used", b.used},
                      {"busiest", b.busiest}});
  }
  if (flags.json) {
    const nlohmann::ordered_json out = {{"model", log.header.model},
                                        {"n_experts", log.header.n_experts},
                                        {"top_k", log.header.top_k},
                                        {"requests", log.counted.requests},
                                        {"tokens", log.counted.tokens},
                                        {"records", log.records},
                                        {"prefill_tokens", log.prefill_tokens},
                                        {"decode_tokens", log.decode_tokens},
                                        {"replayed_tokens", log.counted.replayed_tokens},
                                        {"cached_tokens", log.counted.cached_tokens},
                                        {"dropped_requests", log.stated.dropped_requests},
                                        {"truncated", log.truncated},
                                        {"missing", log.header.missing},
                                        {"layers", layers}};
    text = out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  write_output(text);
  return 0;
}

int check(const std::filesystem::path& file) {
  const LogCheck log = check_log(file);
  std::string text =
      fmt::format("{} requests, {} tokens, {} records", log.requests, log.tokens, log.records);
  if (log.incomplete_requests > 0)
    text += fmt::format(", {} requests in parts", log.incomplete_requests);
  text += log.truncated ? "; the file ends within a record\n" : "\n";
  for (const std::string& complaint : log.complaints) text += "doubtful: " + complaint + "\n";
  if (log.complaints.empty()) text += "no complaints\n";
  write_output(text);
  return log.complaints.empty() ? 0 : 1;
}

}  // namespace

void add_routing(CLI::App& program, int& exit_code) {
  CLI::App* verb =
      program.add_subcommand("routing", "Read routing logs: figures, conversion, check");
  verb->require_subcommand(1);

  auto flags = std::make_shared<StatsFlags>();
  CLI::App* stats_verb = verb->add_subcommand("stats", "How evenly each layer's experts are used");
  stats_verb->add_option("files", flags->files, "Log, or its parts")->required()->type_name("FILE");
  stats_verb->add_option("--phase", flags->phase, "both, prefill or decode")
      ->check(CLI::IsMember({"both", "prefill", "decode"}));
  stats_verb->add_flag("--json", flags->json, "One JSON object");
  stats_verb->callback([flags, &exit_code] { exit_code = stats(*flags); });

  auto from = std::make_shared<std::filesystem::path>();
  auto to = std::make_shared<std::filesystem::path>();
  CLI::App* convert =
      verb->add_subcommand("convert", "Into the other format, by the ending of OUT");
  convert->add_option("file", *from, "Log")->required()->type_name("FILE");
  convert->add_option("out", *to, "New log: OUT.moer is binary, else JSON lines")->required();
  convert->callback([from, to, &exit_code] {
    const ConvertedLog converted = convert_log(*from, *to, to->extension() == ".moer");
    write_output(fmt::format("{} records in {}{}\n", converted.records, to->string(),
                             converted.truncated ? "; the log was cut short" : ""));
    exit_code = 0;
  });

  auto file = std::make_shared<std::filesystem::path>();
  CLI::App* check_verb = verb->add_subcommand("check", "Whether a log is whole and plausible");
  check_verb->add_option("file", *file, "Log")->required()->type_name("FILE");
  check_verb->callback([file, &exit_code] { exit_code = check(*file); });
}

}  // namespace moeopt::cli
