// <｜tool▁calls▁begin｜> and its calls, as DeepSeek V3 and V3.1 write them.
#include <array>
#include <utility>

#include "text/parse/json_scanner.h"
#include "text/parse/marker.h"
#include "text/parse/tool_call_machine.h"

namespace moeopt {
namespace {

constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
constexpr std::string_view kSeparator = "<｜tool▁sep｜>";
constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
constexpr std::string_view kFence = "```json\n";
constexpr std::string_view kFenceEnd = "```";
constexpr std::size_t kMostNameBytes = 256;

class DeepSeekMachine final : public ToolCallMachine {
 public:
  using ToolCallMachine::ToolCallMachine;

  void take(char byte) override {
    switch (state_) {
      case State::kContent:
        if (take_content(byte, kCallsBegin)) expect(State::kCalls);
        return;
      case State::kCalls:  // a call, or the end of all
        return take_one_of(byte, kCallBegin, kCallsEnd);
      case State::kHead:
        return take_head(byte);
      case State::kName:
        return take_name(byte);
      case State::kInFence:
        return take_one_of(byte, kFence, kFence);
      case State::kArgumentsBegin:
      case State::kArguments:
        return take_arguments(byte);
      case State::kTail:  // the fence's end or the call's
        return take_one_of(byte, kFenceEnd, kCallEnd);
    }
  }

 private:
  enum class State { kContent, kCalls, kHead, kName, kInFence, kArgumentsBegin, kArguments, kTail };

  void expect(State state) {
    state_ = state;
    part_.clear();
  }

  // `byte`, not taken yet, cannot follow: a call that was not announced is content.
  void fail(char byte) {
    std::string again = std::exchange(part_, {});
    if (announced_any_ && state_ != State::kHead && state_ != State::kName &&
        state_ != State::kInFence && state_ != State::kArgumentsBegin) {
      held_.clear();
      drop_white_space();
    } else {
      give_back();
      again.clear();
    }
    again += byte;
    begin_call();
    announced_any_ = false;
    state_ = State::kContent;
    for (const char each : again) take(each);
  }

  // One of two markers, after white space.
  void take_one_of(char byte, std::string_view one, std::string_view other) {
    if (part_.empty() && is_json_space(byte)) {
      if (holds_too_much()) return fail(byte);
      if (!announced_any_) held_ += byte;
      return;
    }
    part_ += byte;
    if (!one.starts_with(part_) && !other.starts_with(part_)) {
      part_.pop_back();
      return fail(byte);
    }
    held_ += byte;
    if (part_ == one || part_ == other) matched();
  }

  void matched() {
    if (part_ == kCallBegin) {
      held_ = announced_any_ ? std::string(kCallBegin) : held_;
      begin_call();
      head_.clear();
      return expect(State::kHead);
    }
    if (part_ == kFence) return expect(State::kArgumentsBegin);
    if (part_ == kFenceEnd) {
      held_.clear();
      return expect(State::kTail);
    }
    if (part_ == kCallEnd) {
      held_.clear();
      return expect(State::kCalls);
    }
    // The end of all calls; of none, it is content.
    if (!announced_any_) give_back();
    held_.clear();
    begin_call();
    if (announced_any_) drop_white_space();
    announced_any_ = false;
    expect(State::kContent);
  }

  // What stands before the separator: "function", or the name.
  void take_head(char byte) {
    held_ += byte;
    head_ += byte;
    if (head_.ends_with(kSeparator)) {
      head_.resize(head_.size() - kSeparator.size());
      name_.clear();
      scanner_ = {};
      return expect(State::kName);
    }
    if (head_.size() > kMostNameBytes + kSeparator.size() || byte == '\n') fail_held(byte);
  }

  void fail_held(char byte) {
    held_.pop_back();
    fail(byte);
  }

  // After the separator: the arguments at once, or a name and a fence.
  void take_name(char byte) {
    held_ += byte;
    if (without_white_space(name_).empty() && byte == '{' && !without_white_space(head_).empty()) {
      name_ = without_white_space(head_);
      held_.pop_back();
      expect(State::kArgumentsBegin);
      return take(byte);
    }
    if (byte == '\n' && !without_white_space(name_).empty()) {
      if (without_white_space(head_) != "function") return fail_held(byte);
      name_ = without_white_space(name_);
      return expect(State::kInFence);
    }
    name_ += byte;
    if (name_.size() > kMostNameBytes || byte == '<') fail_held(byte);
  }

  void take_arguments(char byte) {
    if (state_ == State::kArgumentsBegin) {
      if (is_json_space(byte) && !holds_too_much()) {
        held_ += byte;
        return;
      }
      if (byte != '{') return fail(byte);
      announce(std::string(name_));
      announced_any_ = true;
      state_ = State::kArguments;
    }
    const JsonObjectScanner::Event event = scanner_.take(byte);
    if (event == JsonObjectScanner::Event::kBad) return fail(byte);
    give_arguments({&byte, 1});
    if (event == JsonObjectScanner::Event::kDone) expect(State::kTail);
  }

  State state_ = State::kContent;
  std::string part_;  // of a marker
  std::string head_;
  std::string name_;
  JsonObjectScanner scanner_;
  bool announced_any_ = false;  // in this block of calls
};

}  // namespace

std::unique_ptr<ToolCallMachine> make_deepseek_machine(std::string id_prefix) {
  return std::make_unique<DeepSeekMachine>(std::move(id_prefix));
}

}  // namespace moeopt
