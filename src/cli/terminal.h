// What a person at a terminal sees: colours where they are wanted, progress, Ctrl-C.
// Invariant: a stream that is no terminal gets plain text, without escapes or progress.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace moeopt::cli {

bool is_terminal(std::FILE* stream);

enum class Style { kBold, kDim, kError, kGood };
// `text` with the style's escapes when `stream` is a terminal and NO_COLOR is unset.
std::string styled(std::FILE* stream, Style style, std::string_view text);

// Writes all of `text` to standard output at once. Error(kIo) when it can't (a full disk).
void write_output(std::string_view text);

// A line on standard error that rewrites itself, and is gone when the object is.
class Progress {
 public:
  explicit Progress(std::string_view what);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  void update(double fraction, std::string_view detail);

 private:
  std::string what_;
  bool shown_;
  std::int64_t last_ms_ = -1;
};

// While it lives, the first Ctrl-C sets a flag; the second one kills the program as usual.
class InterruptGuard {
 public:
  InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  ~InterruptGuard();
  static bool interrupted();
};

constexpr int kInterruptedExit = 130;

}  // namespace moeopt::cli
