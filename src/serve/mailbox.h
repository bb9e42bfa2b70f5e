// Mailbox: what the engine's thread says of one HTTP request, until its I/O thread takes it.
// Invariants: push() never blocks for longer than a copy takes; what lies here is bounded: beyond
// the limit the mailbox overflows, keeps nothing more, and says so.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "engine/request.h"

namespace moeopt::serve {

struct OwnedToken {
  std::int32_t id = -1;
  float logprob = 0;
  std::vector<TokenLogprob> top;
};

// An engine's Event with everything it points to.
struct Letter {
  int prompt = 0;  // which of the HTTP request's prompts
  int choice = 0;  // of that prompt
  std::string text;
  bool has_token = false;
  OwnedToken token;
  FinishReason finish = FinishReason::kNone;
  int cached_tokens = 0;
  std::string error;
  std::vector<OwnedToken> prompt_tokens;

  Letter() = default;
  Letter(int prompt_index, const Event& event);
};

class Mailbox {
 public:
  explicit Mailbox(std::size_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // `wake` is called by whoever pushes, once for each time that there is something new.
  // `only_at_end`: not before a choice ends.
  void on_mail(std::function<void()> wake, bool only_at_end);
  void push(Letter letter);
  // All letters so far, oldest first.
  std::vector<Letter> take();
  bool overflowed() const;

 private:
  const std::size_t limit_bytes_;
  mutable std::mutex mutex_;
  std::vector<Letter> letters_;
  std::size_t held_bytes_ = 0;
  bool overflowed_ = false;
  bool told_ = false;  // wake was called and nothing was taken since
  bool only_at_end_ = false;
  std::function<void()> wake_;
};

}  // namespace moeopt::serve
