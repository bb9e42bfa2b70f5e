#include "cpu/fast/moe.h"

#include <algorithm>
#include <cmath>

#include "cpu/reference/router.h"

namespace moeopt::cpu::fast {
namespace {

std::size_t offset(int count, int size) {
  return static_cast<std::size_t>(count) * static_cast<std::size_t>(size);
}

struct MoeScratch {
  MoeScratch(Carver& carver, const Team& team, const MoeSpec& spec, int hidden, int rows)
      : slot_rows(rows * (spec.top_k + (spec.shared_intermediate > 0 ? 1 : 0))),
        logits(carver.take<float>(offset(rows, spec.n_experts))),
        shared_gates(carver.take<float>(static_cast<std::size_t>(rows))),
        routing(carver.take<float>(static_cast<std::size_t>(team.pool.threads()) *
                                   reference::route_scratch(spec))),
        first_slot(carver.take<int>(static_cast<std::size_t>(spec.n_experts) + 1)),
        place(carver.take<int>(offset(rows, spec.top_k))),
        inputs(carver.take<const float*>(static_cast<std::size_t>(slot_rows))),
        groups(carver.take<ExpertGroup>(static_cast<std::size_t>(spec.n_experts) + 1)),
        y(carver.take<float>(offset(slot_rows, hidden))) {}

  int slot_rows;
  float* logits;
  float* shared_gates;
  float* routing;
  int* first_slot;       // [n_experts + 1]: slot rows in order of their expert
  int* place;            // [rows, top_k]: the slot row
  const float** inputs;  // [slot_rows]
  ExpertGroup* groups;
  float* y;
};

ExpertShape shape_of(const MoeSpec& spec, int hidden, int rows) {
  const bool shared = spec.shared_intermediate > 0;
  ExpertShape shape;
  shape.hidden = hidden;
  shape.widest_intermediate = std::max(spec.intermediate, spec.shared_intermediate);
  shape.slot_rows = rows * (spec.top_k + (shared ? 1 : 0));
  shape.groups = std::min(spec.n_experts, rows * spec.top_k) + (shared ? 1 : 0);
  return shape;
}

class MoeLayer {
 public:
  MoeLayer(const Team& team, const MoeWeights& w, int rows, std::span<std::byte> scratch)
      : team_(team),
        w_(w),
        spec_(*w.spec),
        hidden_(w.router.in()),
        rows_(rows),
        rounds_(rounds_inputs(w.experts.front().gate)),
        carver_(scratch),
        scratch_(carver_, team, spec_, hidden_, rows) {}

  void run(const float* x, Routing routing, float* out) {
    route(x, routing);
    if (spec_.shared_expert_gate) {
      linear(team_, x, rows_, w_.shared_expert_gate, rounds_, {}, scratch_.shared_gates, carver_);
    }
    const std::span<ExpertGroup> groups = sort_by_expert(x, routing);
    run_experts(team_, groups, scratch_.inputs, rounds_, scratch_.y, carver_);
    combine(routing, out);
  }

 private:
  void route(const float* x, Routing routing) {
    linear(team_, x, rows_, w_.router, rounds_, {}, scratch_.logits, carver_);
    const std::size_t room = reference::route_scratch(spec_);
    const auto n_experts = static_cast<std::size_t>(spec_.n_experts);
    const auto top_k = static_cast<std::size_t>(spec_.top_k);
    const auto route_row = [&](int row, int member) {
      const auto r = static_cast<std::size_t>(row);
      reference::route<float>({scratch_.logits + r * n_experts, n_experts}, spec_, w_.router_bias,
                              {scratch_.routing + static_cast<std::size_t>(member) * room, room},
                              routing.experts.subspan(r * top_k, top_k),
                              routing.weights.subspan(r * top_k, top_k));
    };
    team_.pool.for_each(rows_, route_row);
  }

  std::span<ExpertGroup> sort_by_expert(const float* x, Routing routing) {
    int* first = scratch_.first_slot;
    std::fill_n(first, spec_.n_experts + 1, 0);
    for (const std::int32_t expert : routing.experts) ++first[expert + 1];
    int n_groups = 0;
    for (int e = 0; e < spec_.n_experts; ++e) {
      const int rows = first[e + 1];
      first[e + 1] += first[e];
      if (rows == 0) continue;
      scratch_.groups[n_groups++] = {
          .weights = &w_.experts[static_cast<std::size_t>(e)], .first = first[e], .rows = rows};
    }
    const int routed = rows_ * spec_.top_k;
    for (int i = 0; i < routed; ++i) {
      const int slot_row = first[routing.experts[static_cast<std::size_t>(i)]]++;
      scratch_.place[i] = slot_row;
      scratch_.inputs[slot_row] = x + offset(i / spec_.top_k, hidden_);
    }
    if (spec_.shared_intermediate > 0) {
      scratch_.groups[n_groups++] = {.weights = &w_.shared, .first = routed, .rows = rows_};
      for (int r = 0; r < rows_; ++r) scratch_.inputs[routed + r] = x + offset(r, hidden_);
    }
    return {scratch_.groups, static_cast<std::size_t>(n_groups)};
  }

  void combine(Routing routing, float* out) {
    team_.pool.for_each(rows_, [&](int r, int /*member*/) {
      float* row = out + offset(r, hidden_);
      std::fill_n(row, hidden_, 0.0f);
      for (int i = r * spec_.top_k; i < (r + 1) * spec_.top_k; ++i) {
        team_.kernels.add_scaled(routing.weights[static_cast<std::size_t>(i)],
                                 scratch_.y + offset(scratch_.place[i], hidden_), hidden_, row);
      }
      if (spec_.shared_intermediate == 0) return;
      const float weight =
          spec_.shared_expert_gate ? 1.0f / (1.0f + std::exp(-scratch_.shared_gates[r])) : 1.0f;
      team_.kernels.add_scaled(weight, scratch_.y + offset(rows_ * spec_.top_k + r, hidden_),
                               hidden_, row);
    });
  }

  const Team& team_;
  const MoeWeights& w_;
  const MoeSpec& spec_;
  int hidden_;
  int rows_;
  bool rounds_;
  Carver carver_;
  MoeScratch scratch_;
};

}  // namespace

std::size_t moe_scratch_bytes(const Team& team, const MoeSpec& spec, int hidden, int max_rows) {
  const int rows = std::min(max_rows, kMoeRows);
  Carver carver;
  const MoeScratch scratch(carver, team, spec, hidden, rows);
  return carver.used_bytes() + std::max(linear_scratch_bytes(team, rows, hidden),
                                        experts_scratch_bytes(team, shape_of(spec, hidden, rows)));
}

void moe(const Team& team, const float* x, int rows, const MoeWeights& w, Routing routing,
         float* out, std::span<std::byte> scratch) {
  const auto top_k = static_cast<std::size_t>(w.spec->top_k);
  const int hidden = w.router.in();
  for (int first = 0; first < rows; first += kMoeRows) {
    const int n = std::min(kMoeRows, rows - first);
    const std::size_t slot = static_cast<std::size_t>(first) * top_k;
    const std::size_t slots = static_cast<std::size_t>(n) * top_k;
    MoeLayer layer(team, w, n, scratch);
    layer.run(x + offset(first, hidden),
              {routing.experts.subspan(slot, slots), routing.weights.subspan(slot, slots)},
              out + offset(first, hidden));
  }
}

std::size_t swiglu_scratch_bytes(const Team& team, int hidden, int intermediate, int max_rows) {
  const int rows = std::min(max_rows, kMoeRows);
  Carver carver;
  carver.take<const float*>(static_cast<std::size_t>(rows));
  return carver.used_bytes() + experts_scratch_bytes(team, {.hidden = hidden,
                                                            .widest_intermediate = intermediate,
                                                            .slot_rows = rows,
                                                            .groups = 1});
}

void swiglu(const Team& team, const float* x, int rows, const SwigluWeights& w, float* out,
            std::span<std::byte> scratch) {
  const int hidden = w.gate.in();
  for (int first = 0; first < rows; first += kMoeRows) {
    const int n = std::min(kMoeRows, rows - first);
    Carver carver(scratch);
    const float** inputs = carver.take<const float*>(static_cast<std::size_t>(n));
    for (int r = 0; r < n; ++r) inputs[r] = x + offset(first + r, hidden);
    ExpertGroup group{.weights = &w, .first = 0, .rows = n};
    run_experts(team, {&group, 1}, inputs, rounds_inputs(w.gate), out + offset(first, hidden),
                carver);
  }
}

}  // namespace moeopt::cpu::fast
