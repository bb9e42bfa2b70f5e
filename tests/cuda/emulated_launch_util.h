// A launch played on the CPU: blocks with their four roles, rings and counters as in the kernel, in
// any interleaving, with any number of blocks resident at a time. The order of the work, the
// configuration and the sizes of the workspace are the shipped ones (schedule.h, config.h,
// workspace.h); what a role does for a task is written again here. Owned here: the play and what it
// checks by itself: no row read before it was published, no index outside its region.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/moe/config.h"
#include "cuda/moe/schedule.h"
#include "cuda/moe/workspace.h"

namespace moeopt::cuda::moe {

// A layer as the launches of one workspace see it.
struct EmulatedLayer {
  Shape shape;
  bool ids_given = false;
  Config config;
  WorkspaceLayout workspace;
  Launch launch;  // but for the tokens

  EmulatedLayer(const Shape& shape, bool ids_given);
};

// The control region.
struct EmulatedWorkspace {
  struct Set {
    std::uint32_t routed = 0, quantised = 0;
    std::vector<std::uint32_t> rows, ready, gate_arrived, y_arrived;

    explicit Set(const EmulatedLayer& layer);
    bool clean() const;
    void clear_share(int block, int blocks);
  };
  std::uint64_t ticket = 0;
  std::vector<Set> sets;
  std::uint64_t launches = 0, tokens = 0, rows = 0;

  explicit EmulatedWorkspace(const EmulatedLayer& layer) : sets(2, Set(layer)) {}
};

// How the blocks of a launch run.
struct Interleaving {
  int blocks = 4;
  int resident = 4;  // at a time
  bool draws_early =
      true;  // the next ticket at any moment of a task, or only when all is asked for
  bool depth_first = false;  // a role goes on until it waits, instead of taking turns
  std::uint32_t seed = 0;
  // For tests of the tests: plays another order than the schedule's.
  std::function<int(int ticket, int total)> reorder;
};

// What was done how often. Rows: token * k + slot of a routed expert, token of the shared one.
struct EmulatedResult {
  bool hung = false;
  std::vector<std::string> faults;
  std::map<std::tuple<TaskKind, bool, int, int>, int> done;  // kind, shared, unit, row
  std::vector<int> combined;                                 // by token
  int held = 0;  // tasks after which no ticket was drawn before their first stage was multiplied
};

// slots: [tokens][k], the slot of each choice, -1: not here.
EmulatedResult emulate_launch(const EmulatedLayer& layer, EmulatedWorkspace& workspace, int tokens,
                              const std::vector<int>& slots, const Interleaving& how);

}  // namespace moeopt::cuda::moe
