// A regular expression of a tokenizer.json, compiled once, and the search for all its matches.
// Both the expression and the text are outside data. Invariant: every search ends, with all matches
// or with an Error, after processor time proportional to the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace moeopt {

struct RegexMatch {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// The processor time that the searches of one call may take together.
class RegexBudget {
 public:
  explicit RegexBudget(std::size_t text_bytes) : text_bytes_(text_bytes) {}

  // Counts one step; Error(kInvalidData) once the time is spent. `now` looks at the clock at once.
  void spend(bool now = false) {
    if (++steps_ % 256 == 0 || now) check_clock();
  }

 private:
  void check_clock();

  std::size_t text_bytes_;
  std::uint64_t steps_ = 0;
  std::int64_t start_ns_ = -1;
};

class Regex {
 public:
  // `pattern` in Oniguruma's syntax; errors as translate_oniguruma, and Error(kInvalidData) when it
  // is malformed or too large.
  Regex(std::string_view pattern, std::string_view where);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // All matches in `text` (valid UTF-8) in order, as Oniguruma's find_iter: leftmost, not
  // overlapping, no empty match directly after another match. Error(kInvalidData) when the
  // expression backtracks more than any sane one.
  class Search {
   public:
    Search(const Regex& regex, std::string_view text, RegexBudget& budget)
        : regex_(regex), text_(text), budget_(budget) {}
    bool next(RegexMatch& match);

   private:
    bool next_candidate(RegexMatch& match);
    std::size_t boundary_at_or_after(std::size_t at) const;

    const Regex& regex_;
    std::string_view text_;
    RegexBudget& budget_;
    std::size_t at_ = 0;
    std::size_t last_match_end_ = SIZE_MAX;
  };

 private:
  struct Code;
  std::unique_ptr<const Code> code_;
};

}  // namespace moeopt
