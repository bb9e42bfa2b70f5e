// The vocabulary of a BPE model: token texts and their ids, both ways.
// Invariant: texts and ids are unique; ids are below kMostTokenIds and not far above the count, so
// that arrays indexed by id are safe to make.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "text/json_field.h"

namespace moeopt {

inline constexpr std::int32_t kMostTokenIds = 1 << 22;

class Vocabulary {
 public:
  // From the object {"text": id, ...}.
  explicit Vocabulary(const JsonField& field);

  std::size_t size() const { return sorted_.size(); }
  // One more than the highest id.
  std::int32_t id_end() const { return static_cast<std::int32_t>(texts_.size()); }
  std::optional<std::int32_t> find(std::string_view text) const;
  bool has(std::int32_t id) const { return id >= 0 && id < id_end() && texts_[at(id)].data(); }
  // The text of an id below id_end(); empty for an id that no token has.
  std::string_view text(std::int32_t id) const { return texts_[at(id)]; }

 private:
  static std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

  std::vector<char> characters_;
  std::vector<std::string_view> texts_;  // by id; data() is null where there is no token
  std::vector<std::int32_t> sorted_;     // ids by text
};

}  // namespace moeopt
