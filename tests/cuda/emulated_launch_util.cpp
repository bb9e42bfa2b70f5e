#include "cuda/emulated_launch_util.h"

#include <algorithm>
#include <memory>

#include "cuda/emulated_block_util.h"

namespace moeopt::cuda::moe {
namespace {

// Any role of any resident block that can move, from a random one on; false when none can.
bool move_something(World& w, std::vector<std::unique_ptr<Block>>& resident) {
  const auto count = static_cast<std::uint32_t>(resident.size()) * kRoles;
  const auto start = static_cast<std::uint32_t>(w.random() % count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t at = (start + i) % count;
    Block& block = *resident[at / kRoles];
    const int role = static_cast<int>(at % kRoles);
    if (!block.step(role)) continue;
    while (w.how.depth_first && block.step(role)) {
    }
    return true;
  }
  return false;
}

}  // namespace

EmulatedResult emulate_launch(const EmulatedLayer& layer, EmulatedWorkspace& workspace, int tokens,
                              const std::vector<int>& slots, const Interleaving& how) {
  World w{.layer = layer,
          .workspace = workspace,
          .slots = slots,
          .how = how,
          .launch = layer.launch.with_tokens(tokens),
          .random = std::mt19937(how.seed),
          .result = {},
          .lists = std::vector<std::vector<int>>(static_cast<std::size_t>(layer.shape.slots)),
          .logits = std::vector<int>(static_cast<std::size_t>(tokens)),
          .quantised = std::vector<int>(static_cast<std::size_t>(tokens)),
          .chosen = std::vector<int>(static_cast<std::size_t>(tokens)),
          .h_units = {},
          .y_units = {}};
  w.result.combined.resize(static_cast<std::size_t>(tokens));
  std::vector<std::unique_ptr<Block>> resident;
  int started = 0;
  while (started < how.blocks || !resident.empty()) {
    while (started < how.blocks && static_cast<int>(resident.size()) < how.resident) {
      resident.push_back(std::make_unique<Block>(w, started));
      ++started;
    }
    if (!move_something(w, resident)) {
      w.result.hung = true;
      break;
    }
    std::erase_if(resident, [](const auto& block) { return block->over(); });
  }
  return w.result;
}

}  // namespace moeopt::cuda::moe
