#include "text/grammar/json_rules.h"

#include <algorithm>
#include <map>

#include "text/grammar/number_range.h"

namespace moeopt {
namespace {

constexpr int kMostBlanks = 2;
constexpr int kMostIndentation = 40;
// A double is written in fewer digits than these; with an exponent below 280 it stays finite.
constexpr int kMostIntegerDigits = 20;

constexpr std::string_view kEscapes = "\"\\/bfnrt";
constexpr std::string_view kEscaped = "\"\\/\b\f\n\r\t";

void hexadecimal(PushdownBuilder& builder, StateId from, StateId to) {
  builder.bytes(from, '0', '9', to);
  builder.bytes(from, 'A', 'F', to);
  builder.bytes(from, 'a', 'f', to);
}

struct ByteRange {
  std::uint8_t low;
  std::uint8_t high;
};

// The bytes that may come second after the lead byte of a character.
ByteRange second_bytes(std::uint8_t lead) {
  if (lead == 0xE0) return {0xA0, 0xBF};
  if (lead == 0xED) return {0x80, 0x9F};
  if (lead == 0xF0) return {0x90, 0xBF};
  if (lead == 0xF4) return {0x80, 0x8F};
  return {0x80, 0xBF};
}

int character_bytes(std::uint8_t lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// A set of names as a tree of bytes.
struct NameNode {
  bool is_name = false;
  std::map<std::uint8_t, std::size_t> next;
};

}  // namespace

JsonRules::JsonRules(PushdownBuilder& builder) : builder_(builder) {
  add_white_space();
  add_numbers();
  any_string_ = builder_.state();
  string_body_ = builder_.state();
  builder_.byte(any_string_, '"', string_body_);
  character(string_body_, string_body_);
  builder_.byte(string_body_, '"', Pushdown::kReturn);
  add_values();
}

void JsonRules::add_white_space() {
  white_space_ = builder_.state();
  builder_.empty(white_space_, Pushdown::kReturn);
  StateId at = white_space_;
  for (int i = 0; i < kMostBlanks; ++i) {
    const StateId next = builder_.state();
    builder_.any_of(at, " \t", next);
    builder_.empty(next, Pushdown::kReturn);
    at = next;
  }
  const StateId line = builder_.state();
  const StateId carriage = builder_.state();
  builder_.byte(white_space_, '\n', line);
  builder_.byte(white_space_, '\r', carriage);
  builder_.byte(carriage, '\n', line);
  builder_.empty(line, Pushdown::kReturn);
  at = line;
  for (int i = 0; i < kMostIndentation; ++i) {
    const StateId next = builder_.state();
    builder_.any_of(at, " \t", next);
    builder_.empty(next, Pushdown::kReturn);
    at = next;
  }
}

void JsonRules::white_space(StateId from, StateId to) {
  builder_.call(from, white_space_, to);
}

void JsonRules::punctuation(StateId from, char text, StateId to) {
  const StateId before = builder_.state();
  const StateId after = builder_.state();
  white_space(from, before);
  builder_.byte(before, text, after);
  white_space(after, to);
}

void JsonRules::add_numbers() {
  // Digits in a row, `from` having read none; each of the states after one goes on to `to`.
  const auto more_digits = [&](StateId from, int most, StateId to) {
    for (int i = 0; i < most; ++i) {
      const StateId next = builder_.state();
      builder_.bytes(from, '0', '9', next);
      builder_.empty(next, to);
      from = next;
    }
  };
  const auto whole = [&](StateId begin, StateId end) {
    const StateId digits = builder_.state();
    builder_.byte(begin, '-', digits);
    builder_.empty(begin, digits);
    builder_.byte(digits, '0', end);
    const StateId first = builder_.state();
    builder_.bytes(digits, '1', '9', first);
    builder_.empty(first, end);
    more_digits(first, kMostIntegerDigits - 1, end);
  };
  integer_ = builder_.state();
  whole(integer_, Pushdown::kReturn);

  number_ = builder_.state();
  const StateId after_whole = builder_.state();
  whole(number_, after_whole);
  builder_.empty(after_whole, Pushdown::kReturn);
  const StateId fraction = builder_.state();
  const StateId after_fraction = builder_.state();
  builder_.byte(after_whole, '.', fraction);
  more_digits(fraction, kMostFractionDigits, after_fraction);
  builder_.empty(after_fraction, Pushdown::kReturn);
  const StateId sign = builder_.state();
  const StateId exponent = builder_.state();
  builder_.any_of(after_whole, "eE", sign);
  builder_.any_of(after_fraction, "eE", sign);
  builder_.any_of(sign, "+-", exponent);
  builder_.empty(sign, exponent);
  more_digits(exponent, 2, Pushdown::kReturn);
  const StateId hundreds = builder_.state();  // 100 to 279
  const StateId two_hundreds = builder_.state();
  const StateId last = builder_.state();
  builder_.byte(exponent, '1', hundreds);
  builder_.bytes(hundreds, '0', '9', last);
  builder_.byte(exponent, '2', two_hundreds);
  builder_.bytes(two_hundreds, '0', '7', last);
  builder_.bytes(last, '0', '9', Pushdown::kReturn);
}

void JsonRules::add_escapes(StateId from, StateId to) {
  const StateId kind = builder_.state();
  builder_.byte(from, '\\', kind);
  builder_.any_of(kind, kEscapes, to);
  const StateId first = builder_.state();
  std::vector<StateId> rest = {to};  // rest[i] reads i more digits
  for (int i = 0; i < 3; ++i) {
    rest.push_back(builder_.state());
    hexadecimal(builder_, rest.back(), rest[rest.size() - 2]);
  }
  builder_.byte(kind, 'u', first);
  builder_.bytes(first, '0', '9', rest[3]);
  builder_.any_of(first, "ABCEFabcef", rest[3]);
  // D800 to DFFF are surrogates: a high one is followed by a low one, a low one never comes alone.
  const StateId after_d = builder_.state();
  builder_.any_of(first, "Dd", after_d);
  builder_.bytes(after_d, '0', '7', rest[2]);
  StateId at = builder_.state();
  builder_.any_of(after_d, "89ABab", at);
  for (int i = 0; i < 2; ++i) {
    const StateId next = builder_.state();
    hexadecimal(builder_, at, next);
    at = next;
  }
  const StateId low = builder_.state();
  const StateId low_second = builder_.state();
  builder_.literal(at, "\\u", low);
  builder_.any_of(low, "Dd", low_second);
  builder_.any_of(low_second, "CDEFcdef", rest[2]);
}

// `rest[i]` reads the last i bytes of a character, `after_lead` what follows a lead byte.
void JsonRules::add_multibyte(StateId to, std::array<StateId, 4>& rest,
                              std::array<StateId, 256>& after_lead) {
  rest[0] = to;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    rest[i] = builder_.state();
    builder_.bytes(rest[i], 0x80, 0xBF, rest[i - 1]);
  }
  for (int byte = 0xC2; byte <= 0xF4; ++byte) {
    const auto lead = static_cast<std::uint8_t>(byte);
    const auto left = static_cast<std::size_t>(character_bytes(lead) - 1);
    const ByteRange second = second_bytes(lead);
    after_lead[lead] = rest[left];
    if (second.low == 0x80 && second.high == 0xBF) continue;
    after_lead[lead] = builder_.state();
    builder_.bytes(after_lead[lead], second.low, second.high, rest[left - 1]);
  }
}

void JsonRules::character(StateId from, StateId to) {
  builder_.bytes(from, 0x20, 0x21, to);
  builder_.bytes(from, 0x23, 0x5B, to);
  builder_.bytes(from, 0x5D, 0x7F, to);
  std::array<StateId, 4> rest{};
  std::array<StateId, 256> after_lead{};
  add_multibyte(to, rest, after_lead);
  if (to == string_body_) {
    string_rest_ = rest;
    string_after_lead_ = after_lead;
  }
  for (int low = 0xC2; low <= 0xF4;) {
    int high = low;
    while (high < 0xF4 && after_lead[static_cast<std::size_t>(high) + 1] ==
                              after_lead[static_cast<std::size_t>(low)])
      ++high;
    builder_.bytes(from, static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high),
                   after_lead[static_cast<std::size_t>(low)]);
    low = high + 1;
  }
  add_escapes(from, to);
}

StateId JsonRules::string(LengthBounds bounds) {
  if (bounds.least == 0 && bounds.most == kUnbounded) return any_string_;
  const StateId begin = builder_.state();
  const StateId body = builder_.state();
  const StateId end = builder_.state();
  builder_.byte(begin, '"', body);
  builder_.at_least(body, bounds.least, end);
  builder_.byte(end, '"', Pushdown::kReturn);
  const StateId next = builder_.state();
  const StateId read = builder_.state();
  builder_.below(body, bounds.most, next);
  character(next, read);
  // NOTE: without an upper bound the counter stops at the lower one, or every length would be a
  // configuration of its own.
  builder_.count(read, bounds.most == kUnbounded ? bounds.least : bounds.most, body);
  return begin;
}

StateId JsonRules::name_except(const std::vector<std::string>& names) {
  if (names.empty()) return any_string_;
  std::vector<NameNode> tree(1);
  for (const std::string& name : names) {
    std::size_t at = 0;
    for (const char byte : name) {
      const auto [next, is_new] = tree[at].next.try_emplace(static_cast<std::uint8_t>(byte), 0);
      if (is_new) next->second = tree.size();
      at = next->second;
      if (is_new) tree.emplace_back();
    }
    tree[at].is_name = true;
  }
  // A node of the tree, and where it is within a character: its lead byte and the bytes of it read.
  struct Open {
    std::size_t node;
    StateId state;
    std::uint8_t lead;
    int read;
  };
  const StateId begin = builder_.state();
  std::vector<Open> open = {{0, builder_.state(), 0, 0}};
  builder_.byte(begin, '"', open[0].state);
  while (!open.empty() && !builder_.full()) {
    const Open here = open.back();
    open.pop_back();
    const NameNode& node = tree[here.node];
    std::map<std::uint8_t, StateId> on_names;
    for (const auto& [byte, next] : node.next) {
      const std::uint8_t lead = here.read == 0 ? byte : here.lead;
      const bool whole = here.read + 1 == character_bytes(lead);
      on_names[byte] = builder_.state();
      open.push_back({next, on_names[byte], lead, whole ? 0 : here.read + 1});
    }
    // `byte` stays on the names where they have it, and else goes to `leave`.
    const auto read = [&](StateId from, std::uint8_t byte, std::uint8_t stands_for, StateId leave) {
      const auto on_name = on_names.find(stands_for);
      builder_.bytes(from, byte, byte, on_name == on_names.end() ? leave : on_name->second);
    };
    if (here.read > 0) {
      const ByteRange range = here.read == 1 ? second_bytes(here.lead) : ByteRange{0x80, 0xBF};
      const StateId leave =
          string_rest_[static_cast<std::size_t>(character_bytes(here.lead) - here.read - 1)];
      for (int byte = range.low; byte <= range.high; ++byte) {
        const auto value = static_cast<std::uint8_t>(byte);
        read(here.state, value, value, leave);
      }
      continue;
    }
    if (!node.is_name) builder_.byte(here.state, '"', Pushdown::kReturn);
    for (std::uint8_t byte = 0x20; byte <= 0x7F; ++byte) {
      if (byte != '"' && byte != '\\') read(here.state, byte, byte, string_body_);
    }
    for (int lead = 0xC2; lead <= 0xF4; ++lead) {
      const auto value = static_cast<std::uint8_t>(lead);
      read(here.state, value, value, string_after_lead_[value]);
    }
    const StateId escape = builder_.state();
    builder_.byte(here.state, '\\', escape);
    for (std::size_t i = 0; i < kEscapes.size(); ++i) {
      read(escape, static_cast<std::uint8_t>(kEscapes[i]), static_cast<std::uint8_t>(kEscaped[i]),
           string_body_);
    }
  }
  return begin;
}

void JsonRules::member(StateId from, StateId name, StateId value, StateId to) {
  const StateId named = builder_.state();
  const StateId before_value = builder_.state();
  builder_.call(from, name, named);
  punctuation(named, ':', before_value);
  builder_.call(before_value, value, to);
}

void JsonRules::items(StateId from, StateId item, LengthBounds bounds, StateId to) {
  const StateId body = builder_.state();
  white_space(from, body);
  const StateId item_begin = builder_.state();
  if (bounds.least == 0) builder_.byte(body, ']', to);
  builder_.below(body, bounds.most, item_begin);
  const StateId item_end = builder_.state();
  const StateId counted = builder_.state();
  builder_.call(item_begin, item, item_end);
  // NOTE: as in string(): no count beyond what is asked.
  builder_.count(item_end, bounds.most == kUnbounded ? bounds.least : bounds.most, counted);
  const StateId enough = builder_.state();
  const StateId close = builder_.state();
  builder_.at_least(counted, bounds.least, enough);
  white_space(enough, close);
  builder_.byte(close, ']', to);
  const StateId more = builder_.state();
  builder_.below(counted, bounds.most, more);
  punctuation(more, ',', item_begin);
}

void JsonRules::add_values() {
  any_value_ = builder_.state();
  builder_.empty(any_value_, any_string_);
  builder_.empty(any_value_, number_);
  for (const std::string_view text : {"true", "false", "null"}) {
    builder_.literal(any_value_, text, Pushdown::kReturn);
  }
  any_array_ = builder_.state();
  const StateId in_array = builder_.state();
  builder_.empty(any_value_, any_array_);
  builder_.byte(any_array_, '[', in_array);
  items(in_array, any_value_, {}, Pushdown::kReturn);
  any_object_ = builder_.state();
  builder_.empty(any_value_, any_object_);
  const StateId in_object = builder_.state();
  const StateId first = builder_.state();
  builder_.byte(any_object_, '{', in_object);
  white_space(in_object, first);
  builder_.byte(first, '}', Pushdown::kReturn);
  members(first, any_string_, any_value_, Pushdown::kReturn);
}

void JsonRules::members(StateId from, StateId name, StateId value, StateId to) {
  const StateId each = builder_.state();
  const StateId after = builder_.state();
  builder_.empty(from, each);
  member(each, name, value, after);
  punctuation(after, ',', each);
  const StateId close = builder_.state();
  white_space(after, close);
  builder_.byte(close, '}', to);
}

}  // namespace moeopt
