// Server-sent events out of a byte stream, as the HTML standard describes them.
// Invariant: what comes out does not depend on how the bytes were cut into pieces, and no more than
// limit_bytes of an unfinished event are kept. Bytes are not decoded: whoever reads the data checks
// that it is UTF-8.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace moeopt::bench {

class SseParser {
 public:
  // Receives an event's data: its "data" lines, joined by newlines. Other fields are left out.
  using EventSink = std::function<void(std::string_view data)>;

  explicit SseParser(std::size_t limit_bytes = std::size_t{1} << 20) : limit_bytes_(limit_bytes) {}

  // Calls `on_event` for every event that `bytes` completes. Error(kInvalidData) above the limit.
  void push(std::string_view bytes, const EventSink& on_event);

  // Whether something of an event came that no blank line has ended.
  bool is_inside_event() const { return !line_.empty() || has_data_; }

 private:
  void end_line(std::string_view line, const EventSink& on_event);
  void check_limit(std::size_t bytes) const;

  std::size_t limit_bytes_;
  std::string line_;  // the beginning of a line whose end has not come
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;  // a line feed that comes next belongs to that carriage return
  bool is_first_line_ = true;
};

}  // namespace moeopt::bench
