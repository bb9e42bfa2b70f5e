// `moeopt inspect`: what is in a model, from its config alone.
#include "model/inspect.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/model_description.h"
#include "cli/terminal.h"
#include "cli/verbs.h"

namespace moeopt::cli {
namespace {

int inspect(const std::string& name, bool json) {
  const ModelDescription model = describe_model(name);
  const Inspection inspection = inspect_model(model.name, model.spec, model.tensors.get());
  write_output(json ? inspection_json(inspection).dump(2) + "\n" : inspection_text(inspection));
  return 0;
}

}  // namespace

void add_inspect(CLI::App& program, int& exit_code) {
  auto name = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = program.add_subcommand("inspect", "What is in a model");
  verb->add_option("model", *name, "Folder (config.json is enough), name, or a known model")
      ->required()
      ->envname("MOEOPT_MODEL");
  verb->add_flag("--json", *json, "The inspection as JSON");
  verb->callback([name, json, &exit_code] { exit_code = inspect(*name, *json); });
}

}  // namespace moeopt::cli
