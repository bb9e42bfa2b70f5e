#include "serve/http/server.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/resource.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>
#include <future>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/start_thread.h"
#include "serve/http/connection.h"
#include "serve/http/framing.h"

namespace moeopt::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr int kFilesOfOurs = 64;  // descriptors that are not connections

// As many descriptors as the system lets this process have; how many connections that leaves room
// for.
int raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20)) - kFilesOfOurs;
}

tcp::endpoint resolve(asio::io_context& io, const HttpOptions& options) {
  error_code error;
  const auto port = static_cast<unsigned short>(options.port);
  const auto address = asio::ip::make_address(options.host, error);
  if (!error) return {address, port};
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(options.host, std::to_string(port), error);
  if (error || found.empty()) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--host {}: not an address of this machine", options.host),
                "127.0.0.1 serves this machine alone, 0.0.0.0 every network it is on");
  }
  for (const auto& entry : found) {
    if (entry.endpoint().address().is_v4()) return entry.endpoint();
  }
  return found.begin()->endpoint();
}

[[noreturn]] void cannot_listen(const HttpOptions& options, const error_code& error) {
  std::string hint;
  if (error == asio::error::address_in_use) {
    hint = fmt::format("another program listens there; stop it, or choose another --port");
  } else if (error == asio::error::access_denied) {
    hint = "ports below 1024 need a privilege; choose another --port";
  } else if (error == std::errc::address_not_available) {
    hint =
        "--host is an address of this machine: 127.0.0.1 for itself alone, 0.0.0.0 for all of its "
        "own";
  }
  throw Error(
      ErrorCode::kIo,
      fmt::format("cannot listen on {} port {}: {}", options.host, options.port, error.message()),
      hint);
}

bool wait_for(const std::function<bool()>& holds, std::chrono::milliseconds at_most) {
  const auto deadline = std::chrono::steady_clock::now() + at_most;
  while (!holds()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace

struct HttpServer::State {
  State(const HttpOptions& options, HttpHandler& handler)
      : shared(options, handler), acceptor(shared.io) {}

  asio::awaitable<void> accept();

  ServerShared shared;
  tcp::acceptor acceptor;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
  std::thread thread;
};

asio::awaitable<void> HttpServer::State::accept() {
  asio::steady_timer pause(shared.io);
  auto next_word = std::chrono::steady_clock::now();
  while (acceptor.is_open()) {
    auto [error, socket] = co_await acceptor.async_accept(asio::as_tuple(asio::use_awaitable));
    if (error == asio::error::operation_aborted) co_return;
    if (error == asio::error::connection_aborted) continue;  // the client was gone at once
    if (error) {                                             // out of descriptors
      if (const auto now = std::chrono::steady_clock::now(); now >= next_word) {
        log::warning("cannot accept connections: {}; they wait (said once a minute)",
                     error.message());
        next_word = now + std::chrono::minutes(1);
      }
      pause.expires_after(std::chrono::milliseconds(100));
      co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
      continue;
    }
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    if (shared.n_connections >= shared.options.max_connections) {
      const HttpResponse response = shared.handler.refuse(503, "too many connections");
      socket.non_blocking(true, ignored);
      socket.write_some(
          asio::buffer(response_head(response, {}, false, BodyFraming::kLength) + response.body),
          ignored);
      continue;
    }
    const auto connection = std::make_shared<Connection>(shared, std::move(socket));
    asio::co_spawn(
        shared.io, [connection] { return connection->run(); }, asio::detached);
  }
}

std::unique_ptr<HttpServer::State> HttpServer::make_state(const HttpOptions& options,
                                                          HttpHandler& handler) {
  try {
    return std::make_unique<State>(options, handler);
  } catch (const boost::system::system_error& error) {  // the workers' thread
    throw_no_thread(error.code().message());
  }
}

HttpServer::HttpServer(const HttpOptions& options, HttpHandler& handler)
    : state_(make_state(options, handler)) {
  State& state = *state_;
  state.shared.options.max_connections =
      std::min(options.max_connections, std::max(1, raise_file_limit()));
  const tcp::endpoint endpoint = resolve(state.shared.io, options);
  error_code error;
  state.acceptor.open(endpoint.protocol(), error);
  if (!error) state.acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) state.acceptor.bind(endpoint, error);
  if (!error) state.acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) cannot_listen(options, error);
}

HttpServer::~HttpServer() {
  stop();
}

int HttpServer::port() const {
  error_code ignored;
  return state_->acceptor.local_endpoint(ignored).port();
}

int HttpServer::n_connections() const {
  return state_->shared.n_connections;
}

void HttpServer::start() {
  State& state = *state_;
  state.work.emplace(asio::make_work_guard(state.shared.io));
  state.thread = start_thread([&state] {
    ::pthread_setname_np(::pthread_self(), "http-io");
    state.shared.io.run();
  });
  asio::co_spawn(
      state.shared.io, [&state] { return state.accept(); }, asio::detached);
  state.shared.workers.post(0, [] { ::pthread_setname_np(::pthread_self(), "http-worker"); });
}

void HttpServer::drain() {
  asio::post(state_->shared.io, [&shared = state_->shared] {
    shared.draining = true;
    const std::unordered_set<Connection*> all = shared.connections;
    for (Connection* connection : all) connection->close_if_idle();
  });
}

bool HttpServer::wait_answered(std::chrono::milliseconds at_most) {
  return wait_for([&shared = state_->shared] { return shared.n_busy == 0; }, at_most);
}

bool HttpServer::end_reading(std::chrono::milliseconds at_most) {
  asio::post(state_->shared.io, [&shared = state_->shared] {
    shared.reads_no_more = true;
    const std::unordered_set<Connection*> all = shared.connections;
    for (Connection* connection : all) connection->give_up_reading();
  });
  return wait_for(
      [&shared = state_->shared] { return shared.n_reading == 0 && shared.n_busy == 0; }, at_most);
}

void HttpServer::stop() {
  State& state = *state_;
  if (!state.thread.joinable()) return;
  asio::post(state.shared.io, [&state] {
    error_code ignored;
    state.acceptor.close(ignored);
    state.shared.draining = true;
    const std::unordered_set<Connection*> all = state.shared.connections;
    for (Connection* connection : all) connection->close();
  });
  state.work.reset();
  state.shared.workers.join();
  state.thread.join();
}

}  // namespace moeopt::serve
