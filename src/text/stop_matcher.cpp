#include "text/stop_matcher.h"

#include <algorithm>
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

std::string StopMatcher::push(std::string_view text) {
  if (hit_) return {};
  for (std::size_t at = 0; at < text.size(); ++at) {
    const Stop* found = nullptr;
    for (Stop& stop : stops_) {
      advance(stop, text[at]);
      const bool complete = stop.matched == stop.text.size();
      if (complete && (found == nullptr || stop.text.size() > found->text.size())) found = &stop;
    }
    if (found == nullptr) continue;
    hit_ = found->index;
    held_ += text.substr(0, at + 1);
    held_.resize(held_.size() - found->text.size());
    return std::exchange(held_, {});
  }
  held_ += text;
  std::size_t keep = 0;
  for (const Stop& stop : stops_) keep = std::max(keep, stop.matched);
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, {});
}

}  // namespace moeopt
