// One function a verb: adds its subcommand, whose callback does the work and sets the exit code.
#pragma once

namespace CLI {
class App;
}

namespace moeopt::cli {

void add_run(CLI::App& program, int& exit_code);
void add_serve(CLI::App& program, int& exit_code);
void add_eval(CLI::App& program, int& exit_code);
void add_plan(CLI::App& program, int& exit_code);
void add_inspect(CLI::App& program, int& exit_code);
void add_tokenize(CLI::App& program, int& exit_code);
void add_profile(CLI::App& program, int& exit_code);
void add_routing(CLI::App& program, int& exit_code);
void add_placement(CLI::App& program, int& exit_code);
void add_doctor(CLI::App& program, int& exit_code);
void add_bench(CLI::App& program, int& exit_code);

}  // namespace moeopt::cli
