#include "serve/openai/generation_reply.h"

#include <fmt/format.h>

#include <atomic>
#include <ctime>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace moeopt::serve {
namespace {

using Clock = std::chrono::steady_clock;

// What a client may leave unread of a stream before it is dropped, besides the socket's own buffer.
constexpr std::size_t kMostUnreadBytes = std::size_t{1} << 20;
// Of a request's prompts in the log.
constexpr std::size_t kMostLoggedBytes = std::size_t{4} << 10;

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

ApiError failure_of(const Letter& letter) {
  if (letter.finish == FinishReason::kTimeout) {
    return {504, letter.error.empty() ? "the request took too long" : letter.error, {}, "timeout"};
  }
  if (letter.finish == FinishReason::kCancelled) {
    return {503, "the server is shutting down", {}, "unavailable"};
  }
  return {500, letter.error.empty() ? "the generation failed" : letter.error, {}, "engine_error"};
}

bool is_failure(FinishReason finish) {
  return finish == FinishReason::kError || finish == FinishReason::kTimeout ||
         finish == FinishReason::kCancelled;
}

}  // namespace

// What the engine's thread and the I/O thread both touch.
struct GenerationReply::Shared {
  Shared(std::size_t limit_bytes, std::shared_ptr<ServerMetrics> counted, Clock::time_point start,
         int n)
      : mailbox(limit_bytes),
        metrics(std::move(counted)),
        arrived(start),
        last_token(static_cast<std::size_t>(n)) {}

  void count(int index, const Event& event) {
    if (event.finish != FinishReason::kNone) {
      metrics->finished.add(std::string(finish_reason_name(event.finish)));
    }
    if (event.token == nullptr) return;
    const auto now = Clock::now();
    auto& last = last_token[static_cast<std::size_t>(index)];
    if (last == Clock::time_point{}) {
      metrics->time_to_first_token_s.observe(seconds(now - arrived));
      std::int64_t none = 0;
      const auto first =
          std::chrono::duration_cast<std::chrono::microseconds>(now - arrived).count();
      first_token_us.compare_exchange_strong(none, std::max<std::int64_t>(1, first));
    } else {
      metrics->inter_token_s.observe(seconds(now - last));
    }
    last = now;
  }

  Mailbox mailbox;
  const std::shared_ptr<ServerMetrics> metrics;
  const Clock::time_point arrived;
  std::atomic<std::int64_t> first_token_us{0};
  std::vector<Clock::time_point> last_token;  // by choice; the engine's thread alone
};

GenerationReply::GenerationReply(const ServedModel& model, std::shared_ptr<ServerMetrics> metrics,
                                 ReplyOptions options)
    : model_(model),
      metrics_(std::move(metrics)),
      options_(std::move(options)),
      created_s_(static_cast<std::int64_t>(std::time(nullptr))) {}

GenerationReply::~GenerationReply() {
  abandon();
}

void GenerationReply::log_prompt(std::string_view text) {
  if (!options_.log_prompts) return;
  const std::size_t room = kMostLoggedBytes - logged_bytes_;
  logged_prompts_.emplace_back(text.substr(0, room));
  logged_bytes_ += logged_prompts_.back().size();
  if (text.size() > room) logged_prompts_.back() += "...";
}

void GenerationReply::submit(std::vector<Request> requests) {
  MOEOPT_CHECK(shared_ == nullptr);
  choices_per_prompt_ = requests.front().n;
  n_choices_ = choices_per_prompt_ * static_cast<int>(requests.size());
  cached_tokens_.assign(requests.size(), 0);
  const std::size_t limit_bytes =
      options_.stream ? kMostUnreadBytes : std::numeric_limits<std::size_t>::max();
  shared_ = std::make_shared<Shared>(limit_bytes, metrics_, options_.arrived, n_choices_);
  try {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      prompt_tokens_ += static_cast<int>(requests[i].prompt.size());
      metrics_->prompt_tokens.observe(static_cast<double>(requests[i].prompt.size()));
      const int prompt = static_cast<int>(i);
      const int first = prompt * choices_per_prompt_;
      ids_.push_back(model_.engine->submit(std::move(requests[i]),
                                           [shared = shared_, prompt, first](const Event& event) {
                                             shared->count(first + event.choice, event);
                                             shared->mailbox.push(Letter(prompt, event));
                                           }));
    }
  } catch (...) {
    abandon();
    throw;
  }
}

void GenerationReply::on_ready(std::function<void()> wake) {
  shared_->mailbox.on_mail(std::move(wake), !options_.stream);
}

bool GenerationReply::overflowed() const {
  return shared_->mailbox.overflowed();
}

void GenerationReply::abandon() {
  if (ended_) return;
  ended_ = true;
  for (const RequestId id : ids_) model_.engine->cancel(id);
}

void GenerationReply::fail(ApiError error, std::string& out) {
  if (options_.stream) {
    out += fmt::format("data: {}\n\ndata: [DONE]\n\n", dump(error.body()));
  }
  failure_ = std::move(error);
  abandon();
}

bool GenerationReply::advance(std::string& out) {
  for (const Letter& letter : shared_->mailbox.take()) {
    if (ended_) break;
    if (letter.has_token) ++output_tokens_;
    cached_tokens_[static_cast<std::size_t>(letter.prompt)] =
        std::max(cached_tokens_[static_cast<std::size_t>(letter.prompt)], letter.cached_tokens);
    if (letter.finish != FinishReason::kNone) {
      ++n_finished_;
      if (!finishes_.empty()) finishes_ += '+';
      finishes_ += finish_reason_name(letter.finish);
    }
    if (is_failure(letter.finish)) {
      fail(failure_of(letter), out);
      break;
    }
    read(letter, letter.prompt * choices_per_prompt_ + letter.choice, out);
    if (n_finished_ < n_choices_) continue;
    ended_ = true;
    metrics_->request_s.observe(seconds(Clock::now() - options_.arrived));
    metrics_->output_tokens.observe(output_tokens_);
    if (!options_.stream) break;
    if (options_.include_usage) append_event(out, std::nullopt);
    out += "data: [DONE]\n\n";
  }
  return ended_;
}

OrderedJson GenerationReply::head(bool chunk) const {
  OrderedJson json;
  json["id"] = fmt::format("{}{}", id_prefix(), options_.id);
  json["object"] = object(chunk);
  json["created"] = created_s_;
  json["model"] = model_.name();
  return json;
}

OrderedJson GenerationReply::usage() const {
  OrderedJson usage = {{"prompt_tokens", prompt_tokens_},
                       {"completion_tokens", output_tokens_},
                       {"total_tokens", prompt_tokens_ + output_tokens_}};
  usage["prompt_tokens_details"]["cached_tokens"] =
      std::accumulate(cached_tokens_.begin(), cached_tokens_.end(), 0);
  if (const auto reasoning = reasoning_tokens()) {
    usage["completion_tokens_details"]["reasoning_tokens"] = *reasoning;
  }
  return usage;
}

void GenerationReply::append_event(std::string& out, std::optional<OrderedJson> choice) {
  OrderedJson json = head(true);
  json["choices"] = OrderedJson::array();
  if (choice) json["choices"].push_back(*std::move(choice));
  const bool last = json["choices"].empty();
  if (last || options_.continuous_usage) {
    json["usage"] = usage();
  } else if (options_.include_usage) {
    json["usage"] = nullptr;
  }
  out += "data: ";
  out += dump(json);
  out += "\n\n";
}

HttpResponse GenerationReply::response() {
  if (failure_) return failure_->response();
  OrderedJson json = head(false);
  json["choices"] = choices();
  json["usage"] = usage();
  return json_response(json);
}

void GenerationReply::fill(RequestRecord& record) const {
  record.prompt_tokens = prompt_tokens_;
  record.cached_tokens = std::accumulate(cached_tokens_.begin(), cached_tokens_.end(), 0);
  record.output_tokens = output_tokens_;
  record.finish = finishes_;
  record.prompts = logged_prompts_;
  record.first_token = std::chrono::microseconds(shared_->first_token_us.load());
  if (failure_) record.outcome = failure_->code();
}

}  // namespace moeopt::serve
