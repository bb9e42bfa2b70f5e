// The merging of byte pair encoding: repeatedly the pair of lowest rank, the leftmost first.
#pragma once

#include <cstdint>
#include <vector>

#include "text/merge_table.h"

namespace moeopt {

class BpeMerger {
 public:
  // Merges `symbols` (token ids) in place, in O(n log n). Where `forbidden` is given, no merge
  // makes an id that it marks.
  void merge(const MergeTable& table, std::vector<std::int32_t>& symbols,
             const std::vector<bool>* forbidden);

 private:
  struct Candidate {
    std::uint32_t rank;
    std::int32_t result;
    std::uint32_t at;
  };
  struct Symbol {
    std::int32_t id;
    std::uint32_t previous;
    std::uint32_t next;
    bool gone;
  };

  void merge_short(const MergeTable& table, std::vector<std::int32_t>& symbols,
                   const std::vector<bool>* forbidden);
  void merge_long(const MergeTable& table, std::vector<std::int32_t>& symbols,
                  const std::vector<bool>* forbidden);

  std::vector<Merge> pairs_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace moeopt
