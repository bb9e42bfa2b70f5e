// `moeopt plan`: where every byte would go, before any weight is read.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/model_description.h"
#include "cli/settings_flags.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "plan/memory_plan.h"
#include "plan/report.h"

namespace moeopt::cli {
namespace {

struct PlanFlags {
  std::string model;
  bool json = false;
  SettingsFlags settings;
};

int plan(const PlanFlags& flags) {
  const Settings settings = flags.settings.load();
  const ModelDescription model = describe_model(flags.model);
  const Hardware hardware = parse_hardware(settings.hardware.value, probe_host());
  PlanInput input;
  input.spec = &model.spec;
  input.settings = &settings;
  input.hardware = &hardware;
  input.tensors = model.tensors.get();
  const MemoryPlan plan = plan_memory(input);
  write_output(flags.json ? plan_json(plan, model.spec, model.name).dump(2) + "\n"
                          : plan_text(plan, model.spec, model.name));
  return 0;
}

}  // namespace

void add_plan(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* verb =
      program.add_subcommand("plan", "What a model needs and what would be switched on");
  verb->add_option("model", flags->model, "Folder, name, or a known model such as Qwen3-30B-A3B")
      ->required()
      ->envname("MOEOPT_MODEL");
  verb->add_flag("--json", flags->json, "The plan as JSON");
  flags->settings.add_to(*verb);
  verb->callback([flags, &exit_code] { exit_code = plan(*flags); });
}

}  // namespace moeopt::cli
