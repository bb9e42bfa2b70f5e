// A value of an outside JSON document together with its name, for errors that say where.
// Invariant: every accessor either returns what was asked for or throws an Error naming the field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace moeopt {

class JsonField {
 public:
  // `value` must outlive the field; `name` is "FILE: path.to.field".
  JsonField(const Json& value, std::string name) : value_(&value), name_(std::move(name)) {}
  // The whole document in file `where`.
  static JsonField root(const Json& value, std::string_view where) {
    return {value, std::string(where) + ": "};
  }

  const Json& value() const { return *value_; }
  const std::string& name() const { return name_; }

  // The member `key`; Error(kInvalidData) when this is no object or has no such member.
  JsonField at(const std::string& key) const;
  // The same, or nothing when the member is absent or null.
  std::optional<JsonField> find(const std::string& key) const;
  // An element of an array that was checked to be long enough.
  JsonField element(std::size_t index) const;
  // The length of this array; Error(kInvalidData) when it is no array.
  std::size_t array_size() const;

  const std::string& string() const;
  bool boolean() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;
  // One character of a string that must hold exactly one.
  char32_t character() const;
  // The member `key` when present and true or false, else `fallback`.
  bool flag(const std::string& key, bool fallback) const;

  [[noreturn]] void invalid(std::string_view why) const;
  [[noreturn]] void unsupported(std::string_view what) const;

 private:
  std::string name_of(const std::string& key) const;
  std::string_view shown_name() const;

  const Json* value_;
  std::string name_;
};

}  // namespace moeopt
