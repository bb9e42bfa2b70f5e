// A server in this process whose every byte is scripted: what is sent, when, and how it ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bench/url.h"

namespace moeopt::bench {

struct FakeRequest {
  std::string method, path, headers, body;
  int connection = 0;      // a number for each accepted connection, from 0
  std::int64_t at_us = 0;  // when it was complete, on the server's own clock
};

// One action, `after_ms` milliseconds after the request was complete; never earlier.
struct FakeStep {
  enum class End { kNo, kClose, kReset };
  int after_ms = 0;
  std::string bytes;
  End end = End::kNo;
};
using FakeScript = std::vector<FakeStep>;

class FakeServer {
 public:
  using Handler = std::function<FakeScript(const FakeRequest&)>;

  explicit FakeServer(Handler handler);
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;
  ~FakeServer();

  Url url() const;
  std::vector<FakeRequest> requests() const;  // POSTs, in the order they came
  int most_at_once() const;                   // requests that had begun and not ended

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
  std::thread thread_;
};

// HTTP/1.1 with a length.
std::string http_answer(int status, const std::string& body,
                        const std::string& type = "application/json");
// The header of an event stream in chunks, one chunk, and the last one.
std::string stream_header();
std::string stream_chunk(const std::string& bytes);
std::string stream_end();
std::string event(const std::string& json);
std::string text_event(const std::string& text);

// `tokens` events with text, the first after first_ms, the others gap_ms apart; then finish_reason,
// usage (prompt_tokens of 7) and [DONE] with the last of them.
FakeScript token_stream(int tokens, int first_ms, int gap_ms);

// Answers /v1/models and leaves the rest to `completions`; every other GET is a 404.
FakeServer::Handler openai_server(FakeServer::Handler completions);

}  // namespace moeopt::bench
