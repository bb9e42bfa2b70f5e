// The order of a launch's work, as arithmetic: which ticket is which task. Owned here; the kernel's
// producer and the CPU emulation in the tests run the same code. No CUDA header.
// Invariant: a task waits only for tasks with lower tickets, so whoever holds the lowest unfinished
// ticket can always go on, with any number of resident blocks.
//
// Tickets: [quantise x (fp8)] [gate] [dispatch]
//          [first GEMM of the shared expert] [first GEMM of the routed experts]
//          [second GEMM of the shared expert] [second GEMM of the routed experts] [combine]
// With shared_leads, the shared expert's second GEMM right behind its first.
// With gathers, [unit 0 of the first GEMM of all routed experts] before their other units.
// Within a GEMM: expert by expert, then unit (rows of the weights), token tile innermost, so that
// the weights of a unit are asked for close in time.
#pragma once

#include <cstdint>

#include "cuda/moe/layout.h"

namespace moeopt::cuda::moe {

enum class TaskKind : std::int32_t {
  kQuantise,  // tile: quantise_tokens tokens of x to e4m3
  kGate,      // tile: gate_tokens tokens, unit: gate_rows router rows
  kDispatch,  // tile: task_tokens tokens: top-k, into the experts' lists
  kList,      // not ticketed: this block sorts all (token, slot) entries by expert for itself
  kFirst,     // h = silu(G x) * (U x) of one unit and token tile
  kSecond,    // y = D h of one unit and token tile
  kCombine,   // tile: combine_tokens tokens, unit: a part of their columns: out from y
  kEnd,
};

inline constexpr int kWarpTokens = 8;                // a token a consumer warp
inline constexpr int kMostTokens = 8 * kWarpTokens;  // of a quantisation or a dispatch
inline constexpr int kCombineTokens = kWarpTokens;   // of a combination at most
inline constexpr int kAloneTokens = 128;             // up to here it is of one
inline constexpr int kCombineColumns = 512;          // of one of few tokens: two a consumer

// About a wave of blocks while that keeps the tokens of a block few.
MOEOPT_HOST_DEVICE constexpr int task_tokens_of(int count) {
  return count <= 1056   ? kWarpTokens
         : count <= 2112 ? 2 * kWarpTokens
         : count <= 8448 ? 4 * kWarpTokens
                         : kMostTokens;
}
// All that wait for a token wait for its quantisation first, while most blocks have nothing to do:
// few tokens a task, up to 64 no more than a block's warps read in two steps.
MOEOPT_HOST_DEVICE constexpr int quantise_tokens_of(int count, int hidden) {
  constexpr int kElements = 8192;
  const int few = hidden >= kElements ? 1 : hidden > kElements / 4 ? kElements / hidden : 4;
  return count <= 16 ? 1 : count <= 64 ? few : count <= 128 ? 4 : task_tokens_of(count);
}

// Sizes of a launch that are known before routing. The host fills in all but the tokens,
// with_tokens() the rest.
struct Launch {
  int n_max;        // tokens of a GEMM task at most
  int gate_tokens;  // tokens of a gate task; 0: no logits to make
  int gate_units;   // groups of router rows per tile
  bool quantises;
  int hidden;
  bool dispatches;                   // false: each block routes for itself
  int units1, units2;                // weight units of an expert's two matrices
  int shared_units1, shared_units2;  // 0: no shared expert
  bool shared_leads;                 // its second GEMM comes before the routed experts' first
  int combine_columns;               // of a combination; all, if it is of several tokens
  int combine_parts;                 // of a token: combinations of so many columns
  bool gathers;  // unit 0 of the first GEMM comes first, of all experts: it leaves x, gathered, to
                 // the other units

  int tokens;
  int task_tokens;      // of a dispatch
  int quantise_tokens;  // of a quantisation
  int quantise_tiles;
  int gate_tiles;
  int dispatch_tiles;
  int shared_tiles;
  int combine_tokens;
  int combine_tiles;

  MOEOPT_HOST_DEVICE constexpr Launch with_tokens(int count) const {
    Launch launch = *this;
    launch.tokens = count;
    launch.task_tokens = task_tokens_of(count);
    launch.quantise_tokens = quantise_tokens_of(count, hidden);
    launch.combine_tokens = count <= kAloneTokens ? 1
                            : count <= 256        ? 2
                            : count <= 1056       ? 4
                                                  : kCombineTokens;
    launch.quantise_tiles = quantises ? ceil_div(count, launch.quantise_tokens) : 0;
    launch.gate_tiles = gate_tokens > 0 ? ceil_div(count, gate_tokens) : 0;
    launch.dispatch_tiles = dispatches ? ceil_div(count, launch.task_tokens) : 0;
    launch.shared_tiles = shared_units1 > 0 ? ceil_div(count, n_max) : 0;
    launch.combine_tiles = ceil_div(count, launch.combine_tokens) * combine_parts;
    return launch;
  }
  // Tickets below this one need no routing.
  MOEOPT_HOST_DEVICE constexpr int unrouted() const {
    return quantise_tiles + gate_tiles * gate_units + dispatch_tiles + shared_unrouted();
  }
  // The last of them: the shared expert's.
  MOEOPT_HOST_DEVICE constexpr int shared_unrouted() const {
    return shared_tiles * (shared_units1 + (shared_leads ? shared_units2 : 0));
  }
  MOEOPT_HOST_DEVICE constexpr int total(int routed_tiles) const {
    return unrouted() + (shared_leads ? 0 : shared_tiles * shared_units2) +
           routed_tiles * (units1 + units2) + combine_tiles;
  }
};

struct Task {
  TaskKind kind;
  int slot;  // index into the schedule's experts; -1: the shared one
  int unit;  // of weight rows (gate: of router rows)
  int tile;  // token tile within the expert (else: within the launch)
};

// tile_start[n + 1]: token tiles of the scheduled experts before; tile_start[n] is their sum.
// Tickets below unrouted() never read it. `hint`: the expert of the last call, for the search;
// start with 0.
MOEOPT_HOST_DEVICE inline Task task_of(const Launch& launch, const std::int32_t* tile_start,
                                       int scheduled, int ticket, int& hint) {
  int rest = ticket;
  if (rest < launch.quantise_tiles) return {TaskKind::kQuantise, -1, 0, rest};
  rest -= launch.quantise_tiles;
  const int gates = launch.gate_tiles * launch.gate_units;
  if (rest < gates) {
    return {TaskKind::kGate, -1, rest % launch.gate_units, rest / launch.gate_units};
  }
  rest -= gates;
  if (rest < launch.dispatch_tiles) return {TaskKind::kDispatch, -1, 0, rest};
  rest -= launch.dispatch_tiles;
  const int shared = launch.shared_tiles;
  if (rest < shared * launch.shared_units1) {
    return {TaskKind::kFirst, -1, rest / shared, rest % shared};
  }
  rest -= shared * launch.shared_units1;
  const int shared_seconds = shared * launch.shared_units2;
  if (launch.shared_leads) {
    if (rest < shared_seconds) return {TaskKind::kSecond, -1, rest / shared, rest % shared};
    rest -= shared_seconds;
  }
  const int routed = tile_start[scheduled];
  TaskKind kind = TaskKind::kFirst;
  int units = launch.units1;
  int first_unit = 0;
  if (launch.gathers && units > 1 && rest < routed * units) {
    if (rest < routed) {
      units = 1;
    } else {
      rest -= routed;
      --units;
      first_unit = 1;
    }
  } else if (rest >= routed * units) {
    rest -= routed * units;
    if (!launch.shared_leads) {
      if (rest < shared_seconds) return {TaskKind::kSecond, -1, rest / shared, rest % shared};
      rest -= shared_seconds;
    }
    kind = TaskKind::kSecond;
    units = launch.units2;
    if (rest >= routed * units) {
      rest -= routed * units;
      const int parts = launch.combine_parts;
      if (parts == 1) return {TaskKind::kCombine, -1, 0, rest};
      return {TaskKind::kCombine, -1, rest % parts, rest / parts};
    }
  }
  // The last expert whose tiles start at or before this one; a block's tickets only grow, so it is
  // mostly near the last one found, but for the second GEMM's beginning.
  const int tile = rest / units;
  if (tile_start[hint] > tile) hint = 0;
  if (tile_start[hint + 1] <= tile) {
    int low = hint + 1;
    int high = scheduled;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (tile_start[middle] <= tile) {
        low = middle;
      } else {
        high = middle;
      }
    }
    hint = low;
  }
  const int tiles = tile_start[hint + 1] - tile_start[hint];
  const int rank = rest - tile_start[hint] * units;
  if (tiles == 1) return {kind, hint, first_unit + rank, 0};
  return {kind, hint, first_unit + rank / tiles, rank % tiles};
}

}  // namespace moeopt::cuda::moe
