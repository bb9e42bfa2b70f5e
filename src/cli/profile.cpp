// `moeopt profile`: the same prompts without and with the routing log, in turn, so that the log's
// cost is known by measurement; writes routing.moer and timing.json for python/moeopt_routing.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/strings.h"
#include "cli/routing_flags.h"
#include "cli/session.h"
#include "cli/settings_flags.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "cli/version.h"

namespace moeopt::cli {
namespace {

struct ProfileFlags {
  std::string model, prompts;
  std::string backend = "cpu";
  std::string out = "profile";
  std::string layers = "all";
  int pairs = 5;
  int max_tokens = 200;
  SettingsFlags settings;
};

// A line is a text, or a JSON object with "question" or "prompt". Chat format where the model has
// one.
std::vector<std::vector<std::int32_t>> read_prompts(const Session& session,
                                                    const std::string& file) {
  constexpr std::size_t kLimitBytes = std::size_t{256} << 20;
  std::vector<std::vector<std::int32_t>> prompts;
  std::size_t number = 0;
  for (const std::string& line : split(read_file(file, kLimitBytes), '\n')) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    std::string text = line;
    if (line.front() == '{') {
      const std::string where = fmt::format("{}:{}", file, number);
      const Json row = parse_json(line, where);
      const char* field = row.contains("question") ? "question" : "prompt";
      if (!row.contains(field) || !row[field].is_string()) {
        throw_error(ErrorCode::kInvalidData, "{}: needs the string \"question\" or \"prompt\"",
                    where);
      }
      text = row[field].get<std::string>();
    }
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    messages.push_back({{"role", "user"}, {"content", text}});
    prompts.push_back(session.encode_chat(messages));
  }
  if (prompts.empty()) throw_error(ErrorCode::kInvalidData, "{}: no prompts", file);
  return prompts;
}

struct Run {
  bool logged = false;
  double wall_s = 0;
  std::uint64_t prompt_tokens = 0, output_tokens = 0;

  double tokens_per_s() const {
    return static_cast<double>(prompt_tokens + output_tokens) / wall_s;
  }
};

// One run in a session of its own: off is off from the memory plan on. The log's file is closed
// within the time of its run.
Run run_once(const ProfileFlags& flags, bool logged, const std::filesystem::path& log_file) {
  SessionOptions options;
  options.model = flags.model;
  options.backend = flags.backend;
  options.settings = flags.settings.load();
  options.record_routes = logged;
  Session session(std::move(options));
  session.require_tokenizer();
  const auto prompts = read_prompts(session, flags.prompts);
  session.start();
  std::unique_ptr<RoutingLog> log;
  Run run;
  run.logged = logged;
  const auto start = std::chrono::steady_clock::now();
  if (logged) {
    RoutingHeader header = routing_header(session);
    header.layers = select_layers(flags.layers, header.layers);
    LogWriterOptions writer;
    writer.file = log_file;
    writer.format = LogFormat::kBinary;
    log = std::make_unique<RoutingLog>(session, std::move(writer), std::move(header),
                                       RecorderOptions{});
  }
  for (const auto& prompt : prompts) {
    Request request;
    request.prompt = prompt;
    request.sampling.temperature = 0;
    request.max_tokens = flags.max_tokens;
    request.stop_ids = session.defaults().stop_ids;
    run.prompt_tokens += prompt.size();
    session.engine().submit(std::move(request), [&run](const Event& event) {
      run.output_tokens += event.token != nullptr ? 1 : 0;
    });
  }
  while (session.engine().step()) {
  }
  nlohmann::ordered_json said;
  if (log) log->finish(said);
  run.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (log && !said["routing_log"]["error"].get<std::string>().empty()) {
    throw Error(ErrorCode::kIo, said["routing_log"]["error"].get<std::string>());
  }
  return run;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct Overhead {
  double median = 0, low = 0, high = 0;
};

// Of the pairs' ratios; the interval is a bootstrap of the median, 95%.
Overhead overhead_of(const std::vector<double>& ratios) {
  constexpr int kDraws = 2000;
  std::mt19937 random(1);
  std::vector<double> medians;
  for (int draw = 0; draw < kDraws; ++draw) {
    std::vector<double> sample;
    for (std::size_t i = 0; i < ratios.size(); ++i)
      sample.push_back(ratios[random() % ratios.size()]);
    medians.push_back(median(std::move(sample)));
  }
  std::ranges::sort(medians);
  return {median(ratios), medians[kDraws / 40], medians[kDraws - 1 - kDraws / 40]};
}

int profile(const ProfileFlags& flags) {
  const std::filesystem::path out = flags.out;
  std::error_code failed;
  std::filesystem::create_directories(out, failed);
  if (failed) throw_error(ErrorCode::kIo, "{}: {}", flags.out, failed.message());
  run_once(flags, false, {});  // files into the page cache, the CPU to its speed: not counted
  std::vector<Run> runs;
  std::vector<double> ratios;
  Progress progress("profile");
  for (int pair = 0; pair < flags.pairs; ++pair) {
    const bool log_first = pair % 2 == 1;  // neither gets the better place
    for (const bool logged : {log_first, !log_first}) {
      runs.push_back(run_once(flags, logged, out / "routing.moer"));
      progress.update(static_cast<double>(runs.size()) / (2.0 * flags.pairs), "");
    }
    const Run& with = runs[runs.size() - (log_first ? 2 : 1)];
    const Run& without = runs[runs.size() - (log_first ? 1 : 2)];
    ratios.push_back(with.wall_s / without.wall_s - 1);
  }
  const Overhead overhead = overhead_of(ratios);
  nlohmann::ordered_json json;
  json["model"] = flags.model;
  json["program"] = program_name();
  json["prompts"] = flags.prompts;
  json["layers"] = flags.layers;
  json["pairs"] = flags.pairs;
  json["runs"] = nlohmann::ordered_json::array();
  for (const Run& run : runs) {
    json["runs"].push_back({{"logged", run.logged},
                            {"wall_s", run.wall_s},
                            {"prompt_tokens", run.prompt_tokens},
                            {"output_tokens", run.output_tokens},
                            {"tokens_per_s", run.tokens_per_s()}});
  }
  json["overheads"] = ratios;
  json["overhead"] = {{"median", overhead.median}, {"low", overhead.low}, {"high", overhead.high}};
  const std::string text = json.dump(2) + "\n";
  write_file(out / "timing.json", std::as_bytes(std::span(text)));
  write_output(
      fmt::format("overhead of the log {:.2f}% (95%: {:.2f}% to {:.2f}%) over {} pairs of runs, "
                  "{:.0f} tokens/s without\n"
                  "{} and routing.moer are written; `moeopt-routing report` of "
                  "python/moeopt_routing makes the pictures\n",
                  100 * overhead.median, 100 * overhead.low, 100 * overhead.high, flags.pairs,
                  std::ranges::find(runs, false, &Run::logged)->tokens_per_s(),
                  (out / "timing.json").string()));
  return 0;
}

}  // namespace

void add_profile(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<ProfileFlags>();
  CLI::App* verb = program.add_subcommand(
      "profile", "Record the routing of prompts, and measure what that costs");
  verb->add_option("model", flags->model, "Folder or name")->required()->envname("MOEOPT_MODEL");
  verb->add_option("--prompts", flags->prompts, "A prompt a line: text, or JSON with \"question\"")
      ->required()
      ->type_name("FILE");
  verb->add_option("--out", flags->out, "Folder for routing.moer and timing.json")
      ->type_name("DIR");
  verb->add_option("--layers", flags->layers, "Layers to record: all, or a list such as 0,2,5-7");
  verb->add_option("--pairs", flags->pairs, "Runs without, and as many with the log")
      ->check(CLI::Range(1, 1000));
  verb->add_option("--max-tokens", flags->max_tokens, "Of each answer")->check(CLI::PositiveNumber);
  verb->add_option("--backend", flags->backend, "cpu, or reference (slow, the specification)")
      ->check(CLI::IsMember({"cpu", "reference", "cuda"}))
      ->envname("MOEOPT_BACKEND");
  flags->settings.add_to(*verb);
  verb->callback([flags, &exit_code] { exit_code = profile(*flags); });
}

}  // namespace moeopt::cli
