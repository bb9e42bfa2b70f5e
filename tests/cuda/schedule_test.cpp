// The order of a launch's work, played on the CPU: every (token, expert, unit) is done exactly
// once, and with any number of blocks no block waits for a ticket that is not lower than its own.
#include "cuda/moe/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "cuda/moe/config.h"
#include "cuda/moe/fill_params.h"

namespace moeopt::cuda::moe {
namespace {

struct Played {
  Launch launch;
  std::vector<std::int32_t> rows;        // of each expert
  std::vector<std::int32_t> tile_start;  // of each expert, and the sum

  int total() const { return launch.total(tile_start.back()); }
};

Played play(std::mt19937& random, int tokens, int experts, int n_max, bool shared, bool dispatches,
            bool quantises, bool gated) {
  const auto draw = [&random](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  Played played;
  Launch launch{};
  launch.n_max = n_max;
  launch.gate_tokens = gated ? (draw(0, 1) == 0 ? 8 : 32) : 0;
  launch.gate_units = gated ? draw(1, 9) : 0;
  launch.quantises = quantises;
  launch.hidden = 64 * draw(2, 128);
  launch.dispatches = dispatches;
  launch.combine_parts = draw(1, 3);
  launch.shared_leads = draw(0, 1) == 1;
  launch.units1 = draw(1, 7);
  launch.units2 = draw(1, 7);
  launch.gathers = draw(0, 1) == 1;
  launch.shared_units1 = shared ? draw(1, 5) : 0;
  launch.shared_units2 = shared ? draw(1, 5) : 0;
  played.launch = launch.with_tokens(tokens);
  int start = 0;
  for (int e = 0; e < experts; ++e) {
    // A third of the experts without rows, one with all of them.
    const int rows = tokens == 0 || draw(0, 2) == 0 ? 0 : e == 0 ? tokens : draw(0, tokens);
    played.rows.push_back(rows);
    played.tile_start.push_back(start);
    start += ceil_div(rows, n_max);
  }
  played.tile_start.push_back(start);
  return played;
}

std::vector<Played> many() {
  std::mt19937 random(7);
  std::vector<Played> all;
  for (int tokens : {0, 1, 2, 7, 31, 32, 33, 128, 129, 300, 700}) {
    for (int n_max : {8, 32, 64, 128}) {
      for (int kind = 0; kind < 16; ++kind) {
        const int experts = std::uniform_int_distribution<int>(1, 40)(random);
        all.push_back(play(random, tokens, experts, n_max, (kind & 1) != 0, (kind & 2) != 0,
                           (kind & 4) != 0, (kind & 8) != 0));
      }
    }
  }
  return all;
}

Task task_at(const Played& p, int ticket) {
  int hint = 0;
  return task_of(p.launch, p.tile_start.data(), static_cast<int>(p.rows.size()), ticket, hint);
}

TEST(Schedule, EveryTokenExpertAndUnitIsDoneOnce) {
  for (const Played& p : many()) {
    const Launch& l = p.launch;
    std::map<std::tuple<int, int, int>, int> done;  // (kind, expert, unit) -> rows
    std::set<std::tuple<int, int, int, int>> seen;
    std::vector<int> combined(static_cast<std::size_t>(l.tokens));
    for (int ticket = 0; ticket < p.total(); ++ticket) {
      const Task task = task_at(p, ticket);
      const int kind = static_cast<int>(task.kind);
      ASSERT_TRUE(seen.insert({kind, task.slot, task.unit, task.tile}).second) << ticket;
      if (task.kind == TaskKind::kFirst || task.kind == TaskKind::kSecond) {
        const int rows = task.slot < 0 ? l.tokens : p.rows[static_cast<std::size_t>(task.slot)];
        const int tile_rows = std::min(l.n_max, rows - task.tile * l.n_max);
        ASSERT_GT(tile_rows, 0) << "a task without rows";
        done[{kind, task.slot, task.unit}] += tile_rows;
      }
      if (task.kind == TaskKind::kCombine) {
        const int first = task.tile * l.combine_tokens;
        for (int t = first; t < std::min(first + l.combine_tokens, l.tokens); ++t) {
          ++combined[static_cast<std::size_t>(t)];
        }
      }
    }
    const auto expect_all = [&](TaskKind kind, int slot, int units, int rows) {
      for (int unit = 0; unit < units; ++unit) {
        const auto at = done.find({static_cast<int>(kind), slot, unit});
        ASSERT_EQ(at == done.end() ? 0 : at->second, rows);
      }
    };
    for (int e = 0; e < static_cast<int>(p.rows.size()); ++e) {
      expect_all(TaskKind::kFirst, e, l.units1, p.rows[static_cast<std::size_t>(e)]);
      expect_all(TaskKind::kSecond, e, l.units2, p.rows[static_cast<std::size_t>(e)]);
    }
    expect_all(TaskKind::kFirst, -1, l.shared_units1, l.tokens);
    expect_all(TaskKind::kSecond, -1, l.shared_units2, l.tokens);
    for (const int times : combined) ASSERT_EQ(times, l.combine_parts);
    const auto ranks = [&](TaskKind kind) {
      return std::count_if(seen.begin(), seen.end(), [kind](const auto& task) {
        return std::get<0>(task) == static_cast<int>(kind);
      });
    };
    EXPECT_EQ(ranks(TaskKind::kQuantise), l.quantises ? ceil_div(l.tokens, l.quantise_tokens) : 0);
    EXPECT_EQ(ranks(TaskKind::kDispatch), l.dispatches ? ceil_div(l.tokens, l.task_tokens) : 0);
    EXPECT_EQ(ranks(TaskKind::kGate), l.gate_tiles * l.gate_units);
  }
}

// What a task waits for, by the kernel's rules: the kinds that must be complete before it runs.
bool waits_for(const Task& waiting, const Task& other, bool gathers) {
  const bool gemm = waiting.kind == TaskKind::kFirst || waiting.kind == TaskKind::kSecond;
  switch (other.kind) {
    case TaskKind::kQuantise:
      return waiting.kind == TaskKind::kFirst;
    case TaskKind::kGate:
      return waiting.kind == TaskKind::kDispatch || (gemm && waiting.slot >= 0) ||
             waiting.kind == TaskKind::kCombine;
    case TaskKind::kDispatch:
      return (gemm && waiting.slot >= 0) || waiting.kind == TaskKind::kCombine;
    case TaskKind::kFirst:
      if (waiting.slot != other.slot || waiting.tile != other.tile) return false;
      return waiting.kind == TaskKind::kSecond ||
             (gathers && waiting.kind == TaskKind::kFirst && waiting.slot >= 0 && other.unit == 0 &&
              waiting.unit > 0);
    case TaskKind::kSecond:
      return waiting.kind == TaskKind::kCombine;
    default:
      return false;
  }
}

TEST(Schedule, ATaskWaitsForLowerTicketsAlone) {
  for (const Played& p : many()) {
    if (p.total() > 1500) continue;  // pairs
    std::vector<Task> tasks;
    for (int ticket = 0; ticket < p.total(); ++ticket) tasks.push_back(task_at(p, ticket));
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      for (std::size_t j = i; j < tasks.size(); ++j) {
        ASSERT_FALSE(waits_for(tasks[i], tasks[j], p.launch.gathers))
            << "ticket " << i << " waits for " << j;
      }
    }
  }
}

TEST(Schedule, UnroutedTicketsNeedNoRouting) {
  const std::int32_t no_experts[] = {0};
  for (const Played& p : many()) {
    for (int ticket = 0; ticket < p.launch.unrouted(); ++ticket) {
      int hint = 0;
      const Task task = task_of(p.launch, no_experts, 0, ticket, hint);
      const Task known = task_at(p, ticket);
      ASSERT_EQ(task.kind, known.kind);
      ASSERT_EQ(task.slot, -1);
      ASSERT_EQ(task.unit, known.unit);
      ASSERT_EQ(task.tile, known.tile);
    }
  }
}

TEST(Schedule, TheHintDoesNotChangeTheTask) {
  std::mt19937 random(11);
  for (const Played& p : many()) {
    if (p.total() <= p.launch.unrouted()) continue;
    int hint = 0;
    for (int draw = 0; draw < 200; ++draw) {
      const int ticket =
          std::uniform_int_distribution<int>(p.launch.unrouted(), p.total() - 1)(random);
      const Task hinted =
          task_of(p.launch, p.tile_start.data(), static_cast<int>(p.rows.size()), ticket, hint);
      const Task fresh = task_at(p, ticket);
      ASSERT_EQ(std::tie(hinted.slot, hinted.unit, hinted.tile),
                std::tie(fresh.slot, fresh.unit, fresh.tile));
    }
  }
}

// The worked example of docs/flashdmoe.md.
TEST(Schedule, TheExampleOfTheDocument) {
  Launch launch{};
  launch.n_max = 32;
  launch.combine_parts = 1;
  launch.gate_tokens = 8;
  launch.gate_units = 2;
  launch.units1 = 4;
  launch.units2 = 2;
  launch = launch.with_tokens(2);
  const std::int32_t tile_start[] = {0, 1, 2, 3};  // of the experts with rows: a tile each
  ASSERT_EQ(launch.unrouted(), 2);
  ASSERT_EQ(launch.total(3), 22);
  const auto expect = [&](int ticket, TaskKind kind, int expert, int unit, int tile) {
    int hint = 0;
    const Task task = task_of(launch, tile_start, 3, ticket, hint);
    EXPECT_EQ(task.kind, kind) << ticket;
    EXPECT_EQ(task.slot, expert) << ticket;
    EXPECT_EQ(task.unit, unit) << ticket;
    EXPECT_EQ(task.tile, tile) << ticket;
  };
  for (int unit = 0; unit < 2; ++unit) expect(unit, TaskKind::kGate, -1, unit, 0);
  for (int expert = 0; expert < 3; ++expert) {
    for (int unit = 0; unit < 4; ++unit) {
      expect(2 + 4 * expert + unit, TaskKind::kFirst, expert, unit, 0);
    }
    for (int unit = 0; unit < 2; ++unit) {
      expect(14 + 2 * expert + unit, TaskKind::kSecond, expert, unit, 0);
    }
  }
  for (int token = 0; token < 2; ++token) expect(20 + token, TaskKind::kCombine, -1, 0, token);
}

// The most tickets that an accepted layer can have: in 64 bits, and as the kernel counts them.
TEST(Schedule, TicketsFitAtTheExtremes) {
  for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp8}) {
    for (const int experts : {1, 16, 512}) {
      for (const int top_k : {1, 16}) {
        for (const int tokens : {8, 512, 6144, 65536}) {
          Shape shape;
          shape.dtype = dtype;
          shape.hidden = 16384;
          shape.intermediate = shape.shared_intermediate = 32768;
          shape.shared_gate = true;
          shape.experts = experts;
          shape.slots = 512;
          shape.top_k = std::min(experts, top_k);
          shape.max_tokens = tokens;
          const Config config = choose_config(shape);
          Launch launch = make_launch(shape, config, false);
          launch = launch.with_tokens(tokens);
          const std::int64_t tiles = std::int64_t{1} * tokens * shape.top_k / launch.n_max + 512;
          const std::int64_t units = std::int64_t{1} * launch.units1 + launch.units2;
          const std::int64_t total =
              launch.quantise_tiles + std::int64_t{1} * launch.gate_tiles * launch.gate_units +
              launch.dispatch_tiles + (launch.shared_tiles + tiles) * units + launch.combine_tiles;
          ASSERT_LT(total, std::int64_t{1} << 22);
          EXPECT_EQ(launch.total(static_cast<int>(tiles)), total);
        }
      }
    }
  }
}

}  // namespace
}  // namespace moeopt::cuda::moe
