// A block of an emulated launch: its four roles, each a machine of states that makes one move at a
// time. Included by emulated_launch_util.cpp alone. Invariant: a move that cannot be made changes
// nothing.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda/emulated_world_util.h"
#include "cuda/moe/describe.h"

namespace moeopt::cuda::moe {

inline constexpr int kRoles = 4;

class Block {
 public:
  Block(World& world, int index) : w_(world), index_(index) {
    const std::uint64_t drawn = w_.workspace.ticket++;
    ticket_ = static_cast<int>(drawn & 0xffffffffu);
    number_ = static_cast<std::uint32_t>(drawn >> 32);
    first_ = ticket_ == 0;
    if (first_) ++w_.workspace.launches;
    limit_ = w_.launch.unrouted();
  }

  // One move of a role; false when it waits or is over.
  bool step(int role) {
    switch (role) {
      case 0:
        return produce();
      case 1:
        return load();
      case 2:
        return consume();
      default:
        return publish();
    }
  }
  bool over() const {
    return producer_ == State::kOver && loader_over_ && consumer_over_ && publisher_over_;
  }

 private:
  enum class State { kHasTicket, kAsking, kRouting, kEnding, kOver };

  EmulatedWorkspace::Set& set() { return w_.workspace.sets[number_ & 1]; }
  int draw() { return static_cast<int>(w_.workspace.ticket++ & 0xffffffffu); }
  bool ring_full() const { return told() - std::min(loaded_, published_) >= w_.task_slots(); }
  int told() const { return static_cast<int>(tasks_.size()); }
  const Described& task(int index) const { return tasks_[static_cast<std::size_t>(index)]; }

  // A task that has no ticket.
  void tell_alone(TaskKind kind) {
    tasks_.emplace_back();
    tasks_.back().task = {kind, 0, 0, 0};
  }

  bool produce() {
    switch (producer_) {
      case State::kHasTicket:
        if (ticket_ >= limit_) {
          producer_ = routed_ ? State::kEnding : State::kRouting;
          return true;
        }
        if (ring_full()) return false;
        if (w_.publisher_routes() && !route_told_ &&
            ticket_ >= w_.launch.unrouted() - w_.launch.shared_unrouted()) {
          tell_alone(TaskKind::kList);
          route_told_ = true;
          return true;
        }
        tasks_.push_back(describe(ticket_));
        left_ = tasks_.back().stages;
        drawn_ = false;
        producer_ = State::kAsking;
        return true;
      case State::kAsking:
        return ask();
      case State::kRouting:
        return route();
      case State::kEnding:
        if (ring_full()) return false;
        tell_alone(TaskKind::kEnd);
        if (ticket_ == limit_ + w_.how.blocks - 1) {
          w_.workspace.ticket = std::uint64_t{number_after(number_)} << 32;
        }
        producer_ = State::kOver;
        return true;
      default:
        return false;
    }
  }

  bool ask() {
    const Described& last = tasks_.back();
    if (w_.how.draws_early && !drawn_ && !gate_is_awaited() && !last.holds &&
        (left_ == 0 || w_.chance())) {
      next_ticket_ = draw();
      drawn_ = true;
      return true;
    }
    if (left_ > 0) {
      if (!is_free(weights_asked_, weights_freed_, w_.weight_stages())) return false;
      if (gate_in_ring()) w_.fault("weights asked for where a gate task lies");
      ++weights_asked_;
      --left_;
      return true;
    }
    if (!drawn_) {  // late: a task without weights is waited for
      if (last.stages == 0 && stored_ < told()) return false;
      if (last.holds && weights_freed_ <= last.first_use) return false;
      if (last.holds) ++w_.result.held;
      next_ticket_ = draw();
    }
    ticket_ = next_ticket_;
    producer_ = State::kHasTicket;
    return true;
  }

  // With images no ticket is drawn before a gate task is done: a wide one lies in the ring.
  bool gate_is_awaited() const {
    return w_.images() && tasks_.back().task.kind == TaskKind::kGate && stored_ < told();
  }
  bool gate_in_ring() const {
    bool found = false;
    for (int i = stored_; i < told(); ++i) found = found || task(i).task.kind == TaskKind::kGate;
    return found && w_.layer.config.gate_rows > kGateRows;
  }

  bool route() {
    const Launch& launch = w_.launch;
    if (launch.tokens > 0) {
      if (w_.local()) {
        if (!w_.producer_lists() || !w_.layer.ids_given) {
          if (!route_told_) {
            if (ring_full()) return false;
            tell_alone(TaskKind::kList);
            route_told_ = true;
            return true;
          }
          if (!counted_) return false;
        }
        schedule_local();
        planned_ = true;
        listed_ = w_.producer_lists();
      } else {
        if (set().routed < static_cast<std::uint32_t>(launch.dispatch_tiles)) return false;
        schedule();
      }
      limit_ = launch.total(tile_start_.back());
    } else {
      tile_start_ = {0};
      limit_ = 0;
    }
    if (first_) w_.workspace.tokens += static_cast<std::uint64_t>(launch.tokens);
    routed_ = true;
    producer_ = State::kHasTicket;
    return true;
  }

  // All slots, as dispatched.
  void schedule() {
    int tiles = 0;
    for (int slot = 0; slot < w_.layer.shape.slots; ++slot) {
      const auto at = static_cast<std::size_t>(slot);
      if (set().rows.at(at) != w_.lists[at].size()) w_.fault("rows counted and listed differ");
      order_.push_back(slot);
      rows_.push_back(w_.lists[at]);
      tile_start_.push_back(tiles);
      tiles += ceil_div(static_cast<int>(w_.lists[at].size()), w_.launch.n_max);
    }
    tile_start_.push_back(tiles);
  }

  // All slots, as this block sorted the choices: an expert's rows by token.
  void schedule_local() {
    rows_.resize(static_cast<std::size_t>(w_.layer.shape.slots));
    for (int entry = 0; entry < static_cast<int>(w_.slots.size()); ++entry) {
      if (!w_.own(entry)) continue;
      rows_[static_cast<std::size_t>(w_.slots[static_cast<std::size_t>(entry)])].push_back(entry);
    }
    int tiles = 0;
    for (int slot = 0; slot < w_.layer.shape.slots; ++slot) {
      order_.push_back(slot);
      tile_start_.push_back(tiles);
      tiles +=
          ceil_div(static_cast<int>(rows_[static_cast<std::size_t>(slot)].size()), w_.launch.n_max);
    }
    tile_start_.push_back(tiles);
  }

  // Whether the ring's stage for its use number `use` is given back by all who had it before.
  bool is_free(int use, int freed, int stages) const {
    const int before = use - stages;
    return freed > before &&
           (!w_.images() || before < 0 || kept_[static_cast<std::size_t>(before)]);
  }
  // Stages of y: the producer has no part in them.
  bool stages_y(const Described& d) const {
    return w_.images() && d.task.kind == TaskKind::kCombine;
  }
  int tokens_of(const Described& d) const {
    const int first = d.task.tile * w_.launch.combine_tokens;
    return std::min(w_.launch.combine_tokens, w_.launch.tokens - first);
  }

  Described describe(int ticket) {
    const Launch& launch = w_.launch;
    const int order = w_.how.reorder && routed_ ? w_.how.reorder(ticket, limit_) : ticket;
    Described d;
    d.task = task_of(launch, tile_start_.data(), static_cast<int>(order_.size()), order, hint_);
    if (!d.gemm()) return d;
    const bool first = d.task.kind == TaskKind::kFirst;
    const Shape& shape = w_.layer.shape;
    const ExpertLayout layout = d.shared() ? shared_layout(shape) : expert_layout(shape);
    d.stages =
        ceil_div(first ? layout.blocks1() : layout.blocks2(), 2 / w_.layer.config.variant.m_tiles);
    const int first_row = d.task.tile * launch.n_max;
    const auto slot = static_cast<std::size_t>(std::max(d.task.slot, 0));
    const int all = d.shared() ? launch.tokens : static_cast<int>(rows_[slot].size());
    for (int row = first_row; row < std::min(all, first_row + launch.n_max); ++row) {
      d.rows.push_back(d.shared() ? row : rows_[slot][static_cast<std::size_t>(row)]);
    }
    if (d.rows.empty()) w_.fault("a task without rows");
    if (!d.shared()) d.expert = order_[slot];
    const int tiles = w_.layer.workspace.token_tiles;
    const int index = (d.shared() ? tiles : tile_start_[slot]) + d.task.tile;
    if (!d.shared() && index >= tiles) w_.fault("a token tile outside its counters");
    d.ready = static_cast<std::size_t>(index);
    d.units = d.shared() ? launch.shared_units1 : launch.units1;
    d.ready_count = static_cast<std::uint32_t>(d.units) + (w_.images() ? kGathered : 0);
    d.first_use = weights_asked_;
    d.kept = launch.gathers && first && !d.shared() && d.task.unit == 0;
    d.holds = w_.layer.config.few() && !first && !d.shared() && d.stages <= w_.weight_stages() &&
              tile_start_.back() * launch.units2 <= w_.how.blocks;
    return d;
  }

  bool load() {
    if (to_clear_) {
      w_.workspace.sets[(number_ + 1) & 1].clear_share(index_, w_.how.blocks);
      to_clear_ = false;
      return true;
    }
    if (loader_over_ || loaded_ == told()) return false;
    const Described& d = task(loaded_);
    if (d.task.kind == TaskKind::kEnd) return loader_over_ = true;
    if (d.gemm()) {
      if (w_.local() && !d.shared() && !listed_) return false;
      if (loading_ == 0 && !rows_are_ready(d)) return false;
      if (loading_ < d.stages) return load_stage(!d.kept);
    } else if (stages_y(d)) {
      if (loading_ == 0 && !y_is_there(d.task.tile)) return false;
      if (loading_ < tokens_of(d)) return load_stage(true);
    }
    loading_ = 0;
    ++loaded_;
    return true;
  }

  bool load_stage(bool gives_back) {
    if (!is_free(tokens_loaded_, tokens_freed_, w_.token_stages())) return false;
    ++tokens_loaded_;
    kept_.push_back(gives_back);
    ++loading_;
    return true;
  }

  bool rows_are_ready(const Described& d) {
    if (d.task.kind == TaskKind::kFirst) {
      if (w_.launch.gathers && !d.shared() && d.task.unit > 0) {
        return set().ready.at(d.ready) >= kGathered;
      }
      if (!w_.launch.quantises) return true;
      if (set().quantised < static_cast<std::uint32_t>(w_.launch.quantise_tiles)) return false;
      for (const int row : d.rows) {
        const int token = d.shared() ? row : row / w_.top_k();
        if (w_.quantised[static_cast<std::size_t>(token)] != 1)
          w_.fault("x read before it is e4m3");
      }
      return true;
    }
    if (set().ready.at(d.ready) < d.ready_count) return false;
    for (int unit = 0; unit < d.units; ++unit) {
      if (!w_.h_units.contains({d.expert, d.task.tile, unit}))
        w_.fault("h read before it is there");
    }
    return true;
  }

  bool consume() {
    if (consumer_over_ || stored_ == told()) return false;
    const Described& d = task(stored_);
    switch (d.task.kind) {
      case TaskKind::kEnd:
        return consumer_over_ = true;
      case TaskKind::kQuantise:
        for_tokens(d.task.tile, w_.launch.quantise_tokens,
                   [&](std::size_t token) { ++w_.quantised[token]; });
        ++set().quantised;
        break;
      case TaskKind::kGate:
        for_tokens(d.task.tile, w_.launch.gate_tokens,
                   [&](std::size_t token) { ++w_.logits[token]; });
        if (!w_.local()) ++set().gate_arrived.at(static_cast<std::size_t>(d.task.tile));
        break;
      case TaskKind::kDispatch:
        if (!dispatch(d.task.tile)) return false;
        break;
      case TaskKind::kList:
        if (w_.publisher_routes()) break;
        if (!counted_) return counted_ = choices_are_there();
        if (w_.producer_lists()) break;
        if (!planned_) return false;
        listed_ = true;
        break;
      case TaskKind::kCombine:
        if (stages_y(d)) {
          if (multiplied_ < tokens_of(d)) {
            if (tokens_loaded_ == tokens_freed_) return false;
            ++tokens_freed_;
            ++multiplied_;
            return true;
          }
          multiplied_ = 0;
        } else if (!y_is_there(d.task.tile)) {
          return false;
        }
        combine(d.task.tile);
        break;
      default:
        if (multiplied_ < d.stages) {
          if (weights_asked_ == weights_freed_ || tokens_loaded_ == tokens_freed_) return false;
          ++weights_freed_;
          ++tokens_freed_;
          ++multiplied_;
          return true;
        }
        multiplied_ = 0;
        for (const int row : d.rows) {
          ++w_.result.done[{d.task.kind, d.shared(), d.task.unit, row}];
        }
    }
    ++stored_;
    return true;
  }

  template <typename Body>
  void for_tokens(int tile, int width, const Body& body) {
    for (int token = tile * width; token < std::min((tile + 1) * width, w_.launch.tokens);
         ++token) {
      body(static_cast<std::size_t>(token));
    }
  }
  void check_logits(std::size_t token) {
    if (!w_.has_logits(token)) w_.fault("logits read before they are there");
  }

  // What the block sorts: given ids, its own top-k of all tokens, or the words of others.
  bool choices_are_there() {
    bool ready = true;
    if (w_.layer.ids_given) return ready;
    for_tokens(0, w_.launch.tokens, [&](std::size_t token) {
      ready = ready && (w_.launch.dispatches ? w_.chosen[token] == 1 : w_.has_logits(token));
    });
    return ready;
  }

  bool dispatch(int tile) {
    bool ready = true;
    if (w_.local()) {
      for_tokens(tile, w_.launch.task_tokens,
                 [&](std::size_t token) { ready = ready && w_.has_logits(token); });
      if (ready)
        for_tokens(tile, w_.launch.task_tokens, [&](std::size_t token) { ++w_.chosen[token]; });
      return ready;
    }
    const auto units = static_cast<std::uint32_t>(w_.launch.gate_units);
    for_tokens(tile, w_.launch.task_tokens, [&](std::size_t token) {
      if (w_.launch.gate_tiles == 0) return;
      const auto gate_tile = token / static_cast<std::size_t>(w_.launch.gate_tokens);
      ready = ready && set().gate_arrived.at(gate_tile) >= units;
    });
    if (!ready) return false;
    for_tokens(tile, w_.launch.task_tokens, [&](std::size_t token) {
      check_logits(token);
      for (int s = 0; s < w_.top_k(); ++s) {
        const int entry = static_cast<int>(token) * w_.top_k() + s;
        if (!w_.own(entry)) continue;
        const auto slot = static_cast<std::size_t>(w_.slots[static_cast<std::size_t>(entry)]);
        ++set().rows.at(slot);
        w_.lists[slot].push_back(entry);
      }
    });
    ++set().routed;
    return true;
  }

  bool y_is_there(int tile) {
    const Launch& launch = w_.launch;
    bool ready = true;
    for_tokens(tile, launch.combine_tokens, [&](std::size_t token) {
      int target = launch.shared_units2;
      for (int s = 0; s < w_.top_k(); ++s) {
        if (w_.own(static_cast<int>(token) * w_.top_k() + s)) target += launch.units2;
      }
      ready = ready && set().y_arrived.at(token) >= static_cast<std::uint32_t>(target);
    });
    return ready;
  }
  void combine(int tile) {
    const Launch& launch = w_.launch;
    for_tokens(tile, launch.combine_tokens, [&](std::size_t token) {
      for (int s = 0; s < w_.top_k(); ++s) {
        const int entry = static_cast<int>(token) * w_.top_k() + s;
        if (w_.own(entry)) check_y(false, entry, launch.units2);
      }
      check_y(true, static_cast<int>(token), launch.shared_units2);
      ++w_.result.combined[token];
    });
  }
  void check_y(bool shared, int row, int units) {
    for (int unit = 0; unit < units; ++unit) {
      if (!w_.y_units.contains({shared, row, unit})) w_.fault("y read before it is there");
    }
  }

  bool publish() {
    if (publisher_over_ || published_ == told()) return false;
    const Described& d = task(published_);
    if (d.task.kind == TaskKind::kEnd) return publisher_over_ = true;
    if (d.kept && keeping_ < d.stages) {
      const int use = d.first_use + keeping_;
      if (std::min(weights_asked_, tokens_loaded_) <= use) return false;
      kept_[static_cast<std::size_t>(use)] = true;
      ++keeping_;
      return true;
    }
    if (d.task.kind == TaskKind::kList && w_.publisher_routes() && !counted_) {
      return counted_ = choices_are_there();
    }
    if (stored_ <= published_) return false;
    keeping_ = 0;
    if (d.task.kind == TaskKind::kFirst) {
      w_.h_units.insert({d.expert, d.task.tile, d.task.unit});
      set().ready.at(d.ready) += w_.images() && d.task.unit == 0 ? kGathered + 1 : 1;
      if (!d.shared() && d.task.unit == 0) w_.workspace.rows += d.rows.size();
    }
    if (d.task.kind == TaskKind::kSecond) {
      for (const int row : d.rows) {
        w_.y_units.insert({d.shared(), row, d.task.unit});
        ++set().y_arrived.at(static_cast<std::size_t>(d.shared() ? row : row / w_.top_k()));
      }
    }
    ++published_;
    return true;
  }

  World& w_;
  int index_;
  int ticket_ = 0, next_ticket_ = 0, limit_ = 0, hint_ = 0;
  std::uint32_t number_ = 0;
  bool first_ = false, to_clear_ = true, drawn_ = false;
  bool routed_ = false, route_told_ = false;
  bool counted_ = false, planned_ = false, listed_ = false;
  State producer_ = State::kHasTicket;
  bool loader_over_ = false, consumer_over_ = false, publisher_over_ = false;
  std::vector<Described> tasks_;
  int loaded_ = 0, stored_ = 0, published_ = 0;                // tasks that each role is done with
  int left_ = 0, loading_ = 0, multiplied_ = 0, keeping_ = 0;  // stages of the task at hand
  int weights_asked_ = 0, weights_freed_ = 0, tokens_loaded_ = 0, tokens_freed_ = 0;
  std::vector<bool> kept_;              // by use of the ring: given back by whoever keeps it
  std::vector<int> order_;              // slots of the schedule's experts
  std::vector<std::vector<int>> rows_;  // and their entries
  std::vector<std::int32_t> tile_start_;
};

}  // namespace moeopt::cuda::moe
