#include "text/jinja/filters.h"

#include <algorithm>

namespace moeopt::jinja {

const Filter* find_filter(std::string_view name) {
  static constexpr Filter kLeftOut[] = {
      {"filesizeformat", nullptr}, {"pprint", nullptr},   {"random", nullptr},
      {"striptags", nullptr},      {"truncate", nullptr}, {"urlencode", nullptr},
      {"urlize", nullptr},         {"wordwrap", nullptr}, {"xmlattr", nullptr},
  };
  const std::span<const Filter> families[] = {text_filters(), number_filters(), sequence_filters(),
                                              selection_filters(), kLeftOut};
  for (const auto family : families) {
    const auto found = std::find_if(family.begin(), family.end(),
                                    [&](const Filter& filter) { return filter.name == name; });
    if (found != family.end()) return &*found;
  }
  return nullptr;
}

}  // namespace moeopt::jinja
