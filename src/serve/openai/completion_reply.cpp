#include "serve/openai/completion_reply.h"

#include <algorithm>
#include <utility>

namespace moeopt::serve {
namespace {

constexpr int kDefaultMaxTokens = 16;  // OpenAI's

class CompletionReply final : public GenerationReply {
 public:
  CompletionReply(const CompletionRequest& request, const std::vector<std::string>& echoes,
                  const ServedModel& model, std::shared_ptr<ServerMetrics> metrics,
                  ReplyOptions options)
      : GenerationReply(model, std::move(metrics), std::move(options)),
        prompt_only_(request.max_tokens == 0),
        logprobs_(request.logprobs.has_value()),
        stop_ids_(request.ignore_eos ? std::vector<std::int32_t>() : model.stop_ids) {
    stop_ids_.insert(stop_ids_.end(), request.stop_token_ids.begin(), request.stop_token_ids.end());
    for (const std::string& echo : echoes) {
      for (int i = 0; i < request.n; ++i) {
        choices_.push_back({echo, {}, {*model.tokenizer, request.logprobs.value_or(0)}});
      }
    }
  }

 private:
  struct Choice {
    std::string text;  // not streamed yet; all of it without a stream
    std::string finish;
    CompletionLogprobs logprobs;
  };

  std::string_view object(bool) const override { return "text_completion"; }
  std::string_view id_prefix() const override { return "cmpl-"; }

  void read(const Letter& letter, int index, std::string& out) override {
    Choice& choice = choices_[static_cast<std::size_t>(index)];
    if (logprobs_) {
      for (std::size_t i = 0; i < letter.prompt_tokens.size(); ++i) {
        choice.logprobs.add(letter.prompt_tokens[i], i > 0);
      }
      const bool stopped = letter.finish == FinishReason::kStop &&
                           std::ranges::find(stop_ids_, letter.token.id) != stop_ids_.end();
      if (letter.has_token && !prompt_only_ && !stopped) choice.logprobs.add(letter.token);
    }
    if (!prompt_only_) choice.text += letter.text;
    if (letter.finish != FinishReason::kNone) {
      choice.finish = prompt_only_ ? "length" : finish_reason_name(letter.finish);
    }
    const bool something =
        !choice.text.empty() || !choice.finish.empty() || (logprobs_ && !choice.logprobs.empty());
    if (streams() && something) append_event(out, take(index));
  }

  OrderedJson take(int index) {
    Choice& choice = choices_[static_cast<std::size_t>(index)];
    OrderedJson json;
    json["index"] = index;
    json["text"] = std::exchange(choice.text, {});
    json["logprobs"] = nullptr;
    if (logprobs_) json["logprobs"] = choice.logprobs.take();
    json["finish_reason"] = nullptr;
    if (!choice.finish.empty()) json["finish_reason"] = choice.finish;
    return json;
  }

  OrderedJson choices() override {
    OrderedJson list = OrderedJson::array();
    for (int i = 0; i < n_choices(); ++i) list.push_back(take(i));
    return list;
  }

  const bool prompt_only_;
  const bool logprobs_;
  std::vector<std::int32_t> stop_ids_;
  std::vector<Choice> choices_;
};

}  // namespace

std::shared_ptr<LiveReply> start_completion(const CompletionRequest& request,
                                            const ServedModel& model,
                                            std::shared_ptr<ServerMetrics> metrics,
                                            ReplyOptions options,
                                            std::chrono::milliseconds timeout) {
  const std::size_t most_ids = static_cast<std::size_t>(model.max_model_len) - 1;
  std::vector<Request> requests;
  std::vector<std::string> echoes;
  for (std::size_t i = 0; i < request.prompts.size(); ++i) {
    const std::string path =
        request.prompts.size() > 1 ? fmt::format("prompt[{}]", i) : std::string("prompt");
    Request made = make_request(request, model, kDefaultMaxTokens);
    made.max_tokens = std::max(1, made.max_tokens);  // 0 with echo: the prompt alone
    made.timeout = timeout;
    std::string echo;
    if (const auto* text = std::get_if<std::string>(&request.prompts[i])) {
      auto ids = model.tokenizer->encode_at_most(most_ids, *text, /*add_special_tokens=*/true);
      if (!ids) refuse_long_prompt(path, fmt::format("more than {}", most_ids), model);
      made.prompt = *std::move(ids);
      echo = *text;
    } else {
      made.prompt = std::get<std::vector<std::int32_t>>(request.prompts[i]);
      for (const std::int32_t id : made.prompt) {
        if (id >= model.vocab) {
          refuse_field(path, "token id {} is outside the vocabulary of {}", id, model.vocab);
        }
      }
      if (request.echo) echo = model.tokenizer->decode(made.prompt, request.skip_special_tokens);
    }
    if (made.prompt.empty()) refuse_field(path, "is empty");
    if (made.prompt.size() > most_ids) {
      refuse_long_prompt(path, std::to_string(made.prompt.size()), model);
    }
    if (request.logprobs) {
      made.sampling.n_logprobs = *request.logprobs;
      made.prompt_logprobs = request.echo;
    }
    requests.push_back(std::move(made));
    echoes.push_back(request.echo ? std::move(echo) : std::string());
  }
  const bool log_prompts = options.log_prompts;
  auto reply = std::make_shared<CompletionReply>(request, echoes, model, std::move(metrics),
                                                 std::move(options));
  for (std::size_t i = 0; i < requests.size() && log_prompts; ++i) {
    const auto* text = std::get_if<std::string>(&request.prompts[i]);
    reply->log_prompt(text != nullptr ? *text : model.tokenizer->decode(requests[i].prompt, false));
  }
  reply->submit(std::move(requests));
  return reply;
}

}  // namespace moeopt::serve
