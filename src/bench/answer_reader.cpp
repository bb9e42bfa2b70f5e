#include "bench/answer_reader.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/strings.h"
#include "bench/stream_event.h"

namespace moeopt::bench {

void AnswerReader::push(std::string_view bytes, std::int64_t now_us) {
  if (is_done_) return;
  try {
    parser_.push(bytes, [this, now_us](std::string_view data) { take_event(data, now_us); });
  } catch (const Error& error) {
    record_.error = "malformed";
    record_.error_text = printable(error.what());
    finish(now_us);
  }
}

void AnswerReader::take_event(std::string_view data, std::int64_t now_us) {
  if (is_done_) return;
  ++events_;
  if (data == "[DONE]") {
    finish(now_us);
    return;
  }
  const StreamEvent event = parse_stream_event(data);
  if (event.error) {
    record_.error = "server";
    record_.error_text = *event.error;
    finish(now_us);
    return;
  }
  if (event.has_text) {
    ++record_.text_events;
    if (record_.first_text_us < 0) {
      record_.first_text_us = now_us;
    } else {
      record_.gaps_us.push_back(static_cast<std::uint32_t>(std::min<std::int64_t>(
          now_us - record_.last_text_us, std::numeric_limits<std::uint32_t>::max())));
    }
    record_.last_text_us = now_us;
  }
  if (!event.finish_reason.empty()) record_.finish_reason = event.finish_reason;
  if (event.usage) {
    record_.has_usage = true;
    record_.prompt_tokens = event.usage->prompt_tokens;
    record_.cached_tokens = event.usage->cached_tokens;
    record_.output_tokens = event.usage->output_tokens;
  }
}

void AnswerReader::end(std::int64_t now_us) {
  if (is_done_) return;
  if (record_.finish_reason.empty() || parser_.is_inside_event()) {
    record_.error = "closed";
    record_.error_text = "the stream ended before the answer did";
  }
  finish(now_us);
}

void AnswerReader::finish(std::int64_t now_us) {
  is_done_ = true;
  record_.end_us = now_us;
  if (!record_.has_usage) record_.output_tokens = record_.text_events;
}

}  // namespace moeopt::bench
