// test_gpu_moe: the fused MoE layer on a GPU, held against its contract. One command, one table.
//
//   test_gpu_moe [--seed N] [--filter GROUP[/NAME]] [--quick] [--fail-fast]
//                [--soak SECONDS] [--limit SECONDS] [--memory GIB]
//
// The seed is printed; without --seed it is a new one each time. --soak runs random cases alone for
// that long.
// --limit: how long a wait on the device may take before it counts as a hang (more under a
// sanitizer). Exits 0 when every case passed.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string_view>
#include <vector>

#include "gpu/groups.h"

namespace moeopt::gpu_test {
namespace {

[[noreturn]] void usage() {
  fmt::print(stderr,
             "usage: test_gpu_moe [--seed N] [--filter GROUP[/NAME]] [--quick] [--fail-fast]\n"
             "                    [--soak SECONDS] [--limit SECONDS] [--memory GIB]\n");
  std::exit(2);
}

double positive(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(number > 0)) usage();
  return number;
}

Options parse(const std::vector<std::string>& words) {
  Options options;
  std::random_device device;
  options.seed = device() % 1000000000u;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto value = [&]() -> const std::string& {
      if (i + 1 == words.size()) usage();
      return words[++i];
    };
    if (words[i] == "--seed") {
      options.seed = std::strtoull(value().c_str(), nullptr, 10);
    } else if (words[i] == "--filter") {
      options.filter = value();
    } else if (words[i] == "--quick") {
      options.quick = true;
    } else if (words[i] == "--fail-fast") {
      options.fail_fast = true;
    } else if (words[i] == "--soak" || words[i] == "--seconds") {
      options.soak_seconds = positive(value());
    } else if (words[i] == "--limit") {
      options.limit_seconds = positive(value());
    } else if (words[i] == "--memory") {
      options.memory_gib = positive(value());
    } else {
      usage();
    }
  }
  return options;
}

std::size_t arena_bytes(double gib) {
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "how much memory");
  return std::min(static_cast<std::size_t>(gib * 0x1p30), free / 10 * 9);
}

void run_all(Suite& suite) {
  const Stream stream;
  Arena arena(arena_bytes(suite.options().memory_gib), stream);
  if (suite.options().soak_seconds > 0) {
    soak(suite, arena);
    return;
  }
  test_reference(suite, arena);
  test_tiny(suite, arena);
  test_random(suite, arena);
  test_prefill(suite, arena);
  test_limits(suite, arena);
  test_faults(suite, arena);
  test_graph(suite, arena);
  test_workspace(suite, arena);
  test_bits(suite, arena);
  test_real(suite, arena);
}

int run(const Options& options) {
  Stream::set_limit_seconds(options.limit_seconds);
  Suite suite(options);
  try {
    run_all(suite);
  } catch (const StopRun&) {
    return suite.finish();  // it told why
  } catch (const std::exception& error) {
    fmt::print("FAILED outside of a case: {}\n", error.what());
    suite.finish();
    return 1;
  }
  return suite.finish();
}

}  // namespace
}  // namespace moeopt::gpu_test

int main(int argc, char** argv) {
  const int code = moeopt::gpu_test::run(
      moeopt::gpu_test::parse(std::vector<std::string>(argv + 1, argv + argc)));
  std::fflush(stdout);
  std::_Exit(code);  // a kernel that hangs would keep an orderly end from ending
}
