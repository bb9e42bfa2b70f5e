#include "text/parse/json_scanner.h"

namespace moeopt {
namespace {

bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

}  // namespace

JsonObjectScanner::Event JsonObjectScanner::take(char byte) {
  switch (state_) {
    case State::kBegin:
      if (byte != '{') return Event::kBad;
      open_ = "{";
      state_ = State::kNameOrEnd;
      return Event::kNone;
    case State::kNameOrEnd:
      if (byte == '}') return close(byte);
      [[fallthrough]];
    case State::kName:
      if (is_json_space(byte)) return Event::kNone;
      if (byte != '"') return Event::kBad;
      state_ = State::kString;
      in_name_ = true;
      return open_.size() == 1 ? Event::kNameBegin : Event::kNone;
    case State::kColon:
      if (is_json_space(byte)) return Event::kNone;
      if (byte != ':') return Event::kBad;
      state_ = State::kValue;
      return Event::kNone;
    case State::kValueOrEnd:
      if (byte == ']') return close(byte);
      [[fallthrough]];
    case State::kValue:
      if (is_json_space(byte)) return Event::kNone;
      return begin_value(byte);
    case State::kAfterValue:
      if (is_json_space(byte)) return Event::kNone;
      if (byte != ',') return close(byte);
      state_ = open_.back() == '{' ? State::kName : State::kValue;
      return Event::kNone;
    case State::kString:
    case State::kEscape:
    case State::kHexadecimal:
      return take_in_string(byte);
    case State::kLiteral:
      if (literal_left_.empty()) break;
      if (byte != literal_left_.front()) return Event::kBad;
      literal_left_.remove_prefix(1);
      if (literal_left_.empty()) state_ = State::kAfterValue;
      return Event::kNone;
    case State::kDone:
      return Event::kBad;
    default:
      return take_in_number(byte);
  }
  return Event::kBad;
}

JsonObjectScanner::Event JsonObjectScanner::begin_value(char byte) {
  const Event event = open_.size() == 1 ? Event::kValueBegin : Event::kNone;
  if (byte == '{' || byte == '[') {
    if (open_.size() == kMostDepth) return Event::kBad;
    open_ += byte;
    state_ = byte == '{' ? State::kNameOrEnd : State::kValueOrEnd;
  } else if (byte == '"') {
    state_ = State::kString;
    in_name_ = false;
  } else if (byte == 't' || byte == 'f' || byte == 'n') {
    literal_left_ = byte == 't' ? "rue" : byte == 'f' ? "alse" : "ull";
    state_ = State::kLiteral;
  } else if (byte == '-') {
    state_ = State::kNumberSign;
  } else if (is_digit(byte)) {
    state_ = byte == '0' ? State::kNumberZero : State::kNumberWhole;
  } else {
    return Event::kBad;
  }
  return event;
}

JsonObjectScanner::Event JsonObjectScanner::take_in_string(char byte) {
  constexpr std::string_view kEscapes = "\"\\/bfnrt";
  constexpr std::string_view kHexadecimal = "0123456789abcdefABCDEF";
  if (state_ == State::kEscape) {
    if (byte == 'u') {
      hexadecimal_left_ = 4;
      state_ = State::kHexadecimal;
      return Event::kNone;
    }
    state_ = State::kString;
    return kEscapes.find(byte) == kEscapes.npos ? Event::kBad : Event::kNone;
  }
  if (state_ == State::kHexadecimal) {
    if (kHexadecimal.find(byte) == kHexadecimal.npos) return Event::kBad;
    if (--hexadecimal_left_ == 0) state_ = State::kString;
    return Event::kNone;
  }
  if (static_cast<unsigned char>(byte) < 0x20) return Event::kBad;
  if (byte == '\\') state_ = State::kEscape;
  if (byte != '"') return Event::kNone;
  state_ = in_name_ ? State::kColon : State::kAfterValue;
  if (!in_name_) return value_end();
  return open_.size() == 1 ? Event::kNameEnd : Event::kNone;
}

JsonObjectScanner::Event JsonObjectScanner::take_in_number(char byte) {
  const bool is_exponent = byte == 'e' || byte == 'E';
  const auto go = [&](State next) {
    state_ = next;
    return Event::kNone;
  };
  switch (state_) {
    case State::kNumberSign:
      if (byte == '0') return go(State::kNumberZero);
      return is_digit(byte) ? go(State::kNumberWhole) : Event::kBad;
    case State::kNumberWhole:
      if (is_digit(byte)) return Event::kNone;
      [[fallthrough]];
    case State::kNumberZero:
      if (byte == '.') return go(State::kNumberPoint);
      if (is_exponent) return go(State::kNumberExponent);
      break;
    case State::kNumberPoint:
      return is_digit(byte) ? go(State::kNumberFraction) : Event::kBad;
    case State::kNumberFraction:
      if (is_digit(byte)) return Event::kNone;
      if (is_exponent) return go(State::kNumberExponent);
      break;
    case State::kNumberExponent:
      if (byte == '+' || byte == '-') return go(State::kNumberExponentSign);
      [[fallthrough]];
    case State::kNumberExponentSign:
      return is_digit(byte) ? go(State::kNumberExponentDigits) : Event::kBad;
    default:  // kNumberExponentDigits
      if (is_digit(byte)) return Event::kNone;
      break;
  }
  state_ = State::kAfterValue;
  return take(byte);
}

JsonObjectScanner::Event JsonObjectScanner::close(char byte) {
  if (byte != (open_.back() == '{' ? '}' : ']')) return Event::kBad;
  open_.pop_back();
  state_ = open_.empty() ? State::kDone : State::kAfterValue;
  return open_.empty() ? Event::kDone : value_end();
}

}  // namespace moeopt
