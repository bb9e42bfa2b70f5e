// What Split and Replace look for: a literal text or a regular expression.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/json_field.h"
#include "text/regex.h"

namespace moeopt {

class Pattern {
 public:
  // From {"String": "..."} or {"Regex": "..."}.
  explicit Pattern(const JsonField& field);

  // Calls `visit(RegexMatch)` for all matches, in order and not overlapping.
  template <typename Visit>
  void for_each_match(std::string_view text, RegexBudget& budget, Visit&& visit) const {
    if (regex_) {
      Regex::Search search(*regex_, text, budget);
      for (RegexMatch match; search.next(match);) visit(match);
      return;
    }
    for (std::size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size())) {
      visit(RegexMatch{at, at + literal_.size()});
    }
  }

 private:
  std::string literal_;  // not empty where there is no regex_
  std::optional<Regex> regex_;
};

}  // namespace moeopt
