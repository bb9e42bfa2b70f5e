#include "serve/mailbox.h"

#include <utility>

namespace moeopt::serve {
namespace {

OwnedToken owned(const SampledToken& token) {
  return {token.id, token.logprob, {token.top.begin(), token.top.end()}};
}

std::size_t bytes_of(const Letter& letter) {
  std::size_t bytes = sizeof(Letter) + letter.text.size() + letter.error.size() +
                      letter.token.top.size() * sizeof(TokenLogprob);
  for (const OwnedToken& token : letter.prompt_tokens) {
    bytes += sizeof(OwnedToken) + token.top.size() * sizeof(TokenLogprob);
  }
  return bytes;
}

}  // namespace

Letter::Letter(int prompt_index, const Event& event)
    : prompt(prompt_index),
      choice(event.choice),
      text(event.text),
      has_token(event.token != nullptr),
      finish(event.finish),
      cached_tokens(event.cached_tokens),
      error(event.error) {
  if (event.token != nullptr) token = owned(*event.token);
  for (const SampledToken& of_prompt : event.prompt) prompt_tokens.push_back(owned(of_prompt));
}

void Mailbox::on_mail(std::function<void()> wake, bool only_at_end) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
  only_at_end_ = only_at_end;
  told_ = false;
}

void Mailbox::push(Letter letter) {
  std::function<void()> wake;
  {
    const std::lock_guard lock(mutex_);
    if (overflowed_) return;
    const bool ends = letter.finish != FinishReason::kNone;
    held_bytes_ += bytes_of(letter);
    letters_.push_back(std::move(letter));
    if (held_bytes_ > limit_bytes_) {
      overflowed_ = true;
      std::vector<Letter>().swap(letters_);  // NOTE: `letters_ = {}` would keep the memory
    }
    const bool due = overflowed_ || (!told_ && (ends || !only_at_end_));
    if (!due || !wake_) return;
    told_ = true;
    wake = wake_;
  }
  wake();
}

std::vector<Letter> Mailbox::take() {
  const std::lock_guard lock(mutex_);
  told_ = false;
  held_bytes_ = 0;
  return std::exchange(letters_, {});
}

bool Mailbox::overflowed() const {
  const std::lock_guard lock(mutex_);
  return overflowed_;
}

}  // namespace moeopt::serve
