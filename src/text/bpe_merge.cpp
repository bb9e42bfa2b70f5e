#include "text/bpe_merge.h"

#include <algorithm>

namespace moeopt {
namespace {

constexpr std::size_t kShortWord = 32;
constexpr std::uint32_t kNone = UINT32_MAX;

Merge find_merge(const MergeTable& table, std::int32_t left, std::int32_t right,
                 const std::vector<bool>* forbidden) {
  const Merge merge = table.find(left, right);
  if (forbidden != nullptr && merge.rank != kNoMerge &&
      (*forbidden)[static_cast<std::size_t>(merge.result)]) {
    return {};
  }
  return merge;
}

}  // namespace

void BpeMerger::merge(const MergeTable& table, std::vector<std::int32_t>& symbols,
                      const std::vector<bool>* forbidden) {
  if (symbols.size() <= kShortWord) {
    merge_short(table, symbols, forbidden);
  } else {
    merge_long(table, symbols, forbidden);
  }
}

// Looks at every pair for each merge: the fastest way for few symbols.
void BpeMerger::merge_short(const MergeTable& table, std::vector<std::int32_t>& symbols,
                            const std::vector<bool>* forbidden) {
  if (symbols.size() < 2) return;
  pairs_.clear();
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    pairs_.push_back(find_merge(table, symbols[i], symbols[i + 1], forbidden));
  }
  while (!pairs_.empty()) {
    const auto best =
        std::min_element(pairs_.begin(), pairs_.end(),
                         [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    if (best->rank == kNoMerge) return;
    const auto at = static_cast<std::size_t>(best - pairs_.begin());
    symbols[at] = best->result;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    pairs_.erase(best);
    if (at > 0) pairs_[at - 1] = find_merge(table, symbols[at - 1], symbols[at], forbidden);
    if (at < pairs_.size()) pairs_[at] = find_merge(table, symbols[at], symbols[at + 1], forbidden);
  }
}

// A linked list of symbols and a heap of candidates; a candidate is checked when it is taken.
void BpeMerger::merge_long(const MergeTable& table, std::vector<std::int32_t>& symbols,
                           const std::vector<bool>* forbidden) {
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  };
  const auto count = static_cast<std::uint32_t>(symbols.size());
  symbols_.clear();
  heap_.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    symbols_.push_back({symbols[i], i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1, false});
    if (i + 1 == count) break;
    const Merge merge = find_merge(table, symbols[i], symbols[i + 1], forbidden);
    if (merge.rank != kNoMerge) heap_.push_back({merge.rank, merge.result, i});
  }
  std::make_heap(heap_.begin(), heap_.end(), later);
  const auto push = [&](std::uint32_t at) {
    const Symbol& left = symbols_[at];
    const Merge merge = find_merge(table, left.id, symbols_[left.next].id, forbidden);
    if (merge.rank == kNoMerge) return;
    heap_.push_back({merge.rank, merge.result, at});
    std::push_heap(heap_.begin(), heap_.end(), later);
  };
  while (!heap_.empty()) {
    const Candidate candidate = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), later);
    heap_.pop_back();
    Symbol& left = symbols_[candidate.at];
    if (left.gone || left.next == kNone) continue;
    Symbol& right = symbols_[left.next];
    const Merge merge = find_merge(table, left.id, right.id, forbidden);
    if (merge.rank == kNoMerge || merge.result != candidate.result) continue;
    left.id = candidate.result;
    left.next = right.next;
    right.gone = true;
    if (left.next != kNone) symbols_[left.next].previous = candidate.at;
    if (left.previous != kNone) push(left.previous);
    if (left.next != kNone) push(candidate.at);
  }
  symbols.clear();
  for (std::uint32_t i = 0; i != kNone; i = symbols_[i].next) symbols.push_back(symbols_[i].id);
}

}  // namespace moeopt
