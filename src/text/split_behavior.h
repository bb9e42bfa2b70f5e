// How the pieces between and under the matches of a pattern are put together.
#pragma once

#include <cstddef>
#include <optional>

#include "text/json_field.h"

namespace moeopt {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// From a field that names one, as "MergedWithNext".
SplitBehavior read_split_behavior(const JsonField& field);

// Takes the pieces of a text in order, each a match or not, together covering it, and calls
// `emit(begin, end)` for each resulting piece.
template <typename Emit>
class SplitFolder {
 public:
  SplitFolder(SplitBehavior behavior, Emit emit) : behavior_(behavior), emit_(std::move(emit)) {}

  void add(std::size_t begin, std::size_t end, bool is_match) {
    switch (behavior_) {
      case SplitBehavior::kRemoved:
        if (!is_match) emit_(begin, end);
        return;
      case SplitBehavior::kIsolated:
        emit_(begin, end);
        return;
      case SplitBehavior::kMergedWithPrevious:
        return add_or_extend(begin, end, is_match, is_match && !last_was_match_);
      case SplitBehavior::kMergedWithNext:
        return add_or_extend(begin, end, is_match, !is_match && last_was_match_);
      case SplitBehavior::kContiguous:
        return add_or_extend(begin, end, is_match, is_match == last_was_match_);
    }
  }

  void finish() {
    if (pending_) emit_(pending_begin_, pending_end_);
    pending_ = false;
  }

 private:
  void add_or_extend(std::size_t begin, std::size_t end, bool is_match, bool extend) {
    if (!pending_ || !extend) {
      finish();
      pending_begin_ = begin;
      pending_ = true;
    }
    pending_end_ = end;
    last_was_match_ = is_match;
  }

  SplitBehavior behavior_;
  Emit emit_;
  bool pending_ = false;
  bool last_was_match_ = false;
  std::size_t pending_begin_ = 0;
  std::size_t pending_end_ = 0;
};

}  // namespace moeopt
