// Reads one JSON object character by character and says what of its own members it has just passed.
// Invariant: it has said kBad as soon as no JSON object begins with what it was given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moeopt {

inline bool is_json_space(char byte) {
  return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

class JsonObjectScanner {
 public:
  static constexpr std::size_t kMostDepth = 64;

  enum class Event {
    kNone,
    kNameBegin,   // the opening quote of a member's name
    kNameEnd,     // its closing quote
    kValueBegin,  // the first byte of a member's value
    kValueEnd,    // the last byte of one that is a text, an array or an object
    kDone,        // the closing bracket
    kBad,         // this byte cannot come here; the scanner takes no more
  };

  Event take(char byte);

 private:
  enum class State : std::uint8_t {
    kBegin,
    kNameOrEnd,
    kName,
    kColon,
    kValue,
    kValueOrEnd,  // after the opening bracket of an array
    kAfterValue,
    kString,
    kEscape,
    kHexadecimal,
    kLiteral,
    kNumberSign,
    kNumberZero,
    kNumberWhole,
    kNumberPoint,
    kNumberFraction,
    kNumberExponent,
    kNumberExponentSign,
    kNumberExponentDigits,
    kDone,
  };

  Event begin_value(char byte);
  Event take_in_string(char byte);
  Event take_in_number(char byte);
  Event close(char byte);
  Event value_end() const { return open_.size() == 1 ? Event::kValueEnd : Event::kNone; }

  State state_ = State::kBegin;
  std::string open_;  // the brackets
  bool in_name_ = false;
  int hexadecimal_left_ = 0;
  std::string_view literal_left_;
};

}  // namespace moeopt
