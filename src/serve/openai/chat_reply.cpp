#include "serve/openai/chat_reply.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "serve/openai/chat_prompt.h"
#include "serve/openai/output_format.h"
#include "serve/openai/token_text.h"

namespace moeopt::serve {
namespace {

class ChatReply final : public GenerationReply {
 public:
  ChatReply(const ChatRequest& request, const OutputFormat& format, const ServedModel& model,
            std::shared_ptr<ServerMetrics> metrics, ReplyOptions options)
      : GenerationReply(model, std::move(metrics), std::move(options)),
        logprobs_(request.logprobs),
        n_top_(request.top_logprobs.value_or(0)),
        splits_reasoning_(format.parser.reasoning),
        stop_ids_(request.ignore_eos ? std::vector<std::int32_t>() : model.stop_ids) {
    stop_ids_.insert(stop_ids_.end(), request.stop_token_ids.begin(), request.stop_token_ids.end());
    const std::string call_id = make_id().substr(0, 12);
    for (int i = 0; i < request.n; ++i) {
      OutputParser::Options parser = format.parser;
      parser.tool_call_id_prefix = fmt::format("call_{}{:02x}_", call_id, i);
      choices_.emplace_back(std::move(parser));
    }
  }

 private:
  struct Choice {
    explicit Choice(OutputParser::Options options) : parser(std::move(options)) {}

    OutputParser parser;
    std::string content, reasoning;
    OrderedJson calls = OrderedJson::array();
    OrderedJson logprobs = OrderedJson::array();  // not streamed yet; all of them without a stream
    std::string finish;
    bool opened = false;  // the role was streamed
    std::size_t n_reasoning_bytes = 0;
  };

  std::string_view object(bool chunk) const override {
    return chunk ? "chat.completion.chunk" : "chat.completion";
  }
  std::string_view id_prefix() const override { return "chatcmpl-"; }

  void read(const Letter& letter, int index, std::string& out) override {
    Choice& choice = choices_[static_cast<std::size_t>(index)];
    if (streams() && !choice.opened) {
      choice.opened = true;
      append_delta(out, index, {{"role", "assistant"}, {"content", ""}});
    }
    if (logprobs_ && letter.has_token && !ends_by_id(letter)) {
      choice.logprobs.push_back(chat_logprob(*model().tokenizer, letter.token, n_top_));
    }
    const std::size_t reasoning_before = choice.n_reasoning_bytes;
    for (OutputPiece& piece : choice.parser.push(letter.text)) {
      take(choice, index, std::move(piece), out);
    }
    if (letter.has_token && choice.n_reasoning_bytes > reasoning_before) ++n_reasoning_tokens_;
    if (letter.finish == FinishReason::kNone) return;
    for (OutputPiece& piece : choice.parser.finish(letter.finish == FinishReason::kStop)) {
      take(choice, index, std::move(piece), out);
    }
    const bool called = letter.finish == FinishReason::kStop && !choice.calls.empty();
    choice.finish = called ? "tool_calls" : finish_reason_name(letter.finish);
    if (streams()) append_delta(out, index, OrderedJson::object());
  }

  bool ends_by_id(const Letter& letter) const {
    return letter.finish == FinishReason::kStop &&
           std::ranges::find(stop_ids_, letter.token.id) != stop_ids_.end();
  }

  void take(Choice& choice, int index, OutputPiece piece, std::string& out) {
    OrderedJson delta;
    switch (piece.kind) {
      case OutputPiece::Kind::kContent:
        if (streams()) {
          delta["content"] = std::move(piece.text);
        } else {
          choice.content += piece.text;
        }
        break;
      case OutputPiece::Kind::kReasoning:
        choice.n_reasoning_bytes += piece.text.size();
        if (streams()) {
          delta["reasoning_content"] = std::move(piece.text);
        } else {
          choice.reasoning += piece.text;
        }
        break;
      case OutputPiece::Kind::kToolCall: {
        const auto at = static_cast<std::size_t>(piece.index);
        if (at == choice.calls.size()) {
          choice.calls.push_back({{"id", piece.id},
                                  {"type", "function"},
                                  {"function", {{"name", piece.name}, {"arguments", ""}}}});
        }
        if (streams()) {
          OrderedJson call = {{"index", piece.index}};
          if (!piece.id.empty()) {
            call["id"] = piece.id;
            call["type"] = "function";
            call["function"]["name"] = piece.name;
          }
          call["function"]["arguments"] = std::move(piece.text);
          delta["tool_calls"] = OrderedJson::array({std::move(call)});
        } else {
          choice.calls[at]["function"]["arguments"].get_ref<std::string&>() += piece.text;
        }
        break;
      }
    }
    if (streams()) append_delta(out, index, std::move(delta));
  }

  void append_delta(std::string& out, int index, OrderedJson delta) {
    Choice& choice = choices_[static_cast<std::size_t>(index)];
    OrderedJson json;
    json["index"] = index;
    json["delta"] = std::move(delta);
    json["logprobs"] = nullptr;
    if (!choice.logprobs.empty()) {
      json["logprobs"]["content"] = std::exchange(choice.logprobs, OrderedJson::array());
    }
    json["finish_reason"] = nullptr;
    if (!choice.finish.empty()) json["finish_reason"] = choice.finish;
    append_event(out, std::move(json));
  }

  std::optional<int> reasoning_tokens() const override {
    return splits_reasoning_ ? std::optional(n_reasoning_tokens_) : std::nullopt;
  }

  OrderedJson choices() override {
    OrderedJson list = OrderedJson::array();
    for (int i = 0; i < n_choices(); ++i) {
      Choice& choice = choices_[static_cast<std::size_t>(i)];
      OrderedJson message;
      message["role"] = "assistant";
      message["content"] = std::move(choice.content);
      if (message["content"] == "" && !choice.calls.empty()) message["content"] = nullptr;
      if (!choice.reasoning.empty()) message["reasoning_content"] = std::move(choice.reasoning);
      if (!choice.calls.empty()) message["tool_calls"] = std::move(choice.calls);
      OrderedJson json;
      json["index"] = i;
      json["message"] = std::move(message);
      json["logprobs"] = nullptr;
      if (logprobs_) json["logprobs"]["content"] = std::move(choice.logprobs);
      json["finish_reason"] = choice.finish;
      list.push_back(std::move(json));
    }
    return list;
  }

  const bool logprobs_;
  const int n_top_;
  const bool splits_reasoning_;
  int n_reasoning_tokens_ = 0;
  std::vector<std::int32_t> stop_ids_;
  std::vector<Choice> choices_;
};

}  // namespace

std::shared_ptr<LiveReply> start_chat(ChatRequest request, const ServedModel& model,
                                      std::shared_ptr<ServerMetrics> metrics, ReplyOptions options,
                                      std::chrono::milliseconds timeout) {
  ChatInputs inputs;
  inputs.messages = std::move(request.messages);
  if (shows_tools(request)) inputs.tools = request.tools;
  inputs.template_kwargs = std::move(request.template_kwargs);
  inputs.add_generation_prompt = request.add_generation_prompt;
  inputs.most_ids = static_cast<std::size_t>(model.max_model_len) - 1;
  ChatPrompt prompt = make_chat_prompt(std::move(inputs), model);
  const int room = model.max_model_len - static_cast<int>(prompt.ids.size());
  if (prompt.ids.empty()) refuse_field("messages", "the template makes an empty prompt of them");
  const OutputFormat format = output_format(request, prompt, model);
  Request made = make_request(request, model, model.max_tokens.value_or(room));
  constrain(format, model, made);
  made.prompt = std::move(prompt.ids);
  made.timeout = timeout;
  if (request.logprobs) made.sampling.n_logprobs = request.top_logprobs.value_or(0);
  auto reply =
      std::make_shared<ChatReply>(request, format, model, std::move(metrics), std::move(options));
  reply->log_prompt(prompt.text);
  std::vector<Request> requests;
  requests.push_back(std::move(made));
  reply->submit(std::move(requests));
  return reply;
}

}  // namespace moeopt::serve
