// The bytes of one streamed answer, turned into the times and counts of its record.
// Invariant: after is_done() nothing of the record changes any more.
#pragma once

#include <cstdint>
#include <string_view>

#include "bench/record.h"
#include "bench/sse_parser.h"

namespace moeopt::bench {

class AnswerReader {
 public:
  explicit AnswerReader(RequestRecord& record) : record_(record) {}

  // Bytes of the body that were handed to the program at `now_us`. What is wrong with them ends the
  // answer and is in the record.
  void push(std::string_view bytes, std::int64_t now_us);

  // The body ended at `now_us`: without "[DONE]" or a finish_reason the answer is `closed`.
  void end(std::int64_t now_us);

  bool is_done() const { return is_done_; }
  std::uint64_t events() const { return events_; }

 private:
  void take_event(std::string_view data, std::int64_t now_us);
  void finish(std::int64_t now_us);

  RequestRecord& record_;
  SseParser parser_;
  std::uint64_t events_ = 0;
  bool is_done_ = false;
};

}  // namespace moeopt::bench
