#include "serve/access_log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/start_thread.h"
#include "base/strings.h"
#include "serve/api_error.h"

namespace moeopt::serve {
namespace {

int open_log(const std::filesystem::path& file) {
  return ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

std::string now_text() {
  const auto now = std::chrono::system_clock::now();
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(now)), ms);
}

double milliseconds(std::chrono::microseconds time) {
  return static_cast<double>(time.count()) / 1000.0;
}

}  // namespace

std::string log_line(const RequestRecord& record, LogFormat format, std::string_view time) {
  const std::string path = printable(record.path, 200);
  const std::string method = printable(record.method, 20);
  const bool generated = record.prompt_tokens >= 0;
  if (format == LogFormat::kText) {
    std::string line = fmt::format("{} {} {} {} {} {} {:.1f} ms", time, record.id, record.status,
                                   method, path, record.outcome, milliseconds(record.total));
    if (generated) {
      line += fmt::format(", {} prompt tokens ({} cached), {} output", record.prompt_tokens,
                          record.cached_tokens, record.output_tokens);
      if (!record.finish.empty()) line += fmt::format(" ({})", record.finish);
      if (record.first_token.count() > 0) {
        line += fmt::format(", first after {:.1f} ms", milliseconds(record.first_token));
      }
      if (!record.prompts.empty()) line += fmt::format(", prompts {}", dump(record.prompts));
    }
    return line + '\n';
  }
  OrderedJson json = {{"time", time},
                      {"id", record.id},
                      {"status", record.status},
                      {"method", method},
                      {"path", path},
                      {"outcome", record.outcome},
                      {"total_ms", milliseconds(record.total)}};
  if (generated) {
    json["prompt_tokens"] = record.prompt_tokens;
    json["cached_tokens"] = record.cached_tokens;
    json["output_tokens"] = record.output_tokens;
    json["finish"] = record.finish;
    json["first_token_ms"] = milliseconds(record.first_token);
    if (!record.prompts.empty()) json["prompts"] = record.prompts;
  }
  return dump(json) + '\n';
}

AccessLog::AccessLog(std::filesystem::path file, LogFormat format)
    : file_(std::move(file)), format_(format) {
  descriptor_ = file_.empty() ? STDERR_FILENO : open_log(file_);
  if (descriptor_ < 0) {
    throw Error(ErrorCode::kIo,
                fmt::format("--log-file {}: {}", file_.string(), std::strerror(errno)),
                "its folder must be there and be writable; without --log-file the log goes to "
                "standard error");
  }
  thread_ = start_thread([this] { write_out(); });
}

AccessLog::~AccessLog() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  changed_.notify_all();
  if (!changed_.wait_for(lock, std::chrono::seconds(1), [this] { return ended_; })) {
    std::_Exit(0);  // its last line waits for a pipe that nobody reads; all else has ended
  }
  lock.unlock();
  thread_.join();
  if (!file_.empty()) ::close(descriptor_);
}

void AccessLog::write(const RequestRecord& record) {
  std::string line = log_line(record, format_, now_text());
  const std::lock_guard lock(mutex_);
  if (waiting_.size() >= kMostWaiting) {
    n_lost_ += 1;
    return;
  }
  waiting_.push_back(std::move(line));
  changed_.notify_all();
}

void AccessLog::reopen() {
  const std::lock_guard lock(mutex_);
  reopen_ = true;
  changed_.notify_all();
}

void AccessLog::write_out() {
  sigset_t all;  // signals are for other threads
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return !waiting_.empty() || reopen_ || ending_; });
    const std::vector<std::string> lines = std::exchange(waiting_, {});
    const bool reopen = std::exchange(reopen_, false) && !file_.empty();
    const bool last = ending_;
    lock.unlock();
    for (const std::string& line : lines) {
      const auto size = static_cast<ssize_t>(line.size());
      if (::write(descriptor_, line.data(), line.size()) != size) n_lost_ += 1;
    }
    if (reopen) {
      if (const int opened = open_log(file_); opened >= 0) {
        ::close(std::exchange(descriptor_, opened));
      } else {
        log::error("--log-file {}: {}; the old file goes on", file_.string(), std::strerror(errno));
      }
    }
    lock.lock();
    if (last && waiting_.empty()) break;
  }
  ended_ = true;
  changed_.notify_all();
}

}  // namespace moeopt::serve
