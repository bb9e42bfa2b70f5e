// The places a pushdown automaton can be in after some bytes, numbered, with the steps between them
// as far as they were taken: a deterministic automaton that is made while it is walked.
// Owned and locked by TokenMachine.
// A configuration is a set of threads: a state, its counter and the calls still open, which share
// their tails. Readings beyond kMostThreads at once are dropped: then some right texts cannot be
// written, never a wrong one, and each reading that stays can be brought to its end.
// Invariant: nothing is allocated between reserve() and the next collect() that finds itself full.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/grammar/pushdown.h"

namespace moeopt {

using ConfigurationId = std::uint32_t;

class Configurations {
 public:
  static constexpr ConfigurationId kDead = 0;  // no reading is left
  static constexpr std::uint32_t kMostThreads = 1024;

  explicit Configurations(const Pushdown& automaton);

  // Where a text begins.
  ConfigurationId start();
  // Whether the text may end here.
  bool accepts(ConfigurationId id) const { return configurations_[id].accepts; }
  std::uint32_t n_threads(ConfigurationId id) const { return configurations_[id].n_threads; }
  std::size_t size() const { return configurations_.size(); }
  // Ids stay below it until the next collect().
  std::size_t capacity() const { return capacity_; }

  // Whether there is room for one more step().
  bool has_room() const;
  // Keeps the configurations that `roots` name and renumbers them; `moved(old, new)` is told of
  // each. Where that alone leaves little room the room is doubled.
  template <typename Moved>
  void collect(std::span<ConfigurationId* const> roots, Moved&& moved) {
    const std::span<const ConfigurationId> places = compact(roots);
    for (ConfigurationId id = 0; id < places.size(); ++id) {
      if (places[id] != kUnknown) moved(id, places[id]);
    }
  }

  // A walk counts the steps it takes that it has not taken before.
  void begin_walk();
  struct Step {
    ConfigurationId to;
    bool new_to_walk;
  };
  // After `byte`. Needs has_room().
  Step step(ConfigurationId from, std::uint8_t byte) {
    const std::uint32_t at = from * automaton_.n_classes() + automaton_.class_of(byte);
    Transition& transition = transitions_[at];
    if (transition.to == kUnknown) transition.to = take(from, byte);
    const bool new_to_walk = transition.walk != walk_;
    transition.walk = walk_;
    return {transition.to, new_to_walk};
  }

 private:
  static constexpr std::uint32_t kUnknown = UINT32_MAX;
  static constexpr std::uint32_t kMostVisits = 4096;  // states without bytes on the way of one step

  struct Thread {
    StateId state;
    std::uint32_t counter;
    std::uint32_t calls;  // index in calls_; 0: none open
    bool operator==(const Thread&) const = default;
  };
  struct Call {
    Thread caller;  // where it goes on, with the calls below it
    std::uint32_t depth;
  };
  struct Configuration {
    std::uint32_t first_thread;
    std::uint32_t n_threads;
    bool accepts;
  };
  struct Transition {
    ConfigurationId to = kUnknown;
    std::uint32_t walk = 0;
  };
  // Open addressing over indices of an array that holds the keys.
  struct IndexSet {
    std::vector<std::uint32_t> slots;
    void reset(std::size_t capacity);
    template <typename Equal>
    std::uint32_t& find(std::uint64_t hash, Equal&& equal);
  };

  void reserve(std::size_t configurations);
  ConfigurationId take(ConfigurationId from, std::uint8_t byte);
  void add(Thread thread);
  void close();
  std::uint32_t intern_call(const Call& call);
  ConfigurationId intern();
  std::uint64_t hash_threads(std::span<const Thread> threads, bool accepts) const;
  std::span<const ConfigurationId> compact(std::span<ConfigurationId* const> roots);
  std::span<const Thread> threads(ConfigurationId id) const {
    return std::span(threads_).subspan(configurations_[id].first_thread,
                                       configurations_[id].n_threads);
  }

  const Pushdown& automaton_;
  std::size_t capacity_ = 0;  // in configurations
  std::vector<Configuration> configurations_;
  std::vector<Thread> threads_;
  std::vector<Call> calls_;
  std::vector<Transition> transitions_;
  IndexSet configuration_set_;
  IndexSet call_set_;
  std::uint32_t walk_ = 0;

  // Of the step being taken.
  std::vector<Thread> reached_;  // every state on the way
  IndexSet reached_set_;
  std::vector<std::uint32_t> reached_slots_;  // used slots of it
  std::vector<Thread> readers_;               // those that read bytes
  bool accepts_ = false;

  std::vector<std::uint32_t> new_configurations_;  // of compact()
  std::vector<std::uint32_t> new_calls_;
};

}  // namespace moeopt
