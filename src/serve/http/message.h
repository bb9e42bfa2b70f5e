// What an HTTP exchange is to the rest of the server: plain data, no sockets, no Boost.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace moeopt::serve {

struct HttpHeader {
  std::string name, value;
};

struct HttpRequest {
  std::string method;  // "GET", as sent
  std::string path;    // the target before '?', as sent
  std::string query;   // and after it
  std::vector<HttpHeader> headers;
  std::string body;
  std::string id;  // the client's X-Request-Id where it is a decent one, else made here

  // Names compare without case; the first of that name, empty when there is none.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<HttpHeader> headers;
  std::string body;
};

// What one request came to, for the log line and the metrics.
struct RequestRecord {
  std::string id, method, path;
  int status = 0;          // 499: the client went away before the answer was complete
  std::string outcome;     // "ok", "error", "client gone", "slow reader", "bad http", ...
  int prompt_tokens = -1;  // -1: not a generation
  int cached_tokens = 0;
  int output_tokens = 0;
  std::string finish;                        // finish reasons of the choices, joined by '+'
  std::vector<std::string> prompts;          // with --log-prompts alone
  std::chrono::microseconds first_token{0};  // from arrival; 0: there was none
  std::chrono::microseconds total{0};
};

// A reply that is made while the engine works. Every call is made by one I/O thread, except that
// the function given to on_ready() is called by any thread.
class LiveReply {
 public:
  LiveReply() = default;
  LiveReply(const LiveReply&) = delete;
  LiveReply& operator=(const LiveReply&) = delete;
  virtual ~LiveReply() = default;

  // True: a text/event-stream, written piece by piece. False: one response at the end.
  virtual bool streams() const = 0;
  // `wake` is called when there may be something new. It must not block. Once, at the start.
  virtual void on_ready(std::function<void()> wake) = 0;
  // Takes what has come; appends to `out` what is to be streamed. True: that was the end.
  virtual bool advance(std::string& out) = 0;
  // The whole answer, of one that does not stream, after the end.
  virtual HttpResponse response() = 0;
  // More came than a reader as slow as this one may leave lying; the reply is to be abandoned.
  virtual bool overflowed() const = 0;
  // Nobody waits for it any more: what still runs is cancelled.
  virtual void abandon() = 0;
  virtual void fill(RequestRecord& record) const = 0;
};

using Reply = std::variant<HttpResponse, std::shared_ptr<LiveReply>>;

// What the HTTP layer serves.
class HttpHandler {
 public:
  HttpHandler() = default;
  HttpHandler(const HttpHandler&) = delete;
  HttpHandler& operator=(const HttpHandler&) = delete;
  virtual ~HttpHandler() = default;

  // Answered at once on the I/O thread; false: takes its time on a worker thread.
  virtual bool is_quick(const HttpRequest& request) const = 0;
  // Any thread, several at a time. Never throws: a failure is a response too.
  virtual Reply handle(const HttpRequest& request) noexcept = 0;
  // Headers of every response to this request, whoever makes it. I/O thread.
  virtual std::vector<HttpHeader> headers_for(const HttpRequest& request) const noexcept = 0;
  // The response to what is not a request that handle() may see.
  virtual HttpResponse refuse(int status, std::string_view message) const = 0;
  // I/O thread, once for every request that was answered or given up.
  virtual void finished(const RequestRecord& record) noexcept = 0;
};

std::string_view status_text(int status);  // "Not Found"

// Header names compare without case (ASCII).
bool same_header(std::string_view a, std::string_view b);

// A client's X-Request-Id that may be repeated in a header and a log line: 1 to 128 characters of
// A-Z a-z 0-9 . _ : and -.
bool is_decent_id(std::string_view id);
// 128 random bits as 32 hexadecimal digits.
std::string make_id();

}  // namespace moeopt::serve
