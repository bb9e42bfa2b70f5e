// Any bytes as an event stream, cut by the first byte: the same events as in one piece, each an
// Error or a chunk; and the reader of a whole answer keeps its record in order.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "bench/answer_reader.h"
#include "bench/sse_parser.h"
#include "bench/stream_event.h"

namespace {

constexpr std::size_t kLimitBytes = 4096;

// The events, and whether the stream was refused after them.
std::pair<std::vector<std::string>, bool> events_of(std::string_view bytes, std::size_t piece) {
  moeopt::bench::SseParser parser(kLimitBytes);
  std::vector<std::string> events;
  try {
    for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size()))) {
      parser.push(bytes.substr(0, piece),
                  [&](std::string_view data) { events.emplace_back(data); });
    }
  } catch (const moeopt::Error&) {
    return {events, true};
  }
  return {events, false};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = 1 + data[0];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = events_of(bytes, bytes.size());
  if (whole != events_of(bytes, piece) || whole != events_of(bytes, 1)) std::abort();
  for (const std::string& event : whole.first) {
    try {
      moeopt::bench::parse_stream_event(event);
    } catch (const moeopt::Error&) {
    }
  }
  moeopt::bench::RequestRecord record;
  moeopt::bench::AnswerReader answer(record);
  answer.push(bytes, 10);
  answer.push(bytes, 20);
  answer.end(30);
  if (!answer.is_done() || record.end_us < record.last_text_us) std::abort();
  if (record.first_text_us > record.last_text_us) std::abort();
  return 0;
}
