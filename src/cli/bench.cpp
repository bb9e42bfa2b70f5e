// `moeopt bench`: load on a server and what came of it; two results side by side; what each
// optimisation gains.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <memory>
#include <system_error>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "bench/ablation.h"
#include "bench/compare.h"
#include "bench/measurement.h"
#include "bench/result.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "plan/hardware.h"
#include "plan/optimisations.h"

namespace moeopt::cli {
namespace {

namespace fs = std::filesystem;

struct BenchFlags {
  std::string url, ablate;
  std::vector<std::string> compare, server_arguments;
  int batch = 0, concurrency = 0, requests = 0, warmup = 1, rounds = 3, vocab_size = 0;
  int shared_prefix = 0;
  double rate = 0, temperature = 0, timeout_s = 600, slo_ttft_ms = 0, slo_itl_ms = 0;
  std::string prompt_tokens = "128", output_tokens = "64", dataset, model, api_key_file, out;
  std::uint64_t seed = 1;
  bool json = false, respect_eos = false;
  CLI::Option *batch_option = nullptr, *concurrency_option = nullptr, *rate_option = nullptr;
};

bench::WorkloadSpec workload_of(const BenchFlags& flags) {
  bench::WorkloadSpec spec;
  if (flags.batch_option->count() > 0) {
    spec.arrival = bench::Arrival::kBatch;
    spec.level = flags.batch;
  } else if (flags.rate_option->count() > 0) {
    spec.arrival = bench::Arrival::kRate;
    spec.level = flags.rate;
  } else if (flags.concurrency_option->count() > 0) {
    spec.level = flags.concurrency;
  }
  if (flags.requests > 0) {
    spec.requests = flags.requests;
  } else if (spec.arrival == bench::Arrival::kBatch) {
    spec.requests = flags.batch;
  }
  spec.warmup = flags.warmup;
  spec.prompt_tokens = bench::LengthDistribution::parse(flags.prompt_tokens, "--prompt-tokens");
  spec.output_tokens = bench::LengthDistribution::parse(flags.output_tokens, "--output-tokens");
  spec.shared_prefix_tokens = flags.shared_prefix;
  spec.dataset = flags.dataset;
  spec.seed = flags.seed;
  spec.temperature = flags.temperature;
  spec.ignore_eos = !flags.respect_eos;
  return spec;
}

std::string read_key(const std::string& file) {
  if (file.empty()) return {};
  constexpr std::size_t kKeyLimitBytes = 64 << 10;
  std::string key = read_file(file, kKeyLimitBytes);
  key.resize(key.find_first_of("\r\n") == key.npos ? key.size() : key.find_first_of("\r\n"));
  return key;
}

bench::MeasurementPlan measurement_of(const BenchFlags& flags) {
  bench::MeasurementPlan plan;
  if (!flags.url.empty()) plan.url = bench::parse_url(flags.url);
  plan.api_key = read_key(flags.api_key_file);
  plan.model = flags.model;
  plan.vocab_size = flags.vocab_size;
  plan.workload = workload_of(flags);
  if (flags.slo_ttft_ms > 0) plan.slo.ttft_ms = flags.slo_ttft_ms;
  if (flags.slo_itl_ms > 0) plan.slo.token_ms = flags.slo_itl_ms;
  plan.timeout = std::chrono::milliseconds(std::llround(flags.timeout_s * 1000));
  plan.is_interrupted = InterruptGuard::interrupted;
  return plan;
}

OrderedJson machine_json() {
  const HostProbe host = probe_host();
  return {{"cpu", cpu_features().brand},
          {"threads", host.threads},
          {"memory_bytes", host.total_bytes},
          {"gpus", host.gpus}};
}

std::string dump(const OrderedJson& json, int indent) {
  return json.dump(indent, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

void keep(const BenchFlags& flags, const OrderedJson& json) {
  if (flags.out.empty()) return;
  const std::string text = dump(json, -1);
  write_file(flags.out, std::as_bytes(std::span(text)));
}

std::string optimisations_text(const bench::Measurement& measured) {
  std::string text;
  for (const bench::ServerOptimisation& state : bench::optimisations_in_run(measured)) {
    text += fmt::format("  {:<20} {:<9} {}\n", state.name, state.state,
                        state.state == "applied"
                            ? fmt::format("{} launches in this run", state.launches)
                            : state.reason);
  }
  return text.empty() ? text : "\noptimisations of the server\n" + text;
}

int measure(const BenchFlags& flags) {
  bench::MeasurementPlan plan = measurement_of(flags);
  const InterruptGuard guard;
  bench::Measurement measured;
  {
    Progress bar("bench");
    plan.on_progress = [&bar](const bench::LoadProgress& now) {
      std::string failed = now.failed > 0 ? fmt::format(", {} FAILED", now.failed) : std::string();
      bar.update(static_cast<double>(now.ended) / now.total,
                 fmt::format("{}/{} ended{}, {} in flight, {:.0f} tokens/s", now.ended, now.total,
                             failed, now.issued - now.ended,
                             now.elapsed_s > 0 ? now.text_events / now.elapsed_s : 0.0));
    };
    measured = bench::measure(plan);
  }
  const std::string tool = version_text();
  const OrderedJson json =
      bench::result_json({tool.substr(0, tool.find('\n')), machine_json(), &plan, &measured});
  keep(flags, json);
  if (flags.json) {
    write_output(dump(json, -1));  // a line for each of a million gaps serves nobody
  } else {
    std::string text =
        fmt::format("server     {}, {}\nworkload   {}\nprompts    {}\n", plan.url.text(),
                    measured.server.model, bench::workload_text(plan.workload),
                    flags.dataset.empty() ? measured.server.prompts.description : flags.dataset);
    text += bench::summary_text(measured.summary, plan.slo);
    text += optimisations_text(measured);
    for (const std::string& warning : bench::warnings_about(measured)) {
      text += fmt::format("\nWARNING    {}\n", warning);
    }
    write_output(text);
  }
  if (measured.run.interrupted) return kInterruptedExit;
  return measured.summary.answered == measured.summary.requests ? 0 : 1;
}

int compare(const BenchFlags& flags) {
  const bench::KeptResult a = bench::read_result_file(flags.compare.at(0));
  const bench::KeptResult b = bench::read_result_file(flags.compare.at(1));
  const bench::Comparison comparison = bench::compare_results(a, b);
  const OrderedJson json = bench::comparison_json(comparison);
  keep(flags, json);
  write_output(flags.json ? dump(json, 1) : bench::comparison_text(comparison, a, b));
  return comparison.obstacles.empty() ? 0 : 1;
}

// A folder for the servers' logs; it stays when an error leaves its scope.
class LogFolder {
 public:
  LogFolder() {
    std::string name = (fs::temp_directory_path() / "moeopt-ablate-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw Error(ErrorCode::kIo, "cannot make " + name);
    path_ = name;
  }
  LogFolder(const LogFolder&) = delete;
  LogFolder& operator=(const LogFolder&) = delete;
  ~LogFolder() {
    std::error_code ignored;
    if (std::uncaught_exceptions() == 0) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

int ablate(const BenchFlags& flags) {
  const InterruptGuard guard;
  const LogFolder logs;
  bench::AblationPlan plan;
  plan.command = {fs::read_symlink("/proc/self/exe").string(), "serve", flags.ablate};
  plan.command.insert(plan.command.end(), flags.server_arguments.begin(),
                      flags.server_arguments.end());
  for (const Optimisation& optimisation : optimisation_table()) {
    plan.optimisations.emplace_back(optimisation.name);
  }
  plan.rounds = flags.rounds;
  plan.log_folder = logs.path();
  plan.measurement = measurement_of(flags);
  bench::Ablation ablation;
  try {
    Progress bar("ablate");
    std::string now_running = "what can be applied";
    bar.update(0, now_running);
    plan.on_status = [&now_running](const std::string& text) { now_running = text; };
    plan.measurement.on_progress = [&](const bench::LoadProgress& now) {
      bar.update(static_cast<double>(now.ended) / now.total, now_running);
    };
    ablation = bench::ablate(plan);
  } catch (const Error&) {
    if (InterruptGuard::interrupted()) return kInterruptedExit;
    log::warning("the servers' logs are in {}", logs.path().string());
    throw;
  }
  OrderedJson json = bench::ablation_json(ablation);
  json["tool"] = version_text().substr(0, version_text().find('\n'));
  json["machine"] = machine_json();
  keep(flags, json);
  write_output(flags.json ? dump(json, 1) : bench::ablation_text(ablation));
  return 0;
}

int run_bench(const BenchFlags& flags) {
  const int asked = static_cast<int>(!flags.url.empty()) + static_cast<int>(!flags.ablate.empty()) +
                    static_cast<int>(!flags.compare.empty());
  if (asked != 1) {
    throw Error(ErrorCode::kUsage, "give one of --url, --compare and --ablate",
                "moeopt bench --url http://127.0.0.1:8000");
  }
  if (!flags.server_arguments.empty() && flags.ablate.empty()) {
    throw Error(ErrorCode::kUsage, fmt::format("'{}': arguments of a server go with --ablate",
                                               flags.server_arguments.front()));
  }
  if (!flags.compare.empty()) return compare(flags);
  return flags.ablate.empty() ? measure(flags) : ablate(flags);
}

void add_workload_flags(CLI::App& verb, BenchFlags& flags) {
  const auto group = [](CLI::Option* option) { return option->group("Workload"); };
  flags.concurrency_option =
      group(verb.add_option("--concurrency", flags.concurrency, "N requests at every moment [8]"))
          ->check(CLI::Range(1, 1'000'000));
  flags.batch_option = group(verb.add_option("--batch", flags.batch,
                                             "N requests at once, again when all have ended"))
                           ->check(CLI::Range(1, 1'000'000))
                           ->excludes(flags.concurrency_option);
  flags.rate_option = group(verb.add_option("--rate", flags.rate,
                                            "R requests a second at random moments (Poisson), "
                                            "however long they take"))
                          ->check(CLI::PositiveNumber)
                          ->excludes(flags.concurrency_option)
                          ->excludes(flags.batch_option);
  group(verb.add_option("--requests", flags.requests, "In all [64, or the batch]"))
      ->check(CLI::Range(1, 10'000'000));
  group(verb.add_option("--prompt-tokens", flags.prompt_tokens,
                        "128, uniform:64-256, normal:128,32 or lognormal:128,0.5@16-512"))
      ->type_name("D")
      ->capture_default_str();
  group(verb.add_option("--output-tokens", flags.output_tokens, "The same, of answers"))
      ->type_name("D")
      ->capture_default_str();
  group(verb.add_option("--shared-prefix", flags.shared_prefix,
                        "The first P tokens of all prompts are the same"))
      ->type_name("P")
      ->check(CLI::NonNegativeNumber);
  group(
      verb.add_option("--dataset", flags.dataset,
                      "Prompts of a file: {\"prompt\" or \"messages\", \"output_tokens\"} a line"))
      ->type_name("FILE.jsonl");
  group(verb.add_option("--seed", flags.seed, "Of prompts, lengths and moments"))
      ->capture_default_str();
  group(verb.add_option("--warmup", flags.warmup, "Requests before it that count nowhere"))
      ->check(CLI::Range(0, 10'000))
      ->capture_default_str();
  group(verb.add_option("--temperature", flags.temperature, "Of sampling"))
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  group(verb.add_flag("--respect-eos", flags.respect_eos,
                      "Let the model end its answers; else ignore_eos is sent"));
}

}  // namespace

void add_bench(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* verb = program.add_subcommand("bench", "Measure a server under load");
  verb->add_option("--url", flags->url, "The server: http://HOST:PORT, any OpenAI API")
      ->type_name("U");
  verb->add_option("--compare", flags->compare, "Two results: the ratio of each figure")
      ->type_name("A.json B.json")
      ->expected(2);
  verb->add_option("--ablate", flags->ablate,
                   "Serve MODEL with each optimisation on and off: what each gains here")
      ->type_name("MODEL");
  verb->add_option("server_arguments", flags->server_arguments,
                   "After --, with --ablate: flags for `moeopt serve`");
  add_workload_flags(*verb, *flags);
  verb->add_option("--rounds", flags->rounds, "With --ablate: how often each is measured")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--slo-ttft-ms", flags->slo_ttft_ms, "Goodput: the first token within this")
      ->type_name("MS")
      ->check(CLI::PositiveNumber);
  verb->add_option("--slo-itl-ms", flags->slo_itl_ms,
                   "Goodput: later tokens of a request this far apart on average, or less")
      ->type_name("MS")
      ->check(CLI::PositiveNumber);
  verb->add_option("--model", flags->model, "Name to ask for [the server's first]")
      ->type_name("NAME");
  verb->add_option("--vocab-size", flags->vocab_size,
                   "Prompts of any ids below N, instead of asking the server for ids of words")
      ->type_name("N")
      ->check(CLI::Range(1, 100'000'000));
  verb->add_option("--api-key-file", flags->api_key_file, "The key is its first line")
      ->type_name("FILE");
  verb->add_option("--timeout", flags->timeout_s, "Of a request, in seconds")
      ->type_name("S")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  verb->add_option("--out", flags->out, "Keep the result as JSON")->type_name("FILE.json");
  verb->add_flag("--json", flags->json, "Print the result as JSON (docs/bench.md has its fields)");
  verb->callback([flags, &exit_code] { exit_code = run_bench(*flags); });
}

}  // namespace moeopt::cli
