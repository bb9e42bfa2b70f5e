#include "routing/gpu_packing.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace moeopt {
namespace {

constexpr int kMostExchanges = 400;

}  // namespace

std::vector<std::size_t> heaviest_first(std::span<const double> weights) {
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order,
                           [&](std::size_t a, std::size_t b) { return weights[a] > weights[b]; });
  return order;
}

GpuPacking::GpuPacking(std::span<const int> experts, std::span<const double> expected, int n_gpus,
                       int slots_per_gpu, int n_physical)
    : n_gpus_(static_cast<std::size_t>(n_gpus)),
      slots_per_gpu_(static_cast<std::size_t>(slots_per_gpu)),
      expected_(expected.begin(), expected.end()),
      copies_(expected.size(), 0),
      expert_of_slot_(n_gpus_ * slots_per_gpu_, -1) {
  MOEOPT_CHECK(experts.size() <= expert_of_slot_.size());
  choose_copies(experts, n_physical);
  fill();
}

// Each further copy to the expert whose copies carry most, until each GPU could have one.
void GpuPacking::choose_copies(std::span<const int> experts, int n_physical) {
  for (const int expert : experts) copies_[static_cast<std::size_t>(expert)] = 1;
  for (int extra = n_physical - static_cast<int>(experts.size()); extra > 0; --extra) {
    std::size_t most = copies_.size();
    double carried = -1;
    for (const int expert : experts) {
      const auto e = static_cast<std::size_t>(expert);
      if (copies_[e] == static_cast<int>(n_gpus_)) continue;
      if (expected_[e] / copies_[e] > carried) {
        most = e;
        carried = expected_[e] / copies_[e];
      }
    }
    if (most == copies_.size()) return;
    copies_[most] += 1;
  }
}

void GpuPacking::fill() {
  std::vector<int> items;
  for (std::size_t e = 0; e < copies_.size(); ++e) {
    for (int copy = 0; copy < copies_[e]; ++copy) items.push_back(static_cast<int>(e));
  }
  const auto weight = [this](int expert) {
    const auto e = static_cast<std::size_t>(expert);
    return expected_[e] / copies_[e];
  };
  // An expert with many copies has few places left at the end: it goes first among equals.
  std::ranges::stable_sort(items, [&](int a, int b) { return weight(a) > weight(b); });
  std::vector<double> load(n_gpus_, 0.0);
  std::vector<std::size_t> held(n_gpus_, 0);
  for (const int expert : items) {
    std::size_t best = n_gpus_;
    for (std::size_t gpu = 0; gpu < n_gpus_; ++gpu) {
      if (held[gpu] == slots_per_gpu_ || holds(gpu, expert)) continue;
      if (best == n_gpus_ || load[gpu] < load[best]) best = gpu;
    }
    if (best == n_gpus_) {  // every GPU with room has one already: it gets by with fewer copies
      copies_[static_cast<std::size_t>(expert)] -= 1;
      continue;
    }
    expert_of_slot_[best * slots_per_gpu_ + held[best]++] = expert;
    load[best] += weight(expert);
  }
}

bool GpuPacking::holds(std::size_t gpu, int expert) const {
  const auto begin = expert_of_slot_.begin() + static_cast<std::ptrdiff_t>(gpu * slots_per_gpu_);
  const auto end = begin + static_cast<std::ptrdiff_t>(slots_per_gpu_);
  return std::find(begin, end, expert) != end;
}

bool GpuPacking::allowed(std::size_t a, std::size_t b) const {
  const int first = expert_of_slot_[a];
  const int second = expert_of_slot_[b];
  if (first == second) return false;
  return (first < 0 || copies_[static_cast<std::size_t>(first)] == 1 || !holds(gpu_of(b), first)) &&
         (second < 0 || copies_[static_cast<std::size_t>(second)] == 1 ||
          !holds(gpu_of(a), second));
}

double GpuPacking::row(const std::vector<double>& rows, std::size_t slot) const {
  const int expert = expert_of_slot_[slot];
  if (expert < 0) return 0;
  const auto e = static_cast<std::size_t>(expert);
  return rows[e] / copies_[e];
}

void GpuPacking::rank(std::size_t scenario) {
  const std::vector<double>& load = loads_[scenario];
  std::vector<std::size_t>& order = highest_[scenario];
  order.resize(n_gpus_);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const std::size_t n = std::min<std::size_t>(3, n_gpus_);
  std::ranges::partial_sort(order, order.begin() + static_cast<std::ptrdiff_t>(n),
                            [&](std::size_t x, std::size_t y) { return load[x] > load[y]; });
  order.resize(n);
}

void GpuPacking::measure(const Scenarios& scenarios) {
  loads_.assign(scenarios.rows.size(), std::vector<double>(n_gpus_, 0.0));
  highest_.resize(scenarios.rows.size());
  for (std::size_t s = 0; s < scenarios.rows.size(); ++s) {
    for (std::size_t slot = 0; slot < expert_of_slot_.size(); ++slot) {
      loads_[s][gpu_of(slot)] += row(scenarios.rows[s], slot);
    }
    rank(s);
  }
}

double GpuPacking::objective(const Scenarios& scenarios) const {
  double sum = 0;
  for (std::size_t s = 0; s < loads_.size(); ++s) {
    sum += scenarios.weights[s] * loads_[s][highest_[s].front()];
  }
  return sum;
}

double GpuPacking::objective_after(const Scenarios& scenarios, std::size_t a, std::size_t b) const {
  const std::size_t gpu_a = gpu_of(a);
  const std::size_t gpu_b = gpu_of(b);
  double sum = 0;
  for (std::size_t s = 0; s < loads_.size(); ++s) {
    const double moved = row(scenarios.rows[s], a) - row(scenarios.rows[s], b);
    double most = std::max(loads_[s][gpu_a] - moved, loads_[s][gpu_b] + moved);
    for (const std::size_t gpu : highest_[s]) {
      if (gpu == gpu_a || gpu == gpu_b) continue;
      most = std::max(most, loads_[s][gpu]);
      break;
    }
    sum += scenarios.weights[s] * most;
  }
  return sum;
}

void GpuPacking::exchange(const Scenarios& scenarios, std::size_t a, std::size_t b) {
  for (std::size_t s = 0; s < loads_.size(); ++s) {
    const double moved = row(scenarios.rows[s], a) - row(scenarios.rows[s], b);
    loads_[s][gpu_of(a)] -= moved;
    loads_[s][gpu_of(b)] += moved;
    rank(s);
  }
  std::swap(expert_of_slot_[a], expert_of_slot_[b]);
}

// The GPU that is the busiest in most of the scenarios' weight.
std::size_t GpuPacking::hottest(const Scenarios& scenarios) const {
  std::vector<double> votes(n_gpus_, 0.0);
  for (std::size_t s = 0; s < loads_.size(); ++s) {
    votes[highest_[s].front()] += scenarios.weights[s];
  }
  return static_cast<std::size_t>(std::ranges::max_element(votes) - votes.begin());
}

void GpuPacking::even_out(const Scenarios& scenarios) {
  if (n_gpus_ < 2) return;
  measure(scenarios);
  double now = objective(scenarios);
  for (int round = 0; round < kMostExchanges; ++round) {
    const std::size_t hot = hottest(scenarios);
    Exchange best{0, 0, now};
    for (std::size_t a = hot * slots_per_gpu_; a < (hot + 1) * slots_per_gpu_; ++a) {
      if (expert_of_slot_[a] < 0) continue;
      for (std::size_t b = 0; b < expert_of_slot_.size(); ++b) {
        if (gpu_of(b) == hot || !allowed(a, b)) continue;
        if (row(expected_, a) < row(expected_, b)) continue;  // would make it hotter
        const double after = objective_after(scenarios, a, b);
        if (after < best.objective) best = {a, b, after};
      }
    }
    if (best.objective >= now * (1 - 1e-6)) return;
    exchange(scenarios, best.a, best.b);
    now = best.objective;
  }
}

void GpuPacking::gather(const Scenarios& scenarios, std::span<const float> together,
                        int n_experts) {
  if (n_gpus_ < 2) return;
  measure(scenarios);
  const double bound = objective(scenarios) * (1 + 2e-4);
  const auto n = static_cast<std::size_t>(n_experts);
  const auto pair = [&](int x, int y) {
    if (x < 0 || y < 0) return 0.0;
    const auto i = static_cast<std::size_t>(x);
    const auto j = static_cast<std::size_t>(y);
    return static_cast<double>(together[i * n + j]) / (copies_[i] * copies_[j]);
  };
  // met[slot * n_gpus + gpu]: how often the slot's expert is chosen with the GPU's other experts.
  const auto met = [&](std::size_t slot, std::size_t gpu) {
    double sum = 0;
    for (std::size_t other = gpu * slots_per_gpu_; other < (gpu + 1) * slots_per_gpu_; ++other) {
      if (other != slot) sum += pair(expert_of_slot_[slot], expert_of_slot_[other]);
    }
    return sum;
  };
  for (std::size_t a = 0; a < expert_of_slot_.size(); ++a) {
    const double here = met(a, gpu_of(a));
    for (std::size_t gpu = 0; gpu < n_gpus_; ++gpu) {
      if (gpu == gpu_of(a)) continue;
      const double there = met(a, gpu);
      if (there <= here) continue;
      Exchange best{a, a, 0.0};
      for (std::size_t b = gpu * slots_per_gpu_; b < (gpu + 1) * slots_per_gpu_; ++b) {
        if (!allowed(a, b)) continue;
        const double between = pair(expert_of_slot_[a], expert_of_slot_[b]);
        const double gain = there - between - here + met(b, gpu_of(a)) - between - met(b, gpu);
        if (gain <= best.objective) continue;
        if (objective_after(scenarios, a, b) <= bound) best = {a, b, gain};
      }
      if (best.b == a) continue;
      exchange(scenarios, a, best.b);
      break;
    }
  }
}

void GpuPacking::write(LayerPlacement& placement, int first_gpu) const {
  const std::size_t first = static_cast<std::size_t>(first_gpu) * slots_per_gpu_;
  std::ranges::copy(expert_of_slot_,
                    placement.expert_of_slot.begin() + static_cast<std::ptrdiff_t>(first));
}

std::vector<int> pack_longest_first(std::span<const double> weights, int n_packs, int room) {
  std::vector<double> load(static_cast<std::size_t>(n_packs), 0.0);
  std::vector<int> held(load.size(), 0);
  std::vector<int> pack_of(weights.size(), 0);
  for (const std::size_t item : heaviest_first(weights)) {
    std::size_t best = load.size();
    for (std::size_t pack = 0; pack < load.size(); ++pack) {
      if (held[pack] < room && (best == load.size() || load[pack] < load[best])) best = pack;
    }
    MOEOPT_CHECK(best < load.size());
    pack_of[item] = static_cast<int>(best);
    load[best] += weights[item];
    held[best] += 1;
  }
  return pack_of;
}

void gather_on_hosts(std::span<const double> rows, std::span<const float> together, int n_hosts,
                     std::vector<int>& host_of) {
  const std::size_t n = rows.size();
  const auto hosts = static_cast<std::size_t>(n_hosts);
  std::vector<double> load(hosts, 0.0);
  std::vector<double> met(n * hosts, 0.0);  // expert with the experts of a host
  for (std::size_t a = 0; a < n; ++a) {
    load[static_cast<std::size_t>(host_of[a])] += rows[a];
    for (std::size_t b = 0; b < n; ++b) {
      if (a != b)
        met[a * hosts + static_cast<std::size_t>(host_of[b])] +=
            static_cast<double>(together[a * n + b]);
    }
  }
  const double mean = std::accumulate(load.begin(), load.end(), 0.0) / n_hosts;
  const double bound = std::max(*std::ranges::max_element(load), 1.01 * mean);
  for (int pass = 0; pass < 4; ++pass) {
    bool changed = false;
    for (std::size_t a = 0; a < n; ++a) {
      for (std::size_t b = a + 1; b < n; ++b) {
        const auto i = static_cast<std::size_t>(host_of[a]);
        const auto j = static_cast<std::size_t>(host_of[b]);
        if (i == j) continue;
        const double moved = rows[a] - rows[b];
        if (load[i] - moved > bound || load[j] + moved > bound) continue;
        const double gain = met[a * hosts + j] - met[a * hosts + i] + met[b * hosts + i] -
                            met[b * hosts + j] - 2.0 * static_cast<double>(together[a * n + b]);
        if (gain <= 1e-9) continue;
        for (std::size_t c = 0; c < n; ++c) {
          const double change = (c == a ? 0.0 : static_cast<double>(together[c * n + a])) -
                                (c == b ? 0.0 : static_cast<double>(together[c * n + b]));
          met[c * hosts + i] -= change;
          met[c * hosts + j] += change;
        }
        load[i] -= moved;
        load[j] += moved;
        std::swap(host_of[a], host_of[b]);
        changed = true;
      }
    }
    if (!changed) return;
  }
}

}  // namespace moeopt
