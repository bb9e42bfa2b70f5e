// `moeopt placement`: from routing logs to a plan of which expert lies on which GPU.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "routing/placement_plan.h"

namespace moeopt::cli {
namespace {

struct PlacementFlags {
  std::vector<std::filesystem::path> logs;
  PlacementShape shape;
  std::string out;
  std::string method = "balanced";
  std::vector<int> simulate;  // hidden, intermediate
  int batch = 1024;
  SimulatedLayer layer;
  SimulatedMachine machine;
};

std::string table(const std::vector<MethodResult>& results, bool simulated) {
  std::string text =
      "              busiest GPU over the mean              held out\n"
      "              fitted        held out        GPUs    hosts";
  text += simulated ? "   simulated layer\n" : "\n";
  text += "              mean  worst   mean  worst    a token  a token";
  text += simulated ? "   experts + link, us\n" : "\n";
  for (const MethodResult& result : results) {
    const PlacementScore& in = result.fitted;
    const PlacementScore& out = result.held_out;
    text +=
        fmt::format("{:<12} {:5.3f}  {:5.3f}  {:5.3f}  {:5.3f}    {:7.2f}  {:7.2f}", result.name,
                    in.mean_max_over_mean, in.worst_max_over_mean, out.mean_max_over_mean,
                    out.worst_max_over_mean, out.gpus_per_token, out.hosts_per_token);
    if (out.simulated) {
      text += fmt::format("   {:.1f} + {:.1f} = {:.1f}", out.simulated->expert_us,
                          out.simulated->link_us, out.simulated->total_us());
    }
    text += result.note.empty() ? "\n" : "   (" + result.note + ")\n";
  }
  return text;
}

int place(PlacementFlags& flags) {
  const LogStatistics statistics = read_statistics(flags.logs, placement_statistics_options());
  flags.shape.n_experts = statistics.header.n_experts;
  std::optional<SimulationInput> simulation;
  if (!flags.simulate.empty()) {
    flags.layer.hidden = flags.simulate[0];
    flags.layer.intermediate = flags.simulate[1];
    simulation = {flags.layer, flags.machine, flags.batch};
  }
  const auto results = compare_placements(statistics, flags.shape, simulation);
  std::string text = fmt::format(
      "{} experts on {} GPUs of {} host{}, {} redundant, {} slots a GPU; {} tokens, the first half "
      "fitted to\n\n",
      flags.shape.n_experts, flags.shape.n_gpus, flags.shape.n_hosts,
      flags.shape.n_hosts == 1 ? "" : "s", flags.shape.redundant, flags.shape.slots_per_gpu(),
      statistics.counted.tokens);
  text += table(results, simulation.has_value());
  if (simulation) {
    text += fmt::format(
        "\nThe layer times are a simulation, not a measurement: {} tokens a step, {:.2f} TB/s of "
        "memory,\n{:.0f} TFLOP/s, {:.0f} GB/s of link and {:.1f} us a round, each as measured on "
        "H200 GPUs or as given.\n",
        flags.batch, flags.machine.memory_bytes_per_s / 1e12, flags.machine.flops / 1e12,
        flags.machine.link_bytes_per_s / 1e9, flags.machine.round_us);
  }
  const auto chosen = std::ranges::find(results, flags.method, &MethodResult::name);
  if (chosen == results.end()) {
    throw Error(
        ErrorCode::kUsage,
        fmt::format("no {} placement of {} experts and {} redundant on {} GPUs", flags.method,
                    flags.shape.n_experts, flags.shape.redundant, flags.shape.n_gpus),
        "experts and redundant ones together must be a multiple of the GPUs for eplb");
  }
  if (!flags.out.empty()) {
    const std::string plan = plan_file_json(statistics.header, flags.shape, *chosen, results);
    write_file(flags.out, std::as_bytes(std::span(plan)));
    text += fmt::format("\n{}: the {} placement\n", flags.out, chosen->name);
  }
  write_output(text);
  return 0;
}

}  // namespace

void add_placement(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<PlacementFlags>();
  CLI::App* verb =
      program.add_subcommand("placement", "Put experts on GPUs as a routing log suggests");
  verb->add_option("--routing", flags->logs, "Routing log, or its parts")
      ->required()
      ->type_name("FILE");
  verb->add_option("--gpus", flags->shape.n_gpus, "GPUs to place on")
      ->required()
      ->check(CLI::PositiveNumber);
  verb->add_option("--hosts", flags->shape.n_hosts, "Hosts that the GPUs are spread over")
      ->check(CLI::PositiveNumber);
  verb->add_option("--groups", flags->shape.n_groups, "Router's groups of experts, kept on a host")
      ->check(CLI::PositiveNumber);
  verb->add_option("--redundant", flags->shape.redundant, "Copies beyond one of each expert")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--method", flags->method, "balanced, or one that it is compared with")
      ->check(CLI::IsMember({"contiguous", "greedy", "eplb", "balanced"}));
  verb->add_option("--out", flags->out, "Plan file to write")->type_name("PLAN.json");
  verb->add_option("--simulate", flags->simulate,
                   "Simulate a layer of this hidden and expert width")
      ->delimiter(',')
      ->expected(2)
      ->check(CLI::PositiveNumber)
      ->type_name("H,I");
  const char* group = "Simulation";
  verb->add_option("--batch", flags->batch, "Tokens of a step, all GPUs together")
      ->check(CLI::PositiveNumber)
      ->group(group);
  verb->add_option("--weight-bytes", flags->layer.weight_bytes, "Of a parameter: 2 bf16, 1 fp8")
      ->check(CLI::PositiveNumber)
      ->group(group);
  verb->add_option("--memory-rate", flags->machine.memory_bytes_per_s, "Bytes a second")
      ->check(CLI::PositiveNumber)
      ->group(group);
  verb->add_option("--flops", flags->machine.flops, "Operations a second")
      ->check(CLI::PositiveNumber)
      ->group(group);
  verb->add_option("--link-rate", flags->machine.link_bytes_per_s, "Bytes a second, each way")
      ->check(CLI::PositiveNumber)
      ->group(group);
  verb->callback([flags, &exit_code] { exit_code = place(*flags); });
}

}  // namespace moeopt::cli
