// An automaton over bytes walked along the tokens of a vocabulary: masks of what may come next.
// JsonGrammar owns one; all texts that follow the same grammar share it, its configurations and its
// masks, under one lock.
// Invariant: a mask depends on the text alone, not on what was cached; it is never empty.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "text/grammar/configurations.h"
#include "text/grammar/pushdown.h"
#include "text/grammar/vocabulary_trie.h"

namespace moeopt {

class TokenMachine {
 public:
  // `vocabulary` must outlive it. `end_ids`: at least one, each below the size of the vocabulary.
  TokenMachine(Pushdown automaton, const VocabularyTrie& vocabulary,
               std::span<const std::int32_t> end_ids);
  TokenMachine(const TokenMachine&) = delete;
  TokenMachine& operator=(const TokenMachine&) = delete;

  // A text that follows the grammar; leave() gives its number back.
  std::size_t enter();
  void leave(std::size_t text);

  // As TokenConstraint, for text number `text`.
  void fill_mask(std::size_t text, std::span<std::uint64_t> allowed);
  // Error(kInternal) when the grammar does not allow `id` here.
  void accept(std::size_t text, std::int32_t id);
  bool complete(std::size_t text);

  struct Statistics {
    std::uint64_t masks_made = 0;
    std::uint64_t masks_found = 0;
    std::uint64_t collections = 0;
    std::uint64_t walks_cut_short =
        0;  // tokens beyond the first bytes were left out: see kMostChargedSteps
  };
  Statistics statistics();

 private:
  static constexpr std::uint32_t kNoMask = UINT32_MAX;

  ConfigurationId step(ConfigurationId& from, std::uint8_t byte, std::size_t path_size);
  void collect(std::size_t path_size);
  std::span<std::uint64_t> mask(std::uint32_t slot) {
    return std::span(masks_).subspan(slot * mask_words_, mask_words_);
  }
  void make_mask(ConfigurationId configuration, std::span<std::uint64_t> out);

  const Pushdown automaton_;
  const VocabularyTrie& vocabulary_;
  const std::vector<std::int32_t> end_ids_;
  const std::size_t mask_words_;

  std::mutex mutex_;
  Configurations configurations_;
  // Where each text is; kEnded after an end id.
  static constexpr ConfigurationId kFree = UINT32_MAX;
  static constexpr ConfigurationId kEnded = UINT32_MAX - 1;
  std::vector<ConfigurationId> texts_;
  std::vector<ConfigurationId*> roots_;

  // The mask of a configuration, replaced in turn.
  std::vector<std::uint64_t> masks_;
  std::vector<ConfigurationId> mask_owner_;  // by slot; kDead: free
  std::vector<std::uint32_t> mask_of_;       // by configuration
  std::size_t next_slot_ = 0;

  // Of a walk: the configuration after each byte of the token it is at.
  std::vector<ConfigurationId> path_;
  std::uint64_t steps_charged_ = 0;
  Statistics statistics_;
};

}  // namespace moeopt
