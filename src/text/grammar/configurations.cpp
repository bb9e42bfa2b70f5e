#include "text/grammar/configurations.h"

#include <algorithm>
#include <bit>

namespace moeopt {
namespace {

constexpr std::size_t kFirstCapacity = 4096;
constexpr std::size_t kThreadsEach = 8;  // of a configuration, on average, before a collection

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ULL;
  return hash ^ (hash >> 29);
}

}  // namespace

void Configurations::IndexSet::reset(std::size_t capacity) {
  slots.assign(std::bit_ceil(capacity * 2), kUnknown);
}

// The slot of an equal key, or the free one where it belongs.
template <typename Equal>
std::uint32_t& Configurations::IndexSet::find(std::uint64_t hash, Equal&& equal) {
  const std::size_t mask = slots.size() - 1;
  std::size_t at = static_cast<std::size_t>(hash ^ (hash >> 32)) & mask;
  while (slots[at] != kUnknown && !equal(slots[at])) at = (at + 1) & mask;
  return slots[at];
}

Configurations::Configurations(const Pushdown& automaton) : automaton_(automaton) {
  reached_.reserve(kMostVisits);
  reached_slots_.reserve(kMostVisits);
  readers_.reserve(kMostThreads);
  reached_set_.reset(kMostVisits);
  configurations_.push_back({0, 0, false});  // kDead
  calls_.push_back({});                      // none open
  reserve(kFirstCapacity);
  std::fill_n(transitions_.begin(), automaton_.n_classes(), Transition{kDead, 0});
}

void Configurations::reserve(std::size_t configurations) {
  capacity_ = configurations;
  configurations_.reserve(capacity_);
  threads_.reserve(capacity_ * kThreadsEach + kMostThreads);
  calls_.reserve(capacity_ * kThreadsEach + kMostVisits);
  transitions_.resize(capacity_ * automaton_.n_classes());
  configuration_set_.reset(capacity_);
  call_set_.reset(calls_.capacity());
  new_configurations_.reserve(capacity_);
  new_calls_.reserve(calls_.capacity());
}

bool Configurations::has_room() const {
  return configurations_.size() < capacity_ && threads_.size() <= capacity_ * kThreadsEach &&
         calls_.size() <= capacity_ * kThreadsEach;
}

void Configurations::begin_walk() {
  if (++walk_ != 0) return;
  for (Transition& transition : transitions_) transition.walk = 0;
  walk_ = 1;
}

ConfigurationId Configurations::start() {
  add({automaton_.start(), 0, 0});
  close();
  return intern();
}

ConfigurationId Configurations::take(ConfigurationId from, std::uint8_t byte) {
  if (automaton_.class_of(byte) == 0) return kDead;
  const Configuration source = configurations_[from];
  for (std::uint32_t i = 0; i < source.n_threads; ++i) {
    const Thread thread = threads_[source.first_thread + i];
    for (const Pushdown::Edge& edge : automaton_.edges(thread.state)) {
      if (edge.kind == Pushdown::Edge::Kind::kBytes && edge.low <= byte && byte <= edge.high) {
        add({edge.target, thread.counter, thread.calls});
      }
    }
  }
  close();
  return intern();
}

// Adds a thread to the step being taken, unless it is there or leads nowhere.
void Configurations::add(Thread thread) {
  while (thread.state == Pushdown::kReturn) {
    if (thread.calls == 0) {
      accepts_ = true;
      return;
    }
    thread = calls_[thread.calls].caller;
  }
  if (calls_[thread.calls].depth + automaton_.need(thread.state) > Pushdown::kMostDepth) return;
  if (reached_.size() == kMostVisits) return;
  const std::uint64_t hash = mix(mix(mix(1, thread.state), thread.counter), thread.calls);
  std::uint32_t& slot =
      reached_set_.find(hash, [&](std::uint32_t at) { return reached_[at] == thread; });
  if (slot != kUnknown) return;
  slot = static_cast<std::uint32_t>(reached_.size());
  reached_slots_.push_back(static_cast<std::uint32_t>(&slot - reached_set_.slots.data()));
  reached_.push_back(thread);
}

// Follows the edges that read nothing.
void Configurations::close() {
  using Kind = Pushdown::Edge::Kind;
  for (std::size_t i = 0; i < reached_.size(); ++i) {
    const Thread thread = reached_[i];
    if (automaton_.reads_bytes(thread.state) && readers_.size() < kMostThreads) {
      readers_.push_back(thread);
    }
    for (const Pushdown::Edge& edge : automaton_.edges(thread.state)) {
      Thread next{edge.target, thread.counter, thread.calls};
      switch (edge.kind) {
        case Kind::kBytes:
          continue;
        case Kind::kEmpty:
          break;
        case Kind::kBelow:
          if (thread.counter >= edge.value) continue;
          break;
        case Kind::kAtLeast:
          if (thread.counter < edge.value) continue;
          break;
        case Kind::kCount:
          next.counter = std::min(thread.counter + 1, edge.value);
          break;
        case Kind::kCall: {
          const std::uint32_t depth = calls_[thread.calls].depth + 1;
          if (depth + automaton_.need(edge.value) > Pushdown::kMostDepth) continue;
          if (reached_.size() == kMostVisits) continue;
          next = {edge.value, 0, intern_call({next, depth})};
          break;
        }
      }
      add(next);
    }
  }
}

std::uint32_t Configurations::intern_call(const Call& call) {
  const Thread& caller = call.caller;
  const std::uint64_t hash = mix(mix(mix(2, caller.state), caller.counter), caller.calls);
  std::uint32_t& slot =
      call_set_.find(hash, [&](std::uint32_t at) { return calls_[at].caller == caller; });
  if (slot == kUnknown) {
    slot = static_cast<std::uint32_t>(calls_.size());
    calls_.push_back(call);
  }
  return slot;
}

std::uint64_t Configurations::hash_threads(std::span<const Thread> threads, bool accepts) const {
  std::uint64_t hash = accepts ? 3 : 4;
  for (const Thread& thread : threads) {
    hash = mix(mix(mix(hash, thread.state), thread.counter), thread.calls);
  }
  return hash;
}

// Ends the step being taken: the number of where it led.
ConfigurationId Configurations::intern() {
  ConfigurationId id = kDead;
  if (accepts_ || !readers_.empty()) {
    std::uint32_t& slot =
        configuration_set_.find(hash_threads(readers_, accepts_), [&](std::uint32_t at) {
          const std::span<const Thread> known = threads(at);
          return configurations_[at].accepts == accepts_ &&
                 std::equal(known.begin(), known.end(), readers_.begin(), readers_.end());
        });
    if (slot == kUnknown) {
      slot = static_cast<std::uint32_t>(configurations_.size());
      configurations_.push_back({static_cast<std::uint32_t>(threads_.size()),
                                 static_cast<std::uint32_t>(readers_.size()), accepts_});
      threads_.insert(threads_.end(), readers_.begin(), readers_.end());
      const auto row = transitions_.begin() +
                       static_cast<std::ptrdiff_t>(slot * std::size_t{automaton_.n_classes()});
      std::fill_n(row, automaton_.n_classes(), Transition{});
    }
    id = slot;
  }
  for (const std::uint32_t slot : reached_slots_) reached_set_.slots[slot] = kUnknown;
  reached_slots_.clear();
  reached_.clear();
  readers_.clear();
  accepts_ = false;
  return id;
}

// Old numbers to new ones, kUnknown for what went. Calls come after the ones below them, threads
// in the order of their configurations: all of them only move down.
std::span<const ConfigurationId> Configurations::compact(std::span<ConfigurationId* const> roots) {
  new_configurations_.assign(configurations_.size(), kUnknown);
  new_calls_.assign(calls_.size(), kUnknown);
  new_configurations_[kDead] = 0;
  new_calls_[0] = 0;
  for (const ConfigurationId* root : roots) new_configurations_[*root] = 0;
  for (ConfigurationId id = 1; id < configurations_.size(); ++id) {
    if (new_configurations_[id] == kUnknown) continue;
    for (const Thread& thread : threads(id)) {
      for (std::uint32_t call = thread.calls; new_calls_[call] == kUnknown;
           call = calls_[call].caller.calls) {
        new_calls_[call] = 0;
      }
    }
  }
  std::uint32_t n_calls = 1;
  for (std::uint32_t call = 1; call < calls_.size(); ++call) {
    if (new_calls_[call] == kUnknown) continue;
    Call moved = calls_[call];
    moved.caller.calls = new_calls_[moved.caller.calls];
    new_calls_[call] = n_calls;
    calls_[n_calls++] = moved;
  }
  calls_.resize(n_calls);
  std::uint32_t n_configurations = 1;
  std::uint32_t n_threads = 0;
  for (ConfigurationId id = 1; id < configurations_.size(); ++id) {
    if (new_configurations_[id] == kUnknown) continue;
    const Configuration from = configurations_[id];
    configurations_[n_configurations] = {n_threads, from.n_threads, from.accepts};
    for (std::uint32_t i = 0; i < from.n_threads; ++i) {
      Thread moved = threads_[from.first_thread + i];
      moved.calls = new_calls_[moved.calls];
      threads_[n_threads++] = moved;
    }
    new_configurations_[id] = n_configurations++;
  }
  configurations_.resize(n_configurations, {});
  threads_.resize(n_threads);
  for (ConfigurationId* root : roots) *root = new_configurations_[*root];

  const bool full = n_configurations > capacity_ / 2 || n_threads > capacity_ * kThreadsEach / 2 ||
                    n_calls > capacity_ * kThreadsEach / 2;
  if (full) {
    reserve(capacity_ * 2);
  } else {
    configuration_set_.reset(capacity_);
    call_set_.reset(calls_.capacity());
  }
  for (std::uint32_t call = 1; call < n_calls; ++call) {
    const Thread& caller = calls_[call].caller;
    const std::uint64_t hash = mix(mix(mix(2, caller.state), caller.counter), caller.calls);
    call_set_.find(hash, [](std::uint32_t) { return false; }) = call;
  }
  for (ConfigurationId id = 1; id < n_configurations; ++id) {
    const std::uint64_t hash = hash_threads(threads(id), configurations_[id].accepts);
    configuration_set_.find(hash, [](std::uint32_t) { return false; }) = id;
  }
  const std::size_t n_used = std::size_t{n_configurations} * automaton_.n_classes();
  std::fill_n(transitions_.begin(), n_used, Transition{});
  std::fill_n(transitions_.begin(), automaton_.n_classes(), Transition{kDead, 0});
  return new_configurations_;
}

}  // namespace moeopt
