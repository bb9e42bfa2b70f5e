#include "cli/terminal.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>

#include "base/error.h"

namespace moeopt::cli {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;  // NOLINT(readability-identifier-naming)

extern "C" void on_interrupt(int) {
  g_interrupted = 1;
  std::signal(SIGINT, SIG_DFL);
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

bool is_terminal(std::FILE* stream) {
  return ::isatty(::fileno(stream)) == 1;
}

std::string styled(std::FILE* stream, Style style, std::string_view text) {
  const char* no_color = std::getenv("NO_COLOR");
  if (!is_terminal(stream) || (no_color != nullptr && *no_color != '\0')) return std::string(text);
  switch (style) {
    case Style::kBold:
      return fmt::format("\033[1m{}\033[0m", text);
    case Style::kDim:
      return fmt::format("\033[2m{}\033[0m", text);
    case Style::kError:
      return fmt::format("\033[1;31m{}\033[0m", text);
    case Style::kGood:
      return fmt::format("\033[32m{}\033[0m", text);
  }
  return std::string(text);
}

void write_output(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error(ErrorCode::kIo, "cannot write to standard output");
  }
}

Progress::Progress(std::string_view what) : what_(what), shown_(is_terminal(stderr)) {}

Progress::~Progress() {
  if (shown_ && last_ms_ >= 0) {
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
  }
}

void Progress::update(double fraction, std::string_view detail) {
  if (!shown_) return;
  const std::int64_t now = now_ms();
  if (last_ms_ >= 0 && now - last_ms_ < 50 && fraction < 1.0) return;
  last_ms_ = now;
  constexpr int kWidth = 24;
  const int filled = static_cast<int>(std::lround(fraction * kWidth));
  fmt::print(stderr, "\r\033[K{} [{:=<{}}{: <{}}] {:3.0f}% {}", what_, "", filled, "",
             kWidth - filled, fraction * 100, detail);
  std::fflush(stderr);
}

InterruptGuard::InterruptGuard() {
  g_interrupted = 0;
  std::signal(SIGINT, on_interrupt);
}

InterruptGuard::~InterruptGuard() {
  std::signal(SIGINT, SIG_DFL);
}

bool InterruptGuard::interrupted() {
  return g_interrupted != 0;
}

}  // namespace moeopt::cli
