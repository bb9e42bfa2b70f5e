// One client's connection: reads requests, hands them to the handler, writes the replies.
// For server.cpp alone. Everything runs on the one I/O thread but for HttpHandler::handle.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include "serve/http/body_budget.h"
#include "serve/http/server.h"
#include "serve/http/work_queue.h"

namespace moeopt::serve {

class Connection;

// What the connections of a server share. The sets and sums belong to the I/O thread.
struct ServerShared {
  ServerShared(const HttpOptions& asked, HttpHandler& served)
      : options(asked), handler(served), bodies(asked.max_bodies_bytes) {}

  HttpOptions options;
  HttpHandler& handler;
  boost::asio::io_context io{1};
  WorkQueue workers;
  std::unordered_set<Connection*> connections;
  BodyBudget bodies;
  bool draining = false;
  bool reads_no_more = false;  // what is half read is given up
  std::atomic<int> n_connections{0};
  std::atomic<int> n_reading{0};  // requests of which a byte is there, and what they are refused by
  std::atomic<int> n_busy{0};     // requests that were read whole and are being answered
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  Connection(ServerShared& shared, Socket socket);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  // Serves until the client or the server ends it.
  boost::asio::awaitable<void> run();
  // Ends it now if it waits for a request.
  void close_if_idle();
  // Ends it soon if its request is not there as a whole; who sent a head is told.
  void give_up_reading();
  // Ends it now, whatever it does.
  void close();

 private:
  struct Incoming;
  using Clock = std::chrono::steady_clock;

  boost::asio::awaitable<bool> serve_one();
  boost::asio::awaitable<bool> read_request(Incoming& incoming);
  boost::asio::awaitable<Reply> ask_handler(const HttpRequest& request);
  boost::asio::awaitable<void> answer_live(LiveReply& reply, bool keep_alive);
  boost::asio::awaitable<void> stream(LiveReply& reply, bool keep_alive);
  boost::asio::awaitable<bool> refuse(int status, std::string_view message);
  boost::asio::awaitable<bool> respond(const HttpResponse& response, bool keep_alive);
  boost::asio::awaitable<bool> write(std::string_view bytes);
  boost::asio::awaitable<void> linger();

  // The socket's operations are cancelled `after` from now, unless disarm() comes before.
  void arm(std::chrono::milliseconds after);
  void cancel_after(std::chrono::milliseconds after);
  void disarm();
  // Notices the client's end while nothing is expected of it; keeps what it sends ahead.
  void watch();
  boost::asio::awaitable<void> stop_watching();
  void wake();
  boost::asio::awaitable<void> wait_for_wake();

  ServerShared& shared_;
  Socket socket_;
  boost::asio::steady_timer deadline_;
  boost::asio::steady_timer signal_;
  boost::beast::flat_buffer buffer_;
  std::uint64_t armed_ = 0;  // counts arm() and disarm(), so that a late timer does no harm
  std::uint64_t n_requests_ = 0;
  bool expired_ = false;
  bool idle_ = true;
  bool reading_ = false;
  bool watching_ = false;
  bool woken_ = false;
  bool client_gone_ = false;
  bool too_slow_ = false;
  LiveReply* live_ = nullptr;
  bool http_1_0_ = false;
  bool head_only_ = false;
  RequestRecord record_;
  std::vector<HttpHeader> headers_;  // of whatever answers the request
  Clock::time_point arrived_;
};

}  // namespace moeopt::serve
