#include "bench/sse_parser.h"

#include "base/error.h"

namespace moeopt::bench {

void SseParser::check_limit(std::size_t bytes) const {
  if (bytes > limit_bytes_) {
    throw_error(ErrorCode::kInvalidData, "event stream: an event of more than {} bytes",
                limit_bytes_);
  }
}

void SseParser::push(std::string_view bytes, const EventSink& on_event) {
  while (!bytes.empty()) {
    if (after_cr_) {
      after_cr_ = false;
      if (bytes.front() == '\n') {
        bytes.remove_prefix(1);
        continue;
      }
    }
    std::size_t end = bytes.find('\n');
    if (const std::size_t cr = bytes.substr(0, end).find('\r'); cr != bytes.npos) end = cr;
    if (end == bytes.npos) {
      check_limit(line_.size() + bytes.size());
      line_ += bytes;
      return;
    }
    after_cr_ = bytes[end] == '\r';
    const std::string_view piece = bytes.substr(0, end);
    bytes.remove_prefix(end + 1);
    check_limit(line_.size() + piece.size());
    if (line_.empty()) {
      end_line(piece, on_event);
    } else {
      line_ += piece;
      end_line(line_, on_event);
      line_.clear();
    }
  }
}

void SseParser::end_line(std::string_view line, const EventSink& on_event) {
  if (is_first_line_) {
    is_first_line_ = false;
    if (line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  }
  if (line.empty()) {
    if (has_data_) on_event(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  const std::size_t colon = line.find(':');
  if (line.substr(0, colon) != "data") return;  // a comment or another field
  std::string_view value = colon == line.npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  check_limit(data_.size() + value.size() + 1);
  if (has_data_) data_ += '\n';
  data_ += value;
  has_data_ = true;
}

}  // namespace moeopt::bench
