// `moeopt profile`: the same prompts without and with the routing log, in turn, so that the log's
// cost is known by measurement; writes routing.moer and timing.json, and has python/moeopt_routing
// make the pictures and report.html of them.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <span>

#include "base/environment.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/strings.h"
#include "cli/child_program.h"
#include "cli/counter_cost.h"
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
  bool pictures = true;
  SettingsFlags settings;
};

constexpr const char* kReporter = "moeopt-routing";

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
  double wall_s = 0, cpu_s = 0;  // cpu_s: of all threads
  std::uint64_t prompt_tokens = 0, output_tokens = 0;
  std::uint64_t steps = 0, expert_rows = 0;
  CounterCost counters;

  double tokens_per_s() const {
    return static_cast<double>(prompt_tokens + output_tokens) / wall_s;
  }
};

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

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
  if (logged) std::filesystem::remove(log_file);  // to empty the last run's is no cost of this one
  const auto start = std::chrono::steady_clock::now();
  const double cpu_start_s = cpu_seconds();
  if (logged) {
    RoutingHeader header = routing_header(session, flags.layers);
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
  std::string line;
  if (log) line = log->finish(said);
  run.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  run.cpu_s = cpu_seconds() - cpu_start_s;
  if (log && log->exit_code() != 0) throw Error(ErrorCode::kIo, line);
  run.steps = session.engine().counters().steps;
  run.expert_rows = session.engine().expert_counts().total();
  if (!logged) run.counters = measure_counters(session.spec());
  return run;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct Overhead {
  std::vector<double> pairs;
  double median = 0, low = 0, high = 0;

  nlohmann::ordered_json json() const {
    return {{"median", median}, {"low", low}, {"high", high}, {"pairs", pairs}};
  }
};

// Of the pairs' ratios; the interval is a bootstrap of the median, 95%.
Overhead overhead_of(const std::vector<Run>& runs, double Run::*seconds) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i + 1 < runs.size(); i += 2) {
    const bool log_first = runs[i].logged;
    ratios.push_back(runs[log_first ? i : i + 1].*seconds / (runs[log_first ? i + 1 : i].*seconds) -
                     1);
  }
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
  const double middle = median(ratios);
  return {std::move(ratios), middle, medians[kDraws / 40], medians[kDraws - 1 - kDraws / 40]};
}

// The largest of the runs without the log.
double counters_share(const std::vector<Run>& runs) {
  double most = 0;
  for (const Run& run : runs) {
    if (run.logged) continue;
    most = std::max(most, run.counters.share(run.expert_rows, run.steps, run.wall_s));
  }
  return most;
}

nlohmann::ordered_json timing_json(const ProfileFlags& flags, const std::vector<Run>& runs) {
  nlohmann::ordered_json json;
  json["model"] = flags.model;
  json["program"] = program_name();
  json["prompts"] = flags.prompts;
  json["layers"] = flags.layers;
  json["backend"] = flags.backend;
  json["max_tokens"] = flags.max_tokens;
  json["pairs"] = flags.pairs;
  json["runs"] = nlohmann::ordered_json::array();
  for (const Run& run : runs) {
    json["runs"].push_back({{"logged", run.logged},
                            {"wall_s", run.wall_s},
                            {"cpu_s", run.cpu_s},
                            {"prompt_tokens", run.prompt_tokens},
                            {"output_tokens", run.output_tokens},
                            {"tokens_per_s", run.tokens_per_s()}});
  }
  json["overhead"] = overhead_of(runs, &Run::wall_s).json();
  json["overhead_cpu"] = overhead_of(runs, &Run::cpu_s).json();
  const Run& plain = *std::ranges::find(runs, false, &Run::logged);
  json["counters"] = {{"ns_per_row", plain.counters.ns_per_row},
                      {"ns_per_step", plain.counters.ns_per_step},
                      {"rows", plain.expert_rows},
                      {"steps", plain.steps},
                      {"share", counters_share(runs)}};
  return json;
}

// The exit code of the Python package's program; 0 with a hint when it is not installed.
int make_pictures(const std::filesystem::path& out) {
  const std::string reporter = process_environment("MOEOPT_ROUTING").value_or(kReporter);
  const auto code = run_child({reporter, "pictures", out.string()});
  if (code) return *code;
  write_output(
      fmt::format("no pictures and no report.html: there is no program {}\n"
                  "  pip install python/moeopt_routing && {} pictures {}\n",
                  reporter, kReporter, out.string()));
  return 0;
}

int profile(const ProfileFlags& flags) {
  const std::filesystem::path out = flags.out;
  std::error_code failed;
  std::filesystem::create_directories(out, failed);
  if (failed) throw_error(ErrorCode::kIo, "{}: {}", flags.out, failed.message());
  // Files into the page cache, the CPU to its speed: not counted. With the log, so that what is
  // wrong with it shows at once.
  run_once(flags, true, out / "routing.moer");
  std::vector<Run> runs;
  Progress progress("profile");
  for (int pair = 0; pair < flags.pairs; ++pair) {
    const bool log_first = pair % 2 == 1;  // neither gets the better place
    for (const bool logged : {log_first, !log_first}) {
      runs.push_back(run_once(flags, logged, out / "routing.moer"));
      progress.update(static_cast<double>(runs.size()) / (2.0 * flags.pairs), "");
    }
  }
  const auto json = timing_json(flags, runs);
  const std::string text =
      json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  write_file(out / "timing.json", std::as_bytes(std::span(text)));
  const auto said = [](const Overhead& overhead) {
    return fmt::format("{:.2f}% (95%: {:.2f}% to {:.2f}%)", 100 * overhead.median,
                       100 * overhead.low, 100 * overhead.high);
  };
  write_output(fmt::format(
      "overhead of the log over {} pairs of runs: {} of the time, {} of the processor time\n"
      "{:.0f} tokens/s without; the counters that are always on take {:.3f}% of the time\n"
      "{}\n{}\n",
      flags.pairs, said(overhead_of(runs, &Run::wall_s)), said(overhead_of(runs, &Run::cpu_s)),
      std::ranges::find(runs, false, &Run::logged)->tokens_per_s(), 100 * counters_share(runs),
      (out / "routing.moer").string(), (out / "timing.json").string()));
  return flags.pictures ? make_pictures(out) : 0;
}

}  // namespace

void add_profile(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<ProfileFlags>();
  CLI::App* verb = program.add_subcommand(
      "profile", "Record the routing of prompts, measure what that costs, draw what it says");
  verb->add_option("model", flags->model, "Folder or name")->required()->envname("MOEOPT_MODEL");
  verb->add_option("--prompts", flags->prompts, "A prompt a line: text, or JSON with \"question\"")
      ->required()
      ->type_name("FILE");
  verb->add_option("--out", flags->out, "Folder for the log, timing.json, pictures and report.html")
      ->type_name("DIR");
  verb->add_option("--layers", flags->layers, "Layers to record: all, or a list such as 0,2,5-7");
  verb->add_option("--pairs", flags->pairs, "Runs without, and as many with the log")
      ->check(CLI::Range(1, 1000));
  verb->add_flag("!--no-pictures", flags->pictures, "Write routing.moer and timing.json alone");
  verb->add_option("--max-tokens", flags->max_tokens, "Of each answer")->check(CLI::PositiveNumber);
  verb->add_option("--backend", flags->backend, "cpu, or reference (slow, the specification)")
      ->check(CLI::IsMember({"cpu", "reference", "cuda"}))
      ->envname("MOEOPT_BACKEND");
  flags->settings.add_to(*verb);
  verb->callback([flags, &exit_code] { exit_code = profile(*flags); });
}

}  // namespace moeopt::cli
