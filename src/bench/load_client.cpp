#include "bench/load_client.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <exception>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/strings.h"
#include "bench/answer_reader.h"
#include "bench/statistics.h"

namespace moeopt::bench {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;
using boost::system::error_code;

constexpr std::int64_t kTickUs = 10'000;  // the loop's own lateness is sampled as often
constexpr int kTicksPerProgress = 10;
constexpr std::size_t kRefusalLimitBytes = 64 << 10;  // of a body that is no event stream

double thread_cpu_s() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Room for `sockets` open sockets, and for what else the process has open. Where that many are only
// a worst case, as many as may be.
void allow_open_files(std::size_t sockets, bool are_needed) {
  constexpr std::size_t kOthers = 64;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t wanted = sockets + kOthers;
  if (limit.rlim_cur >= wanted) return;
  if (limit.rlim_max < wanted && are_needed) {
    throw Error(ErrorCode::kDoesNotFit,
                fmt::format("{} streams need more open files than this process may have ({})",
                            sockets, limit.rlim_max),
                "raise it by `ulimit -Hn`");
  }
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

struct Connection {
  explicit Connection(asio::io_context& loop) : stream(loop) {}
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  std::array<char, 16384> piece;
};

// Why an operation of a request failed.
std::string_view kind_of(const error_code& error) {
  if (error == beast::error::timeout) return "timeout";
  if (error == asio::error::operation_aborted) return "interrupted";
  if (error == http::error::end_of_stream || error == http::error::partial_message ||
      error == asio::error::eof || error == asio::error::connection_reset ||
      error == asio::error::broken_pipe) {
    return "closed";
  }
  return error.category() == http::make_error_code(http::error::bad_version).category()
             ? "malformed"
             : "closed";
}

class LoadClient {
 public:
  LoadClient(std::span<const PlannedRequest> requests, const LoadOptions& options)
      : requests_(requests), options_(options), records_(requests.size()), ticker_(loop_) {}

  LoadRun run();

 private:
  asio::awaitable<void> drive();
  asio::awaitable<void> drive_batches();
  asio::awaitable<void> drive_rate();
  asio::awaitable<void> keep_asking();
  asio::awaitable<void> tick();

  // One request from its start to its record's end.
  asio::awaitable<void> ask(std::size_t index);
  asio::awaitable<void> ask_over(std::unique_ptr<Connection>& connection, std::size_t index,
                                 bool* is_stale);
  asio::awaitable<void> read_answer(Connection& connection,
                                    http::response_parser<http::buffer_body>& parser,
                                    RequestRecord& record);
  asio::awaitable<void> read_refusal(Connection& connection,
                                     http::response_parser<http::buffer_body>& parser,
                                     RequestRecord& record);

  asio::awaitable<std::unique_ptr<Connection>> connect(RequestRecord& record);
  void fail(RequestRecord& record, std::string_view kind, std::string text);
  void ended(RequestRecord& record);
  void spawn(asio::awaitable<void> work);
  void interrupt();

  std::int64_t now_us() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start_).count();
  }
  Clock::time_point at(std::int64_t us) const { return start_ + std::chrono::microseconds(us); }
  bool has_next() const { return next_ < requests_.size() && !interrupted_; }

  std::span<const PlannedRequest> requests_;
  const LoadOptions& options_;
  std::vector<RequestRecord> records_;

  asio::io_context loop_{1};
  asio::steady_timer ticker_;
  asio::ip::tcp::resolver::results_type addresses_;
  std::vector<std::unique_ptr<Connection>> idle_;
  std::set<Connection*> busy_;
  // Whoever waits for others to end waits for this timer, which never fires but is cancelled.
  asio::steady_timer all_ended_{loop_, Clock::time_point::max()};

  Clock::time_point start_;
  std::size_t next_ = 0;  // requests before it were issued
  std::size_t in_flight_ = 0;
  std::size_t ended_ = 0, failed_ = 0;
  std::int64_t text_events_ = 0, last_end_us_ = 0;
  std::uint64_t events_ = 0;
  std::vector<double> late_ms_;
  bool interrupted_ = false, has_finished_ = false;
  std::exception_ptr failure_;
};

void LoadClient::fail(RequestRecord& record, std::string_view kind, std::string text) {
  record.error = kind;
  record.error_text = std::move(text);
}

void LoadClient::ended(RequestRecord& record) {
  if (record.end_us == 0) record.end_us = now_us();
  last_end_us_ = std::max(last_end_us_, record.end_us);
  ++ended_;
  if (!record.ok()) ++failed_;
  if (--in_flight_ == 0) all_ended_.cancel();
}

// What a coroutine throws is a mistake of ours or a lack of memory: it ends the run.
void LoadClient::spawn(asio::awaitable<void> work) {
  asio::co_spawn(loop_, std::move(work), [this](const std::exception_ptr& thrown) {
    if (!thrown) return;
    failure_ = thrown;
    loop_.stop();
  });
}

void LoadClient::interrupt() {
  interrupted_ = true;
  for (Connection* connection : busy_) connection->stream.cancel();
}

asio::awaitable<std::unique_ptr<Connection>> LoadClient::connect(RequestRecord& record) {
  auto connection = std::make_unique<Connection>(loop_);
  busy_.insert(connection.get());
  connection->stream.expires_at(at(record.start_us) + options_.timeout);
  error_code error;
  co_await connection->stream.async_connect(addresses_,
                                            asio::redirect_error(asio::use_awaitable, error));
  busy_.erase(connection.get());
  if (error) {
    const bool is_own = error == beast::error::timeout || error == asio::error::operation_aborted;
    fail(record, is_own ? kind_of(error) : "connect", error.message());
    co_return nullptr;
  }
  connection->stream.socket().set_option(asio::ip::tcp::no_delay(true), error);
  co_return connection;
}

asio::awaitable<void> LoadClient::ask(std::size_t index) {
  RequestRecord& record = records_[index];
  std::unique_ptr<Connection> connection;
  if (!idle_.empty()) {
    connection = std::move(idle_.back());
    idle_.pop_back();
    // A server may close an idle connection at any moment. That is no failure of this request: it
    // is sent again, once, on a connection of its own.
    bool is_stale = false;
    co_await ask_over(connection, index, &is_stale);
    if (!is_stale) {
      ended(record);
      co_return;
    }
  }
  connection = co_await connect(record);
  if (connection != nullptr) co_await ask_over(connection, index, nullptr);
  ended(record);
}

asio::awaitable<void> LoadClient::ask_over(std::unique_ptr<Connection>& connection,
                                           std::size_t index, bool* is_stale) {
  RequestRecord& record = records_[index];
  beast::tcp_stream& stream = connection->stream;
  busy_.insert(connection.get());
  stream.expires_at(at(record.start_us) + options_.timeout);

  const PlannedRequest& planned = requests_[index];
  http::request<http::span_body<const char>> request(http::verb::post,
                                                     options_.url.base + planned.path, 11);
  request.set(http::field::host, options_.url.authority());
  request.set(http::field::user_agent, "moeopt-bench");
  request.set(http::field::content_type, "application/json");
  request.set(http::field::accept, "text/event-stream");
  if (!options_.api_key.empty()) {
    request.set(http::field::authorization, "Bearer " + options_.api_key);
  }
  request.body() = {planned.body.data(), planned.body.size()};
  request.prepare_payload();

  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  error_code error;
  co_await http::async_write(stream, request, asio::redirect_error(asio::use_awaitable, error));
  if (!error) {
    record.sent_us = now_us();
    co_await http::async_read_header(stream, connection->buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, error));
  }
  if (error) {
    busy_.erase(connection.get());
    const std::string_view kind = kind_of(error);
    if (is_stale != nullptr && kind == "closed" && connection->buffer.size() == 0) {
      *is_stale = true;
      record.sent_us = -1;
    } else {
      fail(record, kind, error.message());
    }
    co_return;
  }
  // NOTE: not eager: an eager parser that has an event's chunk whole waits for the one after it.
  const unsigned status = parser.get().result_int();
  if (status != 200) {
    fail(record, fmt::format("http {}", status), {});
    co_await read_refusal(*connection, parser, record);
  } else if (!parser.get()[http::field::content_type].starts_with("text/event-stream")) {
    fail(record, "malformed",
         fmt::format("the answer is no event stream but '{}'",
                     printable(std::string_view(parser.get()[http::field::content_type]))));
  } else {
    co_await read_answer(*connection, parser, record);
  }
  busy_.erase(connection.get());
  if (parser.is_done() && parser.keep_alive() && !interrupted_) {
    idle_.push_back(std::move(connection));
  }
}

asio::awaitable<void> LoadClient::read_answer(Connection& connection,
                                              http::response_parser<http::buffer_body>& parser,
                                              RequestRecord& record) {
  AnswerReader answer(record);
  error_code error;
  // Goes on after "[DONE]": the connection is free for the next request only when the body has
  // ended. A server that keeps it open after that for more than a second loses the connection.
  while (!parser.is_done()) {
    http::buffer_body::value_type& body = parser.get().body();
    body.data = connection.piece.data();
    body.size = connection.piece.size();
    body.more = true;
    co_await http::async_read_some(connection.stream, connection.buffer, parser,
                                   asio::redirect_error(asio::use_awaitable, error));
    const std::int64_t now = now_us();
    if (error == http::error::need_buffer) error = {};
    const bool was_done = answer.is_done();
    const int before = record.text_events;
    answer.push({connection.piece.data(), connection.piece.size() - body.size}, now);
    text_events_ += record.text_events - before;
    if (error) break;
    if (answer.is_done() && !was_done) {
      if (!record.ok()) break;
      connection.stream.expires_after(std::chrono::seconds(1));
    }
  }
  events_ += answer.events();
  if (answer.is_done()) co_return;
  if (!error || error == http::error::end_of_stream) {
    answer.end(now_us());
    co_return;
  }
  record.end_us = now_us();
  record.output_tokens = record.text_events;
  fail(record, kind_of(error), error.message());
}

asio::awaitable<void> LoadClient::read_refusal(Connection& connection,
                                               http::response_parser<http::buffer_body>& parser,
                                               RequestRecord& record) {
  error_code error;
  std::string text;
  while (!parser.is_done() && !error && text.size() < kRefusalLimitBytes) {
    http::buffer_body::value_type& body = parser.get().body();
    body.data = connection.piece.data();
    body.size = connection.piece.size();
    body.more = true;
    co_await http::async_read_some(connection.stream, connection.buffer, parser,
                                   asio::redirect_error(asio::use_awaitable, error));
    if (error == http::error::need_buffer) error = {};
    text.append(connection.piece.data(), connection.piece.size() - body.size);
  }
  record.end_us = now_us();
  record.error_text = printable(text);
}

asio::awaitable<void> LoadClient::keep_asking() {
  while (has_next()) {
    const std::size_t index = next_++;
    ++in_flight_;
    records_[index].start_us = now_us();
    co_await ask(index);
  }
}

asio::awaitable<void> LoadClient::drive_batches() {
  const auto batch = static_cast<std::size_t>(options_.level);
  while (has_next()) {
    const std::size_t end = std::min(requests_.size(), next_ + batch);
    const std::int64_t now = now_us();
    // Counted before the first can end, so that all_ended_ means all of them.
    const std::size_t begin = std::exchange(next_, end);
    in_flight_ = end - begin;
    for (std::size_t i = begin; i < end; ++i) {
      records_[i].start_us = now;
      spawn(ask(i));
    }
    error_code cancelled;
    co_await all_ended_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  }
}

asio::awaitable<void> LoadClient::drive_rate() {
  asio::steady_timer due(loop_);
  while (has_next()) {
    due.expires_at(at(requests_[next_].due_us));
    error_code cancelled;
    co_await due.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    if (interrupted_) break;
    const std::size_t index = next_++;
    ++in_flight_;
    // Counted from when it was due: were the client late, that would show as latency.
    records_[index].start_us = requests_[index].due_us;
    spawn(ask(index));
  }
}

asio::awaitable<void> LoadClient::drive() {
  switch (options_.arrival) {
    case Arrival::kBatch:
      co_await drive_batches();
      break;
    case Arrival::kRate:
      co_await drive_rate();
      break;
    case Arrival::kConcurrency:
      const auto streams = std::min(static_cast<std::size_t>(options_.level), requests_.size());
      for (std::size_t i = 0; i < streams; ++i) spawn(keep_asking());
      break;
  }
  error_code cancelled;
  while (in_flight_ > 0 || has_next()) {
    co_await all_ended_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  }
  has_finished_ = true;
  ticker_.cancel();
}

asio::awaitable<void> LoadClient::tick() {
  error_code cancelled;
  for (int count = 0; !has_finished_; ++count) {
    const std::int64_t wanted = now_us() + kTickUs;
    ticker_.expires_at(at(wanted));
    co_await ticker_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    if (has_finished_) co_return;
    late_ms_.push_back(static_cast<double>(now_us() - wanted) / 1000.0);
    if (count % kTicksPerProgress != 0) continue;
    // Again each time: an operation may have begun after the cancellation.
    if (interrupted_ || (options_.is_interrupted && options_.is_interrupted())) interrupt();
    if (options_.on_progress) {
      options_.on_progress({static_cast<int>(next_), static_cast<int>(ended_),
                            static_cast<int>(failed_), static_cast<int>(requests_.size()),
                            text_events_, static_cast<double>(now_us()) * 1e-6});
    }
  }
}

LoadRun LoadClient::run() {
  if (options_.arrival == Arrival::kRate) {
    allow_open_files(requests_.size(), false);
  } else {
    allow_open_files(std::min(static_cast<std::size_t>(options_.level), requests_.size()), true);
  }
  error_code error;
  asio::ip::tcp::resolver resolver(loop_);
  addresses_ = resolver.resolve(options_.url.host, options_.url.port, error);
  if (error) {
    throw_error(ErrorCode::kNotFound, "{}: {}", options_.url.host, error.message());
  }
  const double cpu_before_s = thread_cpu_s();
  start_ = Clock::now();
  spawn(drive());
  spawn(tick());
  loop_.run();
  if (failure_) std::rethrow_exception(failure_);

  LoadRun run;
  run.duration_s = static_cast<double>(last_end_us_) * 1e-6;
  run.interrupted = interrupted_;
  run.client.cpu_s = thread_cpu_s() - cpu_before_s;
  run.client.wall_s = static_cast<double>(now_us()) * 1e-6;
  run.client.events = events_;
  if (!late_ms_.empty()) {
    const Spread lag = spread_of(std::move(late_ms_));
    run.client.lag_p99_ms = lag.p99;
    run.client.lag_max_ms = lag.max;
  }
  MOEOPT_CHECK(ended_ == next_);
  records_.resize(next_);
  run.records = std::move(records_);
  return run;
}

}  // namespace

LoadRun run_load(std::span<const PlannedRequest> requests, const LoadOptions& options) {
  return LoadClient(requests, options).run();
}

}  // namespace moeopt::bench
