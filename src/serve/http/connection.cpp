#include "serve/http/connection.h"

#include <fmt/format.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <ctime>

#include "serve/http/framing.h"
#include "serve/http/shared_body.h"

namespace moeopt::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::awaitable;
using boost::system::error_code;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kAheadBytes = std::size_t{64} << 10;  // of requests sent before their turn
constexpr std::size_t kReadBytes = 4096;
constexpr std::chrono::milliseconds kLinger{1000};
constexpr std::chrono::milliseconds kCancelAgain{50};
constexpr std::size_t kLingerBytes = std::size_t{1} << 20;

std::string_view view(beast::string_view text) {
  return {text.data(), text.size()};
}

// The answer to a request that could not be read, by the error of the parser; 0: none, it is gone.
int refusal_status(const error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) return 431;
  if (error == http::error::body_limit) return 413;
  if (error == http::error::bad_version) return 505;
  if (error == http::error::end_of_stream || error == http::error::partial_message) return 0;
  return error.category() == make_error_code(http::error::bad_method).category() ? 400 : 0;
}

}  // namespace

struct Connection::Incoming {
  explicit Incoming(BodyBudget& bodies) : body(bodies) {}

  HttpRequest request;
  bool keep_alive = true;
  BodyShare body;

  void take(const http::request<SharedBody>& header) {
    request.method = view(header.method_string());
    const std::string_view target = view(header.target());
    const std::size_t question = std::min(target.find('?'), target.size());
    request.path = target.substr(0, question);
    if (question < target.size()) request.query = target.substr(question + 1);
    for (const auto& field : header) {
      request.headers.push_back(
          {std::string(view(field.name_string())), std::string(view(field.value()))});
    }
    const std::string_view asked_id = request.header("x-request-id");
    request.id = is_decent_id(asked_id) ? std::string(asked_id) : make_id();
    keep_alive = header.keep_alive();
  }
};

Connection::Connection(ServerShared& shared, Socket socket)
    : shared_(shared),
      socket_(std::move(socket)),
      deadline_(shared.io),
      signal_(shared.io, asio::steady_timer::time_point::max()) {
  shared_.connections.insert(this);
  shared_.n_connections += 1;
}

Connection::~Connection() {
  shared_.connections.erase(this);
  shared_.n_connections -= 1;
}

void Connection::close() {
  client_gone_ = true;
  error_code ignored;
  socket_.close(ignored);
  wake();
}

void Connection::close_if_idle() {
  if (idle_) close();
}

void Connection::give_up_reading() {
  if (!reading_) return;
  // NOTE: the end of the input holds for the next read too, where one has just come to its end.
  error_code ignored;
  socket_.shutdown(Socket::shutdown_receive, ignored);
  socket_.cancel(ignored);
}

void Connection::arm(std::chrono::milliseconds after) {
  expired_ = false;
  ++armed_;
  cancel_after(after);
}

// Again until disarm(): a read of several pieces does not see a cancel that falls between two.
void Connection::cancel_after(std::chrono::milliseconds after) {
  deadline_.expires_after(after);
  deadline_.async_wait([self = shared_from_this(), mine = armed_](const error_code& error) {
    if (error || mine != self->armed_) return;
    self->expired_ = true;
    error_code ignored;
    self->socket_.cancel(ignored);
    self->cancel_after(kCancelAgain);
  });
}

void Connection::disarm() {
  ++armed_;
  deadline_.cancel();
}

void Connection::wake() {
  woken_ = true;
  signal_.cancel();
}

awaitable<void> Connection::wait_for_wake() {
  while (!woken_) co_await signal_.async_wait(kTuple);
  woken_ = false;
}

void Connection::watch() {
  if (watching_ || client_gone_ || buffer_.size() >= kAheadBytes) return;
  watching_ = true;
  socket_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](const error_code& error, std::size_t n) {
                            self->watching_ = false;
                            self->buffer_.commit(n);
                            if (error && error != asio::error::operation_aborted)
                              self->client_gone_ = true;
                            if (!error) self->watch();
                            self->wake();
                          });
}

awaitable<void> Connection::stop_watching() {
  while (watching_) {
    error_code ignored;
    socket_.cancel(ignored);
    co_await wait_for_wake();
  }
}

awaitable<void> Connection::run() {
  const auto self = shared_from_this();
  while (co_await serve_one()) {
  }
  error_code ignored;
  socket_.shutdown(Socket::shutdown_both, ignored);
  socket_.close(ignored);
}

// Reads one request and answers it. False: the connection is to end.
awaitable<bool> Connection::serve_one() {
  idle_ = true;
  record_ = {};
  headers_.clear();
  if (buffer_.size() == 0) {
    if (shared_.draining && n_requests_ > 0) co_return false;
    arm(shared_.options.idle_timeout);
    const auto [error] = co_await socket_.async_wait(Socket::wait_read, kTuple);
    disarm();
    if (error || shared_.reads_no_more) co_return false;
  }
  idle_ = false;
  ++n_requests_;
  arrived_ = Clock::now();
  Incoming incoming(shared_.bodies);
  reading_ = true;
  shared_.n_reading += 1;
  bool go_on = co_await read_request(incoming);
  reading_ = false;
  if (go_on) shared_.n_busy += 1;  // before the other, so that it is never in neither
  shared_.n_reading -= 1;
  if (go_on) {
    const bool keep_alive = incoming.keep_alive && !shared_.draining;
    Reply reply = co_await ask_handler(incoming.request);
    incoming.request = {};
    incoming.body.drop();
    if (const auto* response = std::get_if<HttpResponse>(&reply)) {
      record_.outcome = response->status < 400 ? "ok" : "error";
      go_on = co_await respond(*response, keep_alive) && keep_alive;
    } else {
      LiveReply& live = *std::get<std::shared_ptr<LiveReply>>(reply);
      co_await answer_live(live, keep_alive);
      go_on = keep_alive && record_.outcome != "client gone" && record_.outcome != "slow reader";
      live.fill(record_);
    }
    shared_.n_busy -= 1;
  }
  record_.total = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - arrived_);
  if (record_.status != 0) shared_.handler.finished(record_);
  co_return go_on;
}

// False: there is no request to answer; what there was to say has been said.
awaitable<bool> Connection::read_request(Incoming& incoming) {
  http::request_parser<SharedBody> parser;
  parser.get().body() = &incoming.body;
  parser.header_limit(static_cast<std::uint32_t>(shared_.options.max_header_bytes));
  parser.body_limit(shared_.options.max_body_bytes);
  buffer_.max_size(std::max(kAheadBytes, shared_.options.max_header_bytes) + kAheadBytes);
  http_1_0_ = false;
  head_only_ = false;

  arm(shared_.options.header_timeout);
  const auto [error, n] = co_await http::async_read_header(socket_, buffer_, parser, kTuple);
  disarm();
  if (expired_) co_return co_await refuse(408, "the header did not come in time");
  if (!error || error == http::error::body_limit) {  // then the header is whole
    incoming.take(parser.get());
    http_1_0_ = parser.get().version() == 10;
    head_only_ = incoming.request.method == "HEAD";
    record_.id = incoming.request.id;
    record_.method = incoming.request.method;
    record_.path = incoming.request.path;
    headers_ = shared_.handler.headers_for(incoming.request);
  }
  if (error) {
    const int status = refusal_status(error);
    if (status == 0) co_return false;
    const std::string why = error.message();
    co_return co_await refuse(status, why);
  }
  HttpRequest& request = incoming.request;
  if (const auto why =
          framing_fault(request, parser.get().version(), shared_.options.max_headers)) {
    co_return co_await refuse(why->status, why->message);
  }
  const bool has_body = !parser.is_done();
  if (!has_body) co_return true;

  if (same_header(request.header("expect"), "100-continue") && !http_1_0_) {
    if (!co_await write("HTTP/1.1 100 Continue\r\n\r\n")) co_return false;
  }
  arm(shared_.options.body_timeout);
  incoming.body.on_give_way([this] { cancel_after(std::chrono::milliseconds(0)); });
  const auto [body_error, m] = co_await http::async_read(socket_, buffer_, parser, kTuple);
  disarm();
  if (expired_ || body_error) incoming.body.drop();  // before the client is waited for
  if (incoming.body.gave_way()) {
    co_return co_await refuse(503,
                              "too many large requests at the same time; this one came slowest");
  }
  if (expired_) co_return co_await refuse(408, "the body did not come in time");
  if (body_error == SharedBody::no_room()) {
    co_return co_await refuse(503, "too many large requests at the same time");
  }
  if (body_error && shared_.reads_no_more) {
    co_return co_await refuse(503, "shutting down before the whole request came");
  }
  if (body_error) {
    const int status = refusal_status(body_error);
    if (status == 0) {
      record_.status = 499;
      record_.outcome = "client gone";
      co_return false;
    }
    const std::string why = body_error.message();
    co_return co_await refuse(status, why);
  }
  request.body = incoming.body.take_text();
  co_return true;
}

awaitable<Reply> Connection::ask_handler(const HttpRequest& request) {
  if (shared_.handler.is_quick(request)) co_return shared_.handler.handle(request);
  auto reply = std::make_shared<std::optional<Reply>>();
  // NOTE: `self` goes back with the reply: the last one to let go ends the connection, which is for
  // the I/O thread alone.
  shared_.workers.post(request.body.size(), [&shared = shared_, self = shared_from_this(), reply,
                                             &request]() mutable {
    Reply made = shared.handler.handle(request);
    asio::post(shared.io, [self = std::move(self), reply, made = std::move(made)]() mutable {
      *reply = std::move(made);
      self->wake();
    });
  });
  while (!*reply) co_await wait_for_wake();
  co_return *std::move(*reply);
}

awaitable<void> Connection::answer_live(LiveReply& reply, bool keep_alive) {
  live_ = &reply;
  too_slow_ = false;
  reply.on_ready([weak = weak_from_this(), &shared = shared_] {
    asio::post(shared.io, [weak] {
      const auto self = weak.lock();
      if (!self) return;
      if (self->live_ != nullptr && self->live_->overflowed()) {
        self->too_slow_ = true;
        error_code ignored;
        self->socket_.cancel(ignored);
      }
      self->wake();
    });
  });
  watch();
  if (reply.streams()) {
    co_await stream(reply, keep_alive);
  } else {
    std::string nothing;
    bool ended = false;
    while (!client_gone_ && !(ended = reply.advance(nothing))) co_await wait_for_wake();
    if (ended) {
      co_await stop_watching();
      const HttpResponse response = reply.response();
      record_.outcome = response.status < 400 ? "ok" : "error";
      if (!co_await respond(response, keep_alive)) record_.outcome = "client gone";
    } else {
      record_.outcome = "client gone";
    }
  }
  live_ = nullptr;
  co_await stop_watching();
  if (record_.outcome == "client gone" || record_.outcome == "slow reader") {
    record_.status = 499;
    reply.abandon();
  }
}

awaitable<void> Connection::stream(LiveReply& reply, bool keep_alive) {
  const bool chunked = !http_1_0_;
  HttpResponse head;
  head.content_type = "text/event-stream";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  record_.status = 200;
  record_.outcome = "ok";
  std::string out =
      response_head(head, record_.id, keep_alive && chunked,
                    chunked ? BodyFraming::kChunked : BodyFraming::kUntilClose, headers_);
  bool ended = false;
  while (true) {
    std::string piece;
    ended = reply.advance(piece);
    if (chunked) {
      append_chunk(out, piece);
      if (ended) out += "0\r\n\r\n";
    } else {
      out += piece;
    }
    if (!out.empty() && !co_await write(out)) {
      record_.outcome = too_slow_ || expired_ ? "slow reader" : "client gone";
      co_return;
    }
    out.clear();
    if (ended) co_return;
    if (client_gone_) {
      record_.outcome = "client gone";
      co_return;
    }
    co_await wait_for_wake();
    if (too_slow_) {
      record_.outcome = "slow reader";
      co_return;
    }
  }
}

awaitable<bool> Connection::refuse(int status, std::string_view message) {
  record_.outcome = "bad http";
  if (record_.id.empty()) record_.id = make_id();
  // NOTE: named, as GCC 12 destroys temporaries of a co_await expression twice.
  const HttpResponse response = shared_.handler.refuse(status, message);
  const bool written = co_await respond(response, false);
  if (written) co_await linger();
  co_return false;
}

awaitable<bool> Connection::respond(const HttpResponse& response, bool keep_alive) {
  record_.status = response.status;
  std::string bytes =
      response_head(response, record_.id, keep_alive, BodyFraming::kLength, headers_);
  if (!head_only_) bytes += response.body;
  co_return co_await write(bytes);
}

awaitable<bool> Connection::write(std::string_view bytes) {
  error_code error;
  socket_.non_blocking(true, error);
  while (!bytes.empty()) {
    const std::size_t n = socket_.write_some(asio::buffer(bytes), error);
    bytes.remove_prefix(n);
    if (!error) continue;
    if (error != asio::error::would_block && error != asio::error::try_again) co_return false;
    arm(shared_.options.write_timeout);
    const auto [wait_error] = co_await socket_.async_wait(Socket::wait_write, kTuple);
    disarm();
    if (wait_error || too_slow_) co_return false;
  }
  co_return true;
}

// Lets the client read the refusal before the socket closes on what it still sends.
awaitable<void> Connection::linger() {
  error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  arm(kLinger);
  std::string scratch(kReadBytes, '\0');
  for (std::size_t taken = 0; taken < kLingerBytes && !expired_;) {
    const auto [error, n] = co_await socket_.async_read_some(asio::buffer(scratch), kTuple);
    if (error) break;
    taken += n;
  }
  disarm();
}

}  // namespace moeopt::serve
