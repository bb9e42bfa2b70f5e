// Whole launches played on the CPU (emulated_launch_util.h): every (token, expert, unit) is done
// exactly once and read only after it was published, in any interleaving and with any number of
// resident blocks; and the workspace is ready for the next launch.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cuda/emulated_launch_util.h"

namespace moeopt::cuda::moe {
namespace {

int draw(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

Shape draw_shape(std::mt19937& random, int max_tokens) {
  Shape shape;
  shape.dtype = draw(random, 0, 1) == 0 ? Dtype::kBf16 : Dtype::kFp8;
  const int unit = shape.dtype == Dtype::kFp8 ? 128 : 64;
  shape.hidden = unit * draw(random, 1, 9);
  shape.intermediate = unit * draw(random, 1, 5);
  shape.experts = draw(random, 1, draw(random, 0, 3) == 0 ? 2 : 24);
  shape.top_k = std::min(shape.experts, draw(random, 1, 6));
  shape.slots = draw(random, 1, shape.experts);
  shape.max_tokens = max_tokens;
  if (draw(random, 0, 3) == 0) {
    shape.tile_tokens =
        max_tokens <= kFewTokens && draw(random, 0, 1) == 0 ? kFewTokens : 32 << draw(random, 0, 2);
  }
  if (draw(random, 0, 7) == 0) shape.hidden = 2048 * draw(random, 1, 3);  // parts of combinations
  if (draw(random, 0, 2) == 0) {
    shape.shared_intermediate = unit * draw(random, 1, 4);
    shape.shared_gate = draw(random, 0, 1) == 1;
  }
  return shape;
}

// Slots of all choices: some absent, some repeated within a token, now and then all in one expert.
std::vector<int> draw_slots(std::mt19937& random, const Shape& shape, int tokens) {
  const bool hot = draw(random, 0, 3) == 0;
  std::vector<int> slots(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(shape.top_k));
  for (int& slot : slots) slot = hot ? 0 : draw(random, -1, shape.slots - 1);
  return slots;
}

// Rows that are work: of an expert that is here, once a token.
std::vector<int> own_entries(const Shape& shape, const std::vector<int>& slots) {
  std::vector<int> own;
  for (std::size_t entry = 0; entry < slots.size(); ++entry) {
    const auto token = entry - entry % static_cast<std::size_t>(shape.top_k);
    const auto first = slots.begin() + static_cast<std::ptrdiff_t>(token);
    const auto here = slots.begin() + static_cast<std::ptrdiff_t>(entry);
    if (*here >= 0 && std::find(first, here, *here) == here) own.push_back(static_cast<int>(entry));
  }
  return own;
}

void expect_done_once(const EmulatedLayer& layer, const EmulatedResult& result, int tokens,
                      const std::vector<int>& slots) {
  const Launch& launch = layer.launch;
  std::size_t wanted = 0;
  const auto expect_rows = [&](bool shared, const std::vector<int>& rows, int units1, int units2) {
    for (const int row : rows) {
      for (const auto& [kind, units] :
           {std::pair(TaskKind::kFirst, units1), std::pair(TaskKind::kSecond, units2)}) {
        for (int unit = 0; unit < units; ++unit, ++wanted) {
          const auto found = result.done.find({kind, shared, unit, row});
          ASSERT_TRUE(found != result.done.end()) << "row " << row << " unit " << unit;
          ASSERT_EQ(found->second, 1) << "row " << row << " unit " << unit;
        }
      }
    }
  };
  expect_rows(false, own_entries(layer.shape, slots), launch.units1, launch.units2);
  if (layer.shape.shared()) {
    std::vector<int> all(static_cast<std::size_t>(tokens));
    std::iota(all.begin(), all.end(), 0);
    expect_rows(true, all, launch.shared_units1, launch.shared_units2);
  }
  EXPECT_EQ(result.done.size(), wanted) << "work that nobody asked for";
  EXPECT_EQ(result.combined,
            std::vector<int>(static_cast<std::size_t>(tokens), layer.launch.combine_parts));
}

Interleaving draw_interleaving(std::mt19937& random) {
  Interleaving how;
  how.blocks = draw(random, 1, 9);
  how.resident = draw(random, 1, how.blocks);
  how.draws_early = draw(random, 0, 1) == 0;
  how.depth_first = draw(random, 0, 1) == 0;
  how.seed = static_cast<std::uint32_t>(random());
  return how;
}

TEST(Emulation, EverythingOnceInAnyInterleavingLaunchAfterLaunch) {
  std::mt19937 random(3);
  int gathers = 0;
  int wide_gates = 0;
  int held = 0;
  for (int round = 0; round < 180; ++round) {
    // Every way of routing: for itself, by words, by lists; n is 8 to 128; wide gate tasks.
    const int max_tokens = draw(random, 0, 2) == 0   ? draw(random, 1, 8)
                           : draw(random, 0, 4) == 0 ? 1000
                                                     : draw(random, 9, 300);
    const EmulatedLayer layer(draw_shape(random, max_tokens), draw(random, 0, 2) == 0);
    EmulatedWorkspace workspace(layer);
    gathers += layer.launch.gathers ? 1 : 0;
    const bool wide_gate = layer.config.gate_rows > kGateRows && layer.launch.gate_tokens > 0;
    wide_gates += wide_gate && layer.shape.shared() ? 1 : 0;
    std::uint64_t tokens_so_far = 0;
    std::uint64_t rows_so_far = 0;
    for (std::uint32_t launch = 0; launch < 4; ++launch) {
      const int tokens = draw(random, 0, 4) == 0 ? 0 : draw(random, 1, std::min(max_tokens, 300));
      const std::vector<int> slots = draw_slots(random, layer.shape, tokens);
      const Interleaving how = draw_interleaving(random);
      SCOPED_TRACE(layer.config.name() + ", round " + std::to_string(round) + ", launch " +
                   std::to_string(launch) + ", " + std::to_string(tokens) + " tokens, " +
                   std::to_string(how.resident) + " of " + std::to_string(how.blocks) + " blocks");
      const EmulatedResult result = emulate_launch(layer, workspace, tokens, slots, how);
      ASSERT_FALSE(result.hung);
      ASSERT_TRUE(result.faults.empty()) << result.faults.front();
      expect_done_once(layer, result, tokens, slots);
      if (testing::Test::HasFatalFailure()) return;
      held += result.held;
      tokens_so_far += static_cast<std::uint64_t>(tokens);
      rows_so_far += own_entries(layer.shape, slots).size();
      EXPECT_EQ(workspace.launches, launch + 1);
      EXPECT_EQ(workspace.tokens, tokens_so_far);
      EXPECT_EQ(workspace.rows, rows_so_far);
      EXPECT_EQ(workspace.ticket, std::uint64_t{launch + 1} << 32);
      EXPECT_TRUE(workspace.sets[launch % 2 == 0 ? 1 : 0].clean()) << "for the next launch";
    }
  }
  EXPECT_GE(gathers, 5);
  EXPECT_GE(wide_gates, 5);
  EXPECT_GE(held, 20);
}

// The play would show it: another order hangs when one block is resident, or is caught reading.
TEST(Emulation, AnOrderAgainstTheScheduleHangs) {
  Shape shape;
  shape.hidden = shape.intermediate = 256;
  shape.experts = shape.slots = 6;
  shape.top_k = 2;
  shape.max_tokens = 40;
  const EmulatedLayer layer(shape, false);
  std::mt19937 random(5);
  const std::vector<int> slots = draw_slots(random, shape, 40);
  const int unrouted = layer.launch.with_tokens(40).unrouted();
  Interleaving how;
  how.reorder = [unrouted](int ticket, int total) { return total - 1 - (ticket - unrouted); };
  for (const int resident : {1, 4}) {
    how.resident = resident;
    EmulatedWorkspace workspace(layer);
    EXPECT_TRUE(emulate_launch(layer, workspace, 40, slots, how).hung);
  }
}

// A set that was not cleared lets a launch read what is not there: the play sees that too.
TEST(Emulation, ADirtySetIsSeen) {
  Shape shape;
  shape.hidden = shape.intermediate = 256;
  shape.experts = shape.slots = 6;
  shape.top_k = 2;
  shape.max_tokens = 40;
  const EmulatedLayer layer(shape, false);
  std::mt19937 random(6);
  const std::vector<int> slots = draw_slots(random, shape, 40);
  EmulatedWorkspace workspace(layer);
  const Interleaving how;
  ASSERT_TRUE(emulate_launch(layer, workspace, 40, slots, how).faults.empty());
  workspace.ticket = 0;  // the number of the launch before
  const EmulatedResult result = emulate_launch(layer, workspace, 40, slots, how);
  EXPECT_TRUE(result.hung || !result.faults.empty());
}

}  // namespace
}  // namespace moeopt::cuda::moe
