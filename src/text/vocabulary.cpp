#include "text/vocabulary.h"

#include <algorithm>

namespace moeopt {

Vocabulary::Vocabulary(const JsonField& field) {
  if (!field.value().is_object()) field.invalid("expected an object");
  // nlohmann::json keeps members in the order of their names' bytes.
  const auto& members = field.value().get_ref<const Json::object_t&>();
  const auto count = static_cast<std::int64_t>(members.size());
  const std::int64_t most = std::min<std::int64_t>(kMostTokenIds, 65536 + 4 * count) - 1;
  std::size_t total_bytes = 0;
  std::int32_t highest = -1;
  sorted_.reserve(members.size());
  for (const auto& [text, value] : members) {
    const bool fast = value.is_number_unsigned() &&
                      value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most);
    const auto id = static_cast<std::int32_t>(
        fast ? value.get<std::int64_t>()
             : JsonField(value, fmt::format("{}[\"{}\"]", field.name(), text)).integer(0, most));
    highest = std::max(highest, id);
    total_bytes += text.size();
    sorted_.push_back(id);
  }
  characters_.reserve(total_bytes + 1);  // one more: never null
  texts_.resize(static_cast<std::size_t>(highest) + 1);
  auto id = sorted_.begin();
  for (const auto& [text, value] : members) {
    std::string_view& slot = texts_[at(*id)];
    if (slot.data() != nullptr) {
      field.invalid(fmt::format("id {} is given to \"{}\" and to \"{}\"", *id, slot, text));
    }
    const char* begin = characters_.data() + characters_.size();
    characters_.insert(characters_.end(), text.begin(), text.end());
    slot = {begin, text.size()};
    ++id;
  }
}

std::optional<std::int32_t> Vocabulary::find(std::string_view text) const {
  const auto found = std::lower_bound(
      sorted_.begin(), sorted_.end(), text,
      [&](std::int32_t id, std::string_view value) { return texts_[at(id)] < value; });
  if (found == sorted_.end() || texts_[at(*found)] != text) return std::nullopt;
  return *found;
}

}  // namespace moeopt
