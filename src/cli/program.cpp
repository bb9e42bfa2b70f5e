#include "cli/program.h"

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>

#include "base/error.h"
#include "base/log.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "cli/version.h"

namespace moeopt::cli {
namespace {

constexpr const char* kDescription =
    "Serves Mixture-of-Experts language models, and shows what is really applied.";

constexpr const char* kFooter =
    "MODEL is a folder with config.json and *.safetensors, or the name of a model in the local\n"
    "Hugging Face cache, such as Qwen/Qwen3-30B-A3B. Nothing is ever downloaded.\n"
    "Exit codes: 0 done, 1 no, 2 wrong arguments, 3 does not fit, 4 a required optimisation is "
    "not\n"
    "applied, 5 not found, 6 broken file, 7 unsupported, 8 I/O error, 130 interrupted.";

void print_error(const std::string& what, const std::string& hint) {
  fmt::print(stderr, "{} {}\n", styled(stderr, Style::kError, "error:"), what);
  if (!hint.empty()) fmt::print(stderr, "{} {}\n", styled(stderr, Style::kDim, "hint: "), hint);
}

}  // namespace

int run_program(int argc, char** argv) {
  // A closed pipe and a limit on file sizes are errors of write, not the end of the program.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  int result = 0;
  CLI::App program(kDescription, "moeopt");
  program.footer(kFooter);
  program.set_version_flag("--version", [] { return version_text(); });
  bool verbose = false;
  program.add_flag("-v,--verbose", verbose, "Log what is being done")->each([](const std::string&) {
    log::set_level(log::Level::kDebug);
  });
  program.require_subcommand(1);
  program.fallthrough();  // --verbose behind a command, too
  add_run(program, result);
  add_serve(program, result);
  add_eval(program, result);
  add_inspect(program, result);
  add_plan(program, result);
  add_tokenize(program, result);
  add_profile(program, result);
  add_routing(program, result);
  add_placement(program, result);
  add_doctor(program, result);
  add_bench(program, result);

  try {
    program.parse(argc, argv);
    if (std::fflush(stdout) != 0) throw Error(ErrorCode::kIo, "cannot write to standard output");
    return result;
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? 0 : moeopt::exit_code(ErrorCode::kUsage);
  } catch (const Error& error) {
    print_error(error.what(), error.hint());
    return moeopt::exit_code(error.code());
  } catch (const std::bad_alloc&) {
    print_error("out of memory", "`moeopt plan` says what fits");
    return moeopt::exit_code(ErrorCode::kDoesNotFit);
  } catch (const std::exception& error) {
    print_error(error.what(), "this is a bug in moeopt");
    return moeopt::exit_code(ErrorCode::kInternal);
  }
}

}  // namespace moeopt::cli
