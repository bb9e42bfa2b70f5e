// Stop strings in a text that comes in parts.
// Invariant: nothing that belongs to a stop string, or may yet turn out to, is ever returned; where
// the text is cut does not depend on how it was split into parts.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt {

class StopMatcher {
 public:
  // Empty stop strings are left out.
  explicit StopMatcher(std::vector<std::string> stops);

  // Text that is certain to come before any stop string and was not returned before. After a hit:
  // empty.
  std::string push(std::string_view text);
  // The end of the text: what was held back, empty after a hit.
  std::string finish();

  // The index (as given to the constructor) of the stop string that was found: the one that is
  // complete first, the longest of those.
  std::optional<std::size_t> hit() const { return hit_; }

 private:
  struct Stop {
    std::string text;
    std::size_t index;
    std::vector<std::size_t> failure;  // length of the longest border of each prefix
    std::size_t matched = 0;           // bytes of it that the text so far ends with
  };

  static void advance(Stop& stop, char byte);
  // The longest end of the text that begins a stop string: all that is held back.
  std::string_view held() const;

  std::vector<Stop> stops_;
  std::optional<std::size_t> hit_;
};

}  // namespace moeopt
