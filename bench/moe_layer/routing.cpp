#include "moe_layer/routing.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>

namespace moeopt::bench {
namespace {

using Random = std::mt19937_64;

constexpr int kCalls = 8;      // in one graph
constexpr int kLongCalls = 3;  // beyond kLongTokens
constexpr int kLongTokens = 512;
constexpr int kMaxCalls = 256;

std::vector<int> shuffled(std::vector<int> items, Random& random) {
  std::shuffle(items.begin(), items.end(), random);
  return items;
}

// k experts a token: walks over `experts` in a random order, again and again, from `first` on.
std::vector<int> even_ids(const std::vector<int>& experts, int tokens, int k, std::size_t first,
                          std::uint64_t seed) {
  Random random(seed);
  std::vector<int> order = shuffled(experts, random), ids;
  // A fresh order each round, where no token's experts straddle two rounds.
  const bool fresh = experts.size() % k == 0 && std::size_t(tokens) * k > experts.size();
  for (std::size_t i = 0; i < std::size_t(tokens) * k; ++i) {
    const std::size_t place = (first + i) % experts.size();
    if (fresh && place == 0 && i > 0) order = shuffled(order, random);
    ids.push_back(order[place]);
  }
  return ids;
}

std::vector<int> drawn_ids(RoutingKind kind, const LayerShape& shape, int tokens, Random& random) {
  std::vector<int> rank(shape.experts);
  std::iota(rank.begin(), rank.end(), 0);
  rank = shuffled(rank, random);
  std::vector<double> weight(shape.experts, 1.0);
  if (kind == RoutingKind::kZipf) {
    for (int e = 0; e < shape.experts; ++e) weight[e] = 1.0 / (rank[e] + 1);
  }
  std::vector<int> ids;
  for (int t = 0; t < tokens; ++t) {
    std::vector<double> left = weight;
    for (int s = 0; s < shape.top_k; ++s) {
      std::discrete_distribution<int> pick(left.begin(), left.end());
      const int e = pick(random);
      ids.push_back(e);
      left[e] = 0;
    }
  }
  return ids;
}

std::vector<int> distinct_of(const std::vector<int>& ids) {
  const std::set<int> set(ids.begin(), ids.end());
  return {set.begin(), set.end()};
}

Routing plan_with(RoutingKind kind, const LayerShape& shape, int tokens, int calls, int copies,
                  std::uint64_t seed) {
  std::vector<int> all(shape.experts);
  std::iota(all.begin(), all.end(), 0);
  Random random(seed);
  Routing routing;
  routing.copies = copies;
  const std::size_t rows = std::size_t(tokens) * shape.top_k;
  for (int c = 0; c < calls; ++c) {
    Call call;
    call.copy = c % copies;
    if (kind == RoutingKind::kUniform) {
      // Calls on one copy go on where the last one stopped, so that small ones take turns.
      const bool all_used = rows >= all.size();
      call.ids = even_ids(all, tokens, shape.top_k, all_used ? 0 : c / copies * rows,
                          seed + (all_used ? c : call.copy));
    } else {
      call.ids = drawn_ids(kind, shape, tokens, random);
    }
    call.distinct = distinct_of(call.ids);
    routing.mean_distinct += double(call.distinct.size()) / calls;
    routing.calls.push_back(std::move(call));
  }
  return routing;
}

std::uint64_t reuse_bytes(const Routing& routing, std::uint64_t expert_bytes,
                          std::uint64_t shared_bytes) {
  const int n = static_cast<int>(routing.calls.size());
  std::vector<std::uint64_t> until(2 * n + 1, 0);  // bytes of the calls before this one, two cycles
  for (int c = 0; c < 2 * n; ++c) {
    until[c + 1] = until[c] + routing.calls[c % n].distinct.size() * expert_bytes + shared_bytes;
  }
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  std::map<std::pair<int, int>, int> last;  // (copy, expert), -1 the shared one, to the call
  for (int c = 0; c < 2 * n; ++c) {
    const Call& call = routing.calls[c % n];
    const auto use = [&](int expert) {
      const auto [entry, first] = last.try_emplace({call.copy, expert}, c);
      if (!first) least = std::min(least, until[c] - until[entry->second + 1]);
      entry->second = c;
    };
    for (const int expert : call.distinct) use(expert);
    if (shared_bytes > 0) use(-1);
  }
  return least;
}

}  // namespace

Routing plan_routing(RoutingKind kind, const LayerShape& shape, int tokens,
                     std::uint64_t expert_bytes, std::uint64_t shared_bytes,
                     std::uint64_t cold_bytes, std::uint64_t seed) {
  if (tokens == 0) return plan_with(kind, shape, 0, kCalls, 1, seed);
  const int least_calls = tokens <= kLongTokens ? kCalls : kLongCalls;
  for (int calls = least_calls; calls <= kMaxCalls; calls *= 2) {
    for (int copies = 1; copies <= calls; ++copies) {
      if (calls % copies != 0) continue;
      Routing routing = plan_with(kind, shape, tokens, calls, copies, seed);
      routing.reuse_bytes = reuse_bytes(routing, expert_bytes, shared_bytes);
      if (routing.reuse_bytes >= cold_bytes) return routing;
    }
  }
  throw std::runtime_error("this layer is too small to be kept out of the cache");
}

Routing evened(const Routing& routing, const LayerShape& shape, int tokens, std::uint64_t seed) {
  Routing even = routing;
  for (std::size_t c = 0; c < even.calls.size(); ++c) {
    even.calls[c].ids = even_ids(even.calls[c].distinct, tokens, shape.top_k, 0, seed + c);
  }
  return even;
}

}  // namespace moeopt::bench
