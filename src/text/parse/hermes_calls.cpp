// <tool_call>{"name": N, "arguments": {...}}</tool_call>, as Hermes and Qwen models write calls.
#include <optional>
#include <utility>

#include "base/json.h"
#include "text/parse/json_scanner.h"
#include "text/parse/tool_call_machine.h"

namespace moeopt {
namespace {

constexpr std::string_view kOpen = "<tool_call>";
constexpr std::string_view kClose = "</tool_call>";

class HermesMachine final : public ToolCallMachine {
 public:
  using ToolCallMachine::ToolCallMachine;

  void take(char byte) override {
    switch (state_) {
      case State::kContent:
        if (take_content(byte, kOpen)) begin_body();
        return;
      case State::kBody:
        return take_in_body(byte);
      case State::kClosing:
        return take_closing(byte);
    }
  }

 private:
  enum class State { kContent, kBody, kClosing };
  using Event = JsonObjectScanner::Event;

  void begin_body() {
    begin_call();
    state_ = State::kBody;
    scanner_ = {};
    object_begun_ = false;
    name_.reset();
    member_.clear();
    arguments_begin_ = 0;
    arguments_.reset();
    in_arguments_ = false;
  }

  void take_in_body(char byte) {
    if (!object_begun_ && is_json_space(byte)) {
      if (holds_too_much()) return fail(byte);
      held_ += byte;
      return;
    }
    object_begun_ = true;
    const Event event = scanner_.take(byte);
    if (event == Event::kBad || (!announced() && holds_too_much())) return fail(byte);
    if (!announced()) held_ += byte;
    const std::size_t at = held_.empty() ? 0 : held_.size() - 1;
    switch (event) {
      case Event::kNameBegin:
        string_begin_ = at;
        break;
      case Event::kNameEnd:
        // NOTE: an announced call holds nothing, and nothing that follows matters to it.
        member_ = announced() ? std::string() : checked_name();
        break;
      case Event::kValueBegin:
        if (!begin_member(byte, at)) return fail_after(byte);
        return;
      case Event::kValueEnd:
        if (!end_member(byte)) return fail_after(byte);
        return;
      case Event::kDone:
        return end_object();
      default:
        break;
    }
    if (announced() && in_arguments_) give_arguments({&byte, 1});
  }

  // The JSON string that ends what is held; empty when it is no text (a lone surrogate).
  std::string checked_name() const {
    const Json name = Json::parse(held_.substr(string_begin_), nullptr, false);
    return name.is_string() ? name.get<std::string>() : std::string();
  }

  bool begin_member(char byte, std::size_t at) {
    if (announced()) return true;
    if (member_ == "name") {
      string_begin_ = at;
      return byte == '"' && !name_;
    }
    if (member_ != "arguments" && member_ != "parameters") return true;
    if (byte != '{' || arguments_) return false;
    in_arguments_ = true;
    if (name_) {
      announce(*name_);
      give_arguments({&byte, 1});
    } else {
      arguments_begin_ = at;
    }
    return true;
  }

  bool end_member(char byte) {
    if (announced()) {
      if (in_arguments_) give_arguments({&byte, 1});
      in_arguments_ = false;
      return true;
    }
    if (member_ == "name") {
      name_ = checked_name();
      if (name_->empty()) return false;
      if (arguments_) announce_all();
    } else if (in_arguments_) {
      in_arguments_ = false;
      arguments_ = held_.substr(arguments_begin_);
    }
    return true;
  }

  void announce_all() {
    const std::string arguments = arguments_.value_or("{}");
    announce(*name_);
    give_arguments(arguments);
  }

  void end_object() {
    if (!announced() && name_) announce_all();
    if (!announced()) {
      give_back();
      state_ = State::kContent;
      return;
    }
    close_begun_ = 0;
    state_ = State::kClosing;
  }

  // `byte`, not taken yet, cannot follow.
  void fail(char byte) {
    if (announced() && !in_arguments_ && byte == '<') {  // an object that was not closed
      close_begun_ = 0;
      state_ = State::kClosing;
      return take(byte);
    }
    if (!announced()) give_back();
    held_.clear();
    begin_call();
    state_ = State::kContent;
    take(byte);
  }

  // The same when `byte` is among what is held.
  void fail_after(char byte) {
    held_.pop_back();
    fail(byte);
  }

  void take_closing(char byte) {
    if (close_begun_ == 0 && is_json_space(byte)) return;
    switch (match(byte, kClose, close_begun_)) {
      case Matched::kPart:
        return;
      case Matched::kWhole:
        held_.clear();
        begin_call();
        drop_white_space();
        state_ = State::kContent;
        return;
      case Matched::kNo: {
        // No closing marker: what looked like its beginning is content, or begins the next call.
        std::string again = std::exchange(held_, {}) + byte;
        begin_call();
        drop_white_space();
        state_ = State::kContent;
        for (const char each : again) take(each);
      }
    }
  }

  State state_ = State::kContent;
  JsonObjectScanner scanner_;
  bool object_begun_ = false;
  bool in_arguments_ = false;
  std::size_t string_begin_ = 0;  // in held_
  std::size_t arguments_begin_ = 0;
  std::string member_;
  std::optional<std::string> name_;
  std::optional<std::string> arguments_;  // that came before the name
  std::size_t close_begun_ = 0;
};

}  // namespace

std::unique_ptr<ToolCallMachine> make_hermes_machine(std::string id_prefix) {
  return std::make_unique<HermesMachine>(std::move(id_prefix));
}

}  // namespace moeopt
