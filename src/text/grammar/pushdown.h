// A pushdown automaton over bytes, as tables: what a grammar is compiled to.
// A rule is the state it begins in; it ends in kReturn, which goes on where it was called from.
// Every call has one counter, at 0 first, for lengths that are bounded; edges ask and move it.
// Built by PushdownBuilder, read by any number of threads.
// Invariant: in a state whose need() is d a rule can be brought to its end within d more calls.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace moeopt {

using StateId = std::uint32_t;

class Pushdown {
 public:
  static constexpr StateId kReturn = 0;
  // Calls open at once: bounds the depth of nested values, to what base/json reads back.
  static constexpr std::uint32_t kMostDepth = 62;

  struct Edge {
    enum class Kind : std::uint8_t {
      kBytes,    // consumes one byte of low..high
      kEmpty,    // consumes nothing
      kCall,     // the rule at `value`, then on at `target`
      kBelow,    // empty, where the counter is below `value`
      kAtLeast,  // empty, where the counter is at least `value`
      kCount,    // empty, adds one to the counter, which stops at `value`
    };
    Kind kind;
    std::uint8_t low = 0;
    std::uint8_t high = 0;
    StateId target = 0;
    std::uint32_t value = 0;
  };

  StateId start() const { return start_; }
  std::size_t n_states() const { return needs_.size(); }
  std::span<const Edge> edges(StateId state) const {
    return std::span(edges_).subspan(first_edge_[state],
                                     first_edge_[state + 1] - first_edge_[state]);
  }
  // Calls that a way to the end of the rule needs at least; above kMostDepth where there is none.
  std::uint32_t need(StateId state) const { return needs_[state]; }
  bool reads_bytes(StateId state) const { return reads_bytes_[state]; }

  // Bytes that no edge tells apart are one class. Class 0 are the bytes that nothing reads.
  std::uint32_t n_classes() const { return n_classes_; }
  std::uint32_t class_of(std::uint8_t byte) const { return class_of_[byte]; }

 private:
  friend class PushdownBuilder;
  void find_needs();
  void find_classes(const std::bitset<256>& readable);

  StateId start_ = 0;
  std::vector<std::uint32_t> first_edge_;
  std::vector<Edge> edges_;
  std::vector<std::uint8_t> needs_;
  std::vector<bool> reads_bytes_;
  std::array<std::uint8_t, 256> class_of_{};
  std::uint32_t n_classes_ = 1;
};

class PushdownBuilder {
 public:
  static constexpr std::size_t kMostStates = 1 << 18;
  static constexpr std::size_t kMostEdges = 1 << 21;

  PushdownBuilder() = default;

  StateId state();
  void bytes(StateId from, std::uint8_t low, std::uint8_t high, StateId to);
  void byte(StateId from, char byte, StateId to);
  void any_of(StateId from, std::string_view bytes, StateId to);
  // A chain that reads `text`, into `to`.
  void literal(StateId from, std::string_view text, StateId to);
  void empty(StateId from, StateId to);
  void call(StateId from, StateId rule, StateId to);
  void below(StateId from, std::uint32_t bound, StateId to);
  void at_least(StateId from, std::uint32_t bound, StateId to);
  void count(StateId from, std::uint32_t most, StateId to);

  // More states or edges than the limits: the caller refuses its input.
  bool full() const { return n_states_ > kMostStates || edges_.size() > kMostEdges; }

  // Only bytes of `readable` are ever read: others cannot be spelt by the vocabulary.
  Pushdown finish(StateId start, const std::bitset<256>& readable) const;

 private:
  struct Added {
    StateId from;
    Pushdown::Edge edge;
  };
  void add(StateId from, Pushdown::Edge edge);

  std::uint32_t n_states_ = 1;  // kReturn
  std::vector<Added> edges_;
};

}  // namespace moeopt
