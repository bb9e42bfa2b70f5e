#include "bench/fake_server_util.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <map>
#include <queue>

#include "base/check.h"

namespace moeopt::bench {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

class FakeServer::Loop {
 public:
  explicit Loop(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    MOEOPT_CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    MOEOPT_CHECK(::listen(listener_, 4096) == 0);
    MOEOPT_CHECK(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    watch(listener_);
    watch(wake_);
  }
  ~Loop() {
    for (const auto& [socket, connection] : connections_) ::close(socket);
    for (const int file : {listener_, wake_, epoll_}) ::close(file);
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  int port() const { return port_; }
  int most_at_once() const { return most_at_once_; }
  std::vector<FakeRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

  void stop() {
    stopping_ = true;
    const std::uint64_t one = 1;
    MOEOPT_CHECK(::write(wake_, &one, sizeof(one)) == static_cast<ssize_t>(sizeof(one)));
  }

  void run() {
    std::vector<epoll_event> events(256);
    while (!stopping_) {
      const int n = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait_ms());
      for (int i = 0; i < n; ++i) {
        const int socket = events[static_cast<std::size_t>(i)].data.fd;
        if (socket == listener_) accept_all();
        if (connections_.contains(socket)) receive(socket);
      }
      act();
    }
  }

 private:
  struct Connection {
    int number = 0;
    std::string input;
    bool is_answering = false;
  };
  struct Due {
    Clock::time_point at;
    std::uint64_t order;
    int socket, connection;
    FakeStep step;
    bool is_last;
    bool operator>(const Due& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };

  void watch(int file) const {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    wanted.data.fd = file;
    MOEOPT_CHECK(::epoll_ctl(epoll_, EPOLL_CTL_ADD, file, &wanted) == 0);
  }

  int wait_ms() const {
    if (due_.empty()) return -1;
    const auto left = due_.top().at - Clock::now();
    if (left <= Clock::duration::zero()) return 0;
    // Rounded up: a step is never early.
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
  }

  void accept_all() {
    while (true) {
      const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (socket < 0) return;
      const int on = 1;
      ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      connections_[socket].number = n_connections_++;
      watch(socket);
    }
  }

  void close_connection(int socket, bool with_reset) {
    if (with_reset) {
      const linger now{1, 0};
      ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    if (connections_[socket].is_answering) --at_once_;
    connections_.erase(socket);
    ::close(socket);
  }

  void receive(int socket) {
    char bytes[65536];
    while (true) {
      const ssize_t n = ::recv(socket, bytes, sizeof(bytes), 0);
      if (n < 0) break;
      if (n == 0) return close_connection(socket, false);
      connections_[socket].input.append(bytes, static_cast<std::size_t>(n));
    }
    Connection& connection = connections_[socket];
    const std::size_t end = connection.input.find("\r\n\r\n");
    if (end == std::string::npos) return;
    const std::string headers = connection.input.substr(0, end);
    std::size_t length = 0;
    if (const auto at = headers.find("Content-Length: "); at != std::string::npos) {
      std::from_chars(headers.data() + at + 16, headers.data() + headers.size(), length);
    }
    if (connection.input.size() < end + 4 + length) return;
    FakeRequest request;
    request.method = headers.substr(0, headers.find(' '));
    const std::size_t path = request.method.size() + 1;
    request.path = headers.substr(path, headers.find(' ', path) - path);
    request.headers = headers;
    request.body = connection.input.substr(end + 4, length);
    request.connection = connection.number;
    const Clock::time_point now = Clock::now();
    request.at_us = std::chrono::duration_cast<std::chrono::microseconds>(now - start_).count();
    connection.input.erase(0, end + 4 + length);
    connection.is_answering = true;
    most_at_once_ = std::max(most_at_once_.load(), ++at_once_);
    const FakeScript script = handler_(request);
    if (request.method == "POST") {
      const std::lock_guard lock(mutex_);
      requests_.push_back(std::move(request));
    }
    for (std::size_t i = 0; i < script.size(); ++i) {
      due_.push({now + std::chrono::milliseconds(script[i].after_ms), order_++, socket,
                 connection.number, script[i], i + 1 == script.size()});
    }
  }

  void act() {
    while (!due_.empty() && due_.top().at <= Clock::now()) {
      const Due due = due_.top();
      due_.pop();
      const auto at = connections_.find(due.socket);
      if (at == connections_.end() || at->second.number != due.connection) continue;
      const auto& bytes = due.step.bytes;
      // Small enough for a socket's buffer.
      if (!bytes.empty()) ::send(due.socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (due.is_last && due.step.end == FakeStep::End::kNo) {
        at->second.is_answering = false;
        --at_once_;
      }
      if (due.step.end != FakeStep::End::kNo) {
        close_connection(due.socket, due.step.end == FakeStep::End::kReset);
      }
    }
  }

  Handler handler_;
  int listener_ = -1, epoll_ = -1, wake_ = -1, port_ = 0, n_connections_ = 0, at_once_ = 0;
  std::atomic<int> most_at_once_{0};
  std::atomic<bool> stopping_{false};
  Clock::time_point start_ = Clock::now();
  std::map<int, Connection> connections_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::uint64_t order_ = 0;
  mutable std::mutex mutex_;
  std::vector<FakeRequest> requests_;
};

FakeServer::FakeServer(Handler handler)
    : loop_(std::make_unique<Loop>(std::move(handler))), thread_([this] { loop_->run(); }) {}

FakeServer::~FakeServer() {
  loop_->stop();
  thread_.join();
}

Url FakeServer::url() const {
  return {"127.0.0.1", fmt::format("{}", loop_->port()), ""};
}

std::vector<FakeRequest> FakeServer::requests() const {
  return loop_->requests();
}

int FakeServer::most_at_once() const {
  return loop_->most_at_once();
}

std::string http_answer(int status, const std::string& body, const std::string& type) {
  return fmt::format("HTTP/1.1 {} X\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}", status,
                     type, body.size(), body);
}

std::string stream_header() {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
         "Transfer-Encoding: chunked\r\n\r\n";
}

std::string stream_chunk(const std::string& bytes) {
  return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
}

std::string stream_end() {
  return "0\r\n\r\n";
}

std::string event(const std::string& json) {
  return fmt::format("data: {}\n\n", json);
}

std::string text_event(const std::string& text) {
  return event(
      fmt::format(R"({{"choices":[{{"index":0,"text":"{}","finish_reason":null}}]}})", text));
}

FakeScript token_stream(int tokens, int first_ms, int gap_ms) {
  FakeScript script = {{0, stream_header()}};
  for (int i = 0; i < tokens; ++i) {
    script.push_back({first_ms + i * gap_ms, stream_chunk(text_event("a"))});
  }
  const int last_ms = tokens > 0 ? first_ms + (tokens - 1) * gap_ms : first_ms;
  script.push_back(
      {last_ms, stream_chunk(event(R"({"choices":[{"text":"","finish_reason":"length"}]})")) +
                    stream_chunk(event(fmt::format(
                        R"({{"choices":[],"usage":{{"prompt_tokens":7,"completion_tokens":{},)"
                        R"("prompt_tokens_details":{{"cached_tokens":4}}}}}})",
                        tokens))) +
                    stream_chunk(event("[DONE]")) + stream_end()});
  return script;
}

FakeServer::Handler openai_server(FakeServer::Handler completions) {
  return [completions = std::move(completions)](const FakeRequest& request) -> FakeScript {
    if (request.path == "/v1/models") {
      return {{0, http_answer(200, R"({"object":"list","data":[{"id":"fake"}]})")}};
    }
    if (request.path.starts_with("/v1/")) return completions(request);
    return {{0, http_answer(404, "{}")}};
  };
}

}  // namespace moeopt::bench
