#include "bench/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/error.h"
#include "base/strings.h"
#include "bench/fetch.h"

extern char** environ;  // NOLINT(readability-identifier-naming,readability-redundant-declaration)

namespace moeopt::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPoll(20);

}  // namespace

int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  const bool ok = socket >= 0 && ::bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  const int reason = errno;
  if (socket >= 0) ::close(socket);
  if (!ok) throw_error(ErrorCode::kIo, "no free port: {}", std::strerror(reason));
  return ntohs(address.sin_port);
}

ServerProcess::ServerProcess(const std::vector<std::string>& command, std::filesystem::path log)
    : log_(std::move(log)) {
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  // A group of its own: Ctrl-C at the terminal is for the benchmark, which then ends the server.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
  sigset_t defaults;
  ::sigemptyset(&defaults);
  ::sigaddset(&defaults, SIGINT);
  ::sigaddset(&defaults, SIGPIPE);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  const int failed =
      ::posix_spawnp(&pid_, arguments.front(), &actions, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    pid_ = -1;
    throw_error(ErrorCode::kIo, "{}: {}", command.front(), std::strerror(failed));
  }
}

ServerProcess::~ServerProcess() {
  stop(std::chrono::seconds(5));
}

bool ServerProcess::has_ended() {
  if (pid_ < 0) return true;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
  pid_ = -1;
  return true;
}

std::string ServerProcess::log_tail() const {
  constexpr std::size_t kTailBytes = 600;
  std::ifstream file(log_);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  while (text.ends_with('\n')) text.pop_back();
  if (text.size() > kTailBytes) text = text.substr(text.size() - kTailBytes);
  return text;
}

void ServerProcess::wait_until_ready(const Url& url, std::chrono::milliseconds limit,
                                     const std::function<bool()>& is_interrupted) {
  const Clock::time_point deadline = Clock::now() + limit;
  while (true) {
    if (has_ended()) {
      throw Error(ErrorCode::kIo, "the server ended before it was ready", log_tail());
    }
    if (is_interrupted && is_interrupted()) throw Error(ErrorCode::kIo, "interrupted");
    try {
      HttpAnswer answer = fetch(url, "/ready", {}, {}, std::chrono::seconds(2));
      if (answer.status == 404) answer = fetch(url, "/v1/models", {}, {}, std::chrono::seconds(2));
      if (answer.status == 200) return;
    } catch (const Error&) {  // not listening yet
    }
    if (Clock::now() > deadline) {
      throw Error(ErrorCode::kIo,
                  fmt::format("the server was not ready within {} s", limit.count() / 1000),
                  log_tail());
    }
    std::this_thread::sleep_for(kPoll);
  }
}

void ServerProcess::stop(std::chrono::milliseconds patience) {
  if (has_ended()) return;
  ::kill(pid_, SIGTERM);
  const Clock::time_point deadline = Clock::now() + patience;
  while (!has_ended()) {
    if (Clock::now() > deadline) {
      ::kill(pid_, SIGKILL);
      int status = 0;
      ::waitpid(pid_, &status, 0);
      pid_ = -1;
      return;
    }
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace moeopt::bench
