#include "text/grammar/pushdown.h"

#include <algorithm>

namespace moeopt {
namespace {

using Edge = Pushdown::Edge;
constexpr std::uint8_t kNoWay = 255;
static_assert(kNoWay > Pushdown::kMostDepth);

}  // namespace

// Shortest ways to kReturn, counted in calls: level by level, backwards along the edges.
void Pushdown::find_needs() {
  const std::size_t n = n_states();
  struct Before {
    StateId from;
    std::uint32_t edge;
  };
  std::vector<std::uint32_t> first_before(n + 1, 0);
  const auto each_end = [&](auto&& visit) {
    for (StateId from = 0; from < n; ++from) {
      for (std::uint32_t at = first_edge_[from]; at < first_edge_[from + 1]; ++at) {
        visit(Before{from, at}, edges_[at].target);
        if (edges_[at].kind == Edge::Kind::kCall) visit(Before{from, at}, edges_[at].value);
      }
    }
  };
  each_end([&](Before, StateId to) { ++first_before[to + 1]; });
  for (std::size_t i = 0; i < n; ++i) first_before[i + 1] += first_before[i];
  std::vector<Before> before(first_before[n]);
  std::vector<std::uint32_t> fill(first_before.begin(), first_before.end() - 1);
  each_end([&](Before edge, StateId to) { before[fill[to]++] = edge; });

  // What a state needs by way of one edge, as far as it is known.
  const auto over = [&](const Edge& edge) -> std::uint32_t {
    if (edge.kind != Edge::Kind::kCall) return needs_[edge.target];
    return std::max<std::uint32_t>(needs_[edge.value] + 1U, needs_[edge.target]);
  };
  needs_[kReturn] = 0;
  std::vector<std::vector<StateId>> levels(kMostDepth + 1);
  levels[0].push_back(kReturn);
  for (std::uint32_t level = 0; level <= kMostDepth; ++level) {
    for (std::size_t i = 0; i < levels[level].size(); ++i) {
      const StateId reached = levels[level][i];
      if (needs_[reached] != level) continue;
      for (std::uint32_t at = first_before[reached]; at < first_before[reached + 1]; ++at) {
        const auto [from, edge] = before[at];
        const std::uint32_t need = over(edges_[edge]);
        if (need >= needs_[from] || need > kMostDepth) continue;
        needs_[from] = static_cast<std::uint8_t>(need);
        levels[need].push_back(from);
      }
    }
  }
}

void Pushdown::find_classes(const std::bitset<256>& readable) {
  std::bitset<257> begins;
  for (const Edge& edge : edges_) {
    if (edge.kind != Edge::Kind::kBytes) continue;
    begins.set(edge.low);
    begins.set(edge.high + 1U);
  }
  std::bitset<256> read;
  for (const Edge& edge : edges_) {
    if (edge.kind != Edge::Kind::kBytes) continue;
    for (unsigned byte = edge.low; byte <= edge.high; ++byte) read.set(byte);
  }
  std::uint32_t current = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (begins[byte]) current = 0;
    if (!read[byte] || !readable[byte]) continue;
    if (current == 0) current = n_classes_++;
    class_of_[byte] = static_cast<std::uint8_t>(current);
  }
}

StateId PushdownBuilder::state() {
  return n_states_++;
}

void PushdownBuilder::add(StateId from, Edge edge) {
  if (!full()) edges_.push_back({from, edge});
}

void PushdownBuilder::bytes(StateId from, std::uint8_t low, std::uint8_t high, StateId to) {
  add(from, {Edge::Kind::kBytes, low, high, to, 0});
}

void PushdownBuilder::byte(StateId from, char byte, StateId to) {
  const auto value = static_cast<std::uint8_t>(byte);
  bytes(from, value, value, to);
}

void PushdownBuilder::any_of(StateId from, std::string_view bytes, StateId to) {
  for (const char each : bytes) byte(from, each, to);
}

void PushdownBuilder::literal(StateId from, std::string_view text, StateId to) {
  if (text.empty()) return empty(from, to);
  for (std::size_t i = 0; i < text.size() && !full(); ++i) {
    const StateId next = i + 1 == text.size() ? to : state();
    byte(from, text[i], next);
    from = next;
  }
}

void PushdownBuilder::empty(StateId from, StateId to) {
  add(from, {Edge::Kind::kEmpty, 0, 0, to, 0});
}

void PushdownBuilder::call(StateId from, StateId rule, StateId to) {
  add(from, {Edge::Kind::kCall, 0, 0, to, rule});
}

void PushdownBuilder::below(StateId from, std::uint32_t bound, StateId to) {
  add(from, {Edge::Kind::kBelow, 0, 0, to, bound});
}

void PushdownBuilder::at_least(StateId from, std::uint32_t bound, StateId to) {
  add(from, {Edge::Kind::kAtLeast, 0, 0, to, bound});
}

void PushdownBuilder::count(StateId from, std::uint32_t most, StateId to) {
  add(from, {Edge::Kind::kCount, 0, 0, to, most});
}

Pushdown PushdownBuilder::finish(StateId start, const std::bitset<256>& readable) const {
  Pushdown out;
  out.start_ = start;
  const auto can_read = [&](const Edge& edge) {
    if (edge.kind != Edge::Kind::kBytes) return true;
    for (unsigned byte = edge.low; byte <= edge.high; ++byte) {
      if (readable[byte]) return true;
    }
    return false;
  };
  out.first_edge_.assign(n_states_ + 1, 0);
  out.reads_bytes_.assign(n_states_, false);
  for (const Added& added : edges_) {
    if (!can_read(added.edge)) continue;
    ++out.first_edge_[added.from + 1];
    if (added.edge.kind == Edge::Kind::kBytes) out.reads_bytes_[added.from] = true;
  }
  for (std::size_t i = 0; i < n_states_; ++i) out.first_edge_[i + 1] += out.first_edge_[i];
  out.edges_.resize(out.first_edge_[n_states_]);
  std::vector<std::uint32_t> fill(out.first_edge_.begin(), out.first_edge_.end() - 1);
  for (const Added& added : edges_) {
    if (can_read(added.edge)) out.edges_[fill[added.from]++] = added.edge;
  }
  out.needs_.assign(n_states_, kNoWay);
  out.find_needs();
  out.find_classes(readable);
  return out;
}

}  // namespace moeopt
