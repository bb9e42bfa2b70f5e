// The rules that every JSON grammar is made of: white space, strings, numbers, any value, and the
// chains that a schema's own rules are put together from.
// Invariant: what a rule reads is valid UTF-8 and parses as JSON; no rule goes on for ever without
// adding to the value: white space and the digits of a number are bounded.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/pushdown.h"

namespace moeopt {

inline constexpr std::uint32_t kUnbounded = std::numeric_limits<std::uint32_t>::max();

struct LengthBounds {
  std::uint32_t least = 0;
  std::uint32_t most = kUnbounded;
};

class JsonRules {
 public:
  explicit JsonRules(PushdownBuilder& builder);

  // Rules, by the state they begin in. A value is called, or gone to by an empty edge.
  StateId any_value() const { return any_value_; }
  StateId any_object() const { return any_object_; }
  StateId any_array() const { return any_array_; }
  StateId any_string() const { return any_string_; }
  StateId number() const { return number_; }
  StateId integer() const { return integer_; }
  // A string of so many characters (code points).
  StateId string(LengthBounds bounds);
  // The names of an object's members, but for `names`. At the beginning of a name in `names`, as
  // long as it may still become one, \u escapes are not read.
  StateId name_except(const std::vector<std::string>& names);

  // Chains, from one state to another.
  // At most a line end and its indentation, or two blanks.
  void white_space(StateId from, StateId to);
  // `text` between white space.
  void punctuation(StateId from, char text, StateId to);
  // One character of a string, escapes included.
  void character(StateId from, StateId to);
  // What comes between the brackets of an array of `bounds` values of the rule `item`, and the
  // closing bracket; `from` is after the opening one and has read no item.
  void items(StateId from, StateId item, LengthBounds bounds, StateId to);
  // A name, a colon and a value.
  void member(StateId from, StateId name, StateId value, StateId to);
  // At least one such member, and the closing bracket of the object.
  void members(StateId from, StateId name, StateId value, StateId to);

 private:
  void add_white_space();
  void add_numbers();
  void add_escapes(StateId from, StateId to);
  void add_multibyte(StateId to, std::array<StateId, 4>& rest,
                     std::array<StateId, 256>& after_lead);
  void add_values();

  PushdownBuilder& builder_;
  StateId white_space_ = 0;
  StateId any_value_ = 0;
  StateId any_object_ = 0;
  StateId any_array_ = 0;
  StateId any_string_ = 0;
  StateId string_body_ = 0;  // within any_string, between characters
  std::array<StateId, 4> string_rest_{};
  std::array<StateId, 256> string_after_lead_{};
  StateId number_ = 0;
  StateId integer_ = 0;
};

}  // namespace moeopt
