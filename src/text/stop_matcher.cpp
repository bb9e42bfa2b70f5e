#include "text/stop_matcher.h"

#include <utility>

namespace moeopt {

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) continue;
    Stop stop{std::move(stops[i]), i, {0}};
    // Knuth, Morris and Pratt's table: each prefix is matched against the string itself.
    for (std::size_t at = 1; at < stop.text.size(); ++at) {
      advance(stop, stop.text[at]);
      stop.failure.push_back(stop.matched);
    }
    stop.matched = 0;
    stops_.push_back(std::move(stop));
  }
}

void StopMatcher::advance(Stop& stop, char byte) {
  while (stop.matched > 0 && stop.text[stop.matched] != byte) {
    stop.matched = stop.failure[stop.matched - 1];
  }
  if (stop.text[stop.matched] == byte) ++stop.matched;
}

std::string_view StopMatcher::held() const {
  std::string_view longest;
  for (const Stop& stop : stops_) {
    if (stop.matched > longest.size())
      longest = std::string_view(stop.text).substr(0, stop.matched);
  }
  return longest;
}

std::string StopMatcher::push(std::string_view text) {
  if (hit_) return {};
  // A view of a stop string, not of the state that advance() changes.
  const std::string_view before = held();
  std::size_t keep = 0;  // bytes of `before` and `text` together that are not returned
  for (std::size_t at = 0; at < text.size() && !hit_; ++at) {
    for (Stop& stop : stops_) {
      advance(stop, text[at]);
      if (stop.matched == stop.text.size() && stop.text.size() > keep) {
        keep = stop.text.size();
        hit_ = stop.index;
      }
    }
    if (hit_) text = text.substr(0, at + 1);
  }
  if (!hit_) keep = held().size();
  const std::size_t size_bytes = before.size() + text.size() - keep;
  std::string out(before.substr(0, size_bytes));
  out += text.substr(0, size_bytes - out.size());
  return out;
}

std::string StopMatcher::finish() {
  return hit_ ? std::string() : std::string(held());
}

}  // namespace moeopt
