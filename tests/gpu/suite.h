// What the GPU suite knows of its own run: options, groups of cases, the table at the end.
// Invariant: a case that did not end counts as failed, and the exit code is 0 only when cases ran
// and none failed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gpu/device.h"

namespace moeopt::gpu_test {

struct Options {
  std::uint64_t seed = 0;
  std::string filter;  // GROUP or GROUP/NAME, parts of the names; empty: all
  bool quick = false;
  bool fail_fast = false;
  double soak_seconds = 0;    // > 0: random cases for that long, and nothing else
  double limit_seconds = 20;  // that a wait on the device may take
  // Of the device: the largest real layer, its packed copy and its float64 reference need 40;
  // `tiny` needs 1, which initcheck, slow by the byte, is glad of.
  double memory_gib = 40;
};

// Largest errors seen, for the table.
struct Errors {
  double frobenius = 0;
  double worst_row = 0;
  double differing_h = 0;  // fp8
  void include(const Errors& other);
};

// One check of the suite.
class Case {
 public:
  void fail(const std::string& what) {
    if (fault_.empty()) fault_ = what;
  }
  void expect(bool good, const std::string& what) {
    if (!good) fail(what);
  }
  // `text`: what to say of the case when it fails.
  void describe(std::string text) { text_ = std::move(text); }
  void measured(bool fp8, const Errors& errors) { (fp8 ? fp8_ : bf16_).include(errors); }

  const std::string& fault() const { return fault_; }
  const std::string& text() const { return text_; }
  const Errors& bf16() const { return bf16_; }
  const Errors& fp8() const { return fp8_; }

 private:
  std::string fault_, text_;
  Errors bf16_, fp8_;
};

class Suite {
 public:
  explicit Suite(const Options& options);

  const Options& options() const { return options_; }
  // Whether the group's cases are asked for; from here on run() counts into it.
  bool begin(const std::string& group);
  // The case's own seed is the same whether or not others run.
  using Body = std::function<void(Case&, std::uint64_t seed)>;
  void run(const std::string& name, const Body& body);
  // Prints the table; the exit code.
  int finish();

 private:
  using Clock = std::chrono::steady_clock;
  struct Group {
    std::string name;
    int passed = 0;
    int failed = 0;
    double seconds = 0;
    Errors bf16, fp8;
  };
  void record(const std::string& full, const Case& c);
  void end_group();

  Options options_;
  std::vector<Group> groups_;
  Clock::time_point start_, group_start_;
  bool open_ = false;
};

// Thrown to end the run early: --fail-fast.
class StopRun : public std::exception {};

}  // namespace moeopt::gpu_test
