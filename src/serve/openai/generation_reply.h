// A generation on its way from the engine to a client: what /v1/completions and
// /v1/chat/completions share. Subclasses give it the shape of their endpoint.
// Invariant: every request it submitted is either finished or cancelled when it is gone.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine_service.h"
#include "serve/api_error.h"
#include "serve/http/message.h"
#include "serve/mailbox.h"
#include "serve/served_model.h"
#include "serve/server_metrics.h"

namespace moeopt::serve {

struct ReplyOptions {
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool log_prompts = false;
  std::string id;  // of the HTTP request
  std::chrono::steady_clock::time_point arrived{};
};

class GenerationReply : public LiveReply {
 public:
  GenerationReply(const ServedModel& model, std::shared_ptr<ServerMetrics> metrics,
                  ReplyOptions options);
  ~GenerationReply() override;

  // The next prompt's text, for the log where it is to have prompts: the first few KiB of all.
  void log_prompt(std::string_view text);
  // Hands the requests to the engine: all of them, or none and the engine's Error. Once; each has
  // the same n. Any thread.
  void submit(std::vector<Request> requests);

  bool streams() const final { return options_.stream; }
  void on_ready(std::function<void()> wake) final;
  bool advance(std::string& out) final;
  HttpResponse response() final;
  bool overflowed() const final;
  void abandon() final;
  void fill(RequestRecord& record) const final;

 protected:
  // A letter of choice `index` (over all prompts). A stream appends its events to `out`.
  virtual void read(const Letter& letter, int index, std::string& out) = 0;
  virtual std::string_view object(bool chunk) const = 0;  // "chat.completion"
  virtual std::string_view id_prefix() const = 0;         // "chatcmpl-"
  virtual OrderedJson choices() = 0;                      // of the whole answer
  // Tokens of the output that count as reasoning, if the endpoint tells.
  virtual std::optional<int> reasoning_tokens() const { return std::nullopt; }

  const ServedModel& model() const { return model_; }
  int n_choices() const { return n_choices_; }
  // One event of the stream with this choice; an empty list of choices without.
  void append_event(std::string& out, std::optional<OrderedJson> choice);

 private:
  struct Shared;

  OrderedJson head(bool chunk) const;
  OrderedJson usage() const;
  void fail(ApiError error, std::string& out);

  const ServedModel& model_;
  // Shared with the engine, whose last event may come when the server is gone.
  const std::shared_ptr<ServerMetrics> metrics_;
  ReplyOptions options_;
  std::int64_t created_s_;
  std::shared_ptr<Shared> shared_;
  std::vector<RequestId> ids_;
  std::vector<int> cached_tokens_;  // by prompt
  int choices_per_prompt_ = 1;
  int n_choices_ = 0;
  int n_finished_ = 0;
  int prompt_tokens_ = 0;
  int output_tokens_ = 0;
  bool ended_ = false;
  std::string finishes_;
  std::vector<std::string> logged_prompts_;
  std::size_t logged_bytes_ = 0;
  std::optional<ApiError> failure_;
};

}  // namespace moeopt::serve
