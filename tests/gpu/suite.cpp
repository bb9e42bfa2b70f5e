#include "gpu/suite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "gpu/random.h"

namespace moeopt::gpu_test {
namespace {

void say(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

std::string errors_text(const Errors& e, bool fp8) {
  if (e.worst_row == 0 && e.frobenius == 0)
    return fmt::format("{:>9} {:>9}{}", "-", "-", fp8 ? "       -" : "");
  std::string text = fmt::format("{:>9.2e} {:>9.2e}", e.frobenius, e.worst_row);
  if (fp8) text += fmt::format(" {:>6.2f}%", 100 * e.differing_h);
  return text;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void Errors::include(const Errors& other) {
  frobenius = std::max(frobenius, other.frobenius);
  worst_row = std::max(worst_row, other.worst_row);
  differing_h = std::max(differing_h, other.differing_h);
}

Suite::Suite(const Options& options) : options_(options), start_(Clock::now()) {
  say(fmt::format("seed {}", options.seed));
}

bool Suite::begin(const std::string& group) {
  end_group();
  const std::string wanted = options_.filter.substr(0, options_.filter.find('/'));
  if (group.find(wanted) == std::string::npos) return false;
  groups_.push_back({.name = group, .bf16 = {}, .fp8 = {}});
  group_start_ = Clock::now();
  open_ = true;
  return true;
}

void Suite::end_group() {
  if (!open_) return;
  open_ = false;
  Group& group = groups_.back();
  group.seconds = seconds_since(group_start_);
  say(fmt::format("{:<12} {} passed, {} failed ({:.1f} s)", group.name, group.passed, group.failed,
                  group.seconds));
}

void Suite::run(const std::string& name, const Body& body) {
  if (const auto slash = options_.filter.find('/'); slash != std::string::npos) {
    if (name.find(options_.filter.substr(slash + 1)) == std::string::npos) return;
  }
  const std::string full = groups_.back().name + "/" + name;
  Case c;
  // NOTE: ends the process at once: to unwind would free memory, which waits for the hanging
  // kernel.
  Stream::set_on_hang([&](const std::string& what) {
    c.fail(what);
    record(full, c);
    std::_Exit(finish());
  });
  bool lost = false;
  try {
    body(c, mix(options_.seed, full));
  } catch (const DeviceLost& error) {
    c.fail(error.what());
    lost = true;
  } catch (const std::exception& error) {
    c.fail(error.what());
  }
  Stream::set_on_hang({});
  record(full, c);
  if (lost || (options_.fail_fast && !c.fault().empty())) throw StopRun();
}

void Suite::record(const std::string& full, const Case& c) {
  Group& group = groups_.back();
  group.bf16.include(c.bf16());
  group.fp8.include(c.fp8());
  if (c.fault().empty()) {
    ++group.passed;
    return;
  }
  ++group.failed;
  say(fmt::format("FAILED {}: {}{}", full, c.fault(),
                  c.text().empty() ? "" : " [" + c.text() + "]"));
}

int Suite::finish() {
  end_group();
  int passed = 0;
  int failed = 0;
  say(fmt::format("\n{:<12} {:>6} {:>6}  {:>9} {:>9}  {:>9} {:>9} {:>7} {:>7}", "group", "cases",
                  "failed", "bf16 F", "row", "fp8 F", "row", "h", "s"));
  for (const Group& group : groups_) {
    passed += group.passed;
    failed += group.failed;
    say(fmt::format("{:<12} {:>6} {:>6}  {}  {} {:>7.1f}", group.name, group.passed + group.failed,
                    group.failed, errors_text(group.bf16, false), errors_text(group.fp8, true),
                    group.seconds));
  }
  say(fmt::format("\nseed {}, {:.1f} s", options_.seed, seconds_since(start_)));
  say(fmt::format("{} passed, {} failed", passed, failed));
  std::fflush(stdout);
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace moeopt::gpu_test
