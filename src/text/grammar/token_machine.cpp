#include "text/grammar/token_machine.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"

namespace moeopt {
namespace {

constexpr std::size_t kMaskCacheBytes = std::size_t{4} << 20;
// Steps of single threads that one mask may take anew: bounds its time for grammars with many
// readings of the same text. Where it runs out, only tokens of one byte and those walked before
// stay allowed.
constexpr std::uint64_t kMostChargedSteps = 1 << 19;

void set_bit(std::span<std::uint64_t> words, std::int32_t id) {
  words[static_cast<std::size_t>(id) / 64] |= std::uint64_t{1} << (id % 64);
}

bool has_bit(std::span<const std::uint64_t> words, std::int32_t id) {
  return (words[static_cast<std::size_t>(id) / 64] >> (id % 64) & 1) != 0;
}

}  // namespace

TokenMachine::TokenMachine(Pushdown automaton, const VocabularyTrie& vocabulary,
                           std::span<const std::int32_t> end_ids)
    : automaton_(std::move(automaton)),
      vocabulary_(vocabulary),
      end_ids_(end_ids.begin(), end_ids.end()),
      mask_words_((static_cast<std::size_t>(vocabulary.id_end()) + 63) / 64),
      configurations_(automaton_),
      path_(VocabularyTrie::kMostTokenBytes + 1) {
  MOEOPT_CHECK(!end_ids_.empty());
  for (const std::int32_t id : end_ids_) {
    MOEOPT_CHECK(id >= 0);
    MOEOPT_CHECK(id < vocabulary.id_end());
  }
  const std::size_t mask_bytes = mask_words_ * sizeof(std::uint64_t);
  const std::size_t n_slots = std::clamp<std::size_t>(kMaskCacheBytes / mask_bytes, 8, 1024);
  masks_.resize(n_slots * mask_words_);
  mask_owner_.assign(n_slots, Configurations::kDead);
  mask_of_.assign(configurations_.capacity(), kNoMask);
}

std::size_t TokenMachine::enter() {
  const std::lock_guard lock(mutex_);
  std::size_t text =
      static_cast<std::size_t>(std::find(texts_.begin(), texts_.end(), kFree) - texts_.begin());
  if (text == texts_.size()) {
    texts_.push_back(kFree);
    roots_.reserve(texts_.size() + path_.size());
  }
  if (!configurations_.has_room()) collect(0);
  texts_[text] = configurations_.start();
  return text;
}

void TokenMachine::leave(std::size_t text) {
  const std::lock_guard lock(mutex_);
  texts_[text] = kFree;
}

// Forgets every configuration that no text is in and that is not on the path of the walk.
void TokenMachine::collect(std::size_t path_size) {
  roots_.clear();
  for (ConfigurationId& id : texts_) {
    if (id < kEnded) roots_.push_back(&id);
  }
  for (std::size_t i = 0; i < path_size; ++i) roots_.push_back(&path_[i]);
  std::fill(mask_owner_.begin(), mask_owner_.end(), Configurations::kDead);
  configurations_.collect(roots_, [&](ConfigurationId from, ConfigurationId to) {
    // NOTE: `to` <= `from`, ascending: what is overwritten was read before.
    mask_of_[to] = mask_of_[from];
    if (mask_of_[to] != kNoMask) mask_owner_[mask_of_[to]] = to;
  });
  std::fill(mask_of_.begin() + static_cast<std::ptrdiff_t>(configurations_.size()), mask_of_.end(),
            kNoMask);
  mask_of_.resize(configurations_.capacity(), kNoMask);
  ++statistics_.collections;
}

ConfigurationId TokenMachine::step(ConfigurationId& from, std::uint8_t byte,
                                   std::size_t path_size) {
  if (!configurations_.has_room()) collect(path_size);
  const Configurations::Step step = configurations_.step(from, byte);
  if (step.new_to_walk) steps_charged_ += 1 + configurations_.n_threads(from);
  return step.to;
}

void TokenMachine::make_mask(ConfigurationId configuration, std::span<std::uint64_t> out) {
  std::fill(out.begin(), out.end(), 0);
  configurations_.begin_walk();
  steps_charged_ = 0;
  path_[0] = configuration;
  const std::span<const VocabularyTrie::Node> nodes = vocabulary_.nodes();
  bool cut_short = false;
  for (std::uint32_t at = 0; at < nodes.size();) {
    const VocabularyTrie::Node& node = nodes[at];
    const std::size_t depth = node.depth;
    if (steps_charged_ > kMostChargedSteps && depth > 1) {
      cut_short = true;
      at = node.end;
      continue;
    }
    const ConfigurationId next = step(path_[depth - 1], node.byte, depth);
    if (next == Configurations::kDead) {
      at = node.end;
      continue;
    }
    path_[depth] = next;
    if (node.id >= 0) set_bit(out, node.id);
    ++at;
  }
  for (const VocabularyTrie::Twin& twin : vocabulary_.twins()) {
    if (has_bit(out, twin.same_as)) set_bit(out, twin.id);
  }
  if (configurations_.accepts(path_[0])) {
    for (const std::int32_t id : end_ids_) set_bit(out, id);
  }
  ++statistics_.masks_made;
  statistics_.walks_cut_short += cut_short ? 1 : 0;
}

void TokenMachine::fill_mask(std::size_t text, std::span<std::uint64_t> allowed) {
  const std::lock_guard lock(mutex_);
  MOEOPT_CHECK(allowed.size() >= mask_words_);
  std::fill(allowed.begin(), allowed.end(), 0);
  if (texts_[text] == kEnded) {
    for (const std::int32_t id : end_ids_) set_bit(allowed, id);
    return;
  }
  std::uint32_t slot = mask_of_[texts_[text]];
  if (slot == kNoMask) {
    slot = static_cast<std::uint32_t>(next_slot_);
    next_slot_ = (next_slot_ + 1) % mask_owner_.size();
    if (const ConfigurationId owner = mask_owner_[slot]; owner != Configurations::kDead) {
      mask_of_[owner] = kNoMask;
      mask_owner_[slot] = Configurations::kDead;
    }
    make_mask(texts_[text], mask(slot));  // may renumber the configurations
    mask_owner_[slot] = texts_[text];
    mask_of_[texts_[text]] = slot;
  } else {
    ++statistics_.masks_found;
  }
  const std::span<const std::uint64_t> made = mask(slot);
  std::copy(made.begin(), made.end(), allowed.begin());
}

void TokenMachine::accept(std::size_t text, std::int32_t id) {
  const std::lock_guard lock(mutex_);
  ConfigurationId& at = texts_[text];
  const bool is_end = std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end();
  if (is_end && (at == kEnded || configurations_.accepts(at))) {
    at = kEnded;
    return;
  }
  const std::string_view bytes = vocabulary_.bytes(id);
  path_[0] = at == kEnded || bytes.empty() ? Configurations::kDead : at;
  for (const char byte : bytes) path_[0] = step(path_[0], static_cast<std::uint8_t>(byte), 1);
  if (path_[0] == Configurations::kDead) {
    throw_error(ErrorCode::kInternal, "token {} was sampled against the grammar of its text", id);
  }
  at = path_[0];
}

bool TokenMachine::complete(std::size_t text) {
  const std::lock_guard lock(mutex_);
  return texts_[text] == kEnded || configurations_.accepts(texts_[text]);
}

TokenMachine::Statistics TokenMachine::statistics() {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

}  // namespace moeopt
