#include "gpu/kernel_h.h"

#include <algorithm>

#include "cuda/moe/config.h"
#include "cuda/moe/describe.h"
#include "cuda/moe/workspace.h"

namespace moeopt::gpu_test {
namespace {

namespace moe = cuda::moe;

// The first slot of the same row with the same expert: the kernel multiplies a (token, expert)
// once.
std::size_t leader_of(const Assignment& a, std::size_t place) {
  std::size_t leader = place - place % static_cast<std::size_t>(a.top_k);
  while (a.slots[leader] != a.slots[place]) ++leader;
  return leader;
}

}  // namespace

KernelH find_kernel_h(const Arena& arena, const moeopt_moe_desc& desc, const void* workspace,
                      const Assignment& assignment) {
  const moe::Shape shape = moe::check_desc(&desc);
  const moe::Config config = moe::choose_config(shape);
  const moe::WorkspaceLayout layout = moe::workspace_layout(shape, config);
  const auto* const base = static_cast<const unsigned char*>(workspace);
  KernelH found;
  found.h = base + layout.h;
  found.scale = reinterpret_cast<const float*>(base + layout.h_scales);
  found.shared_h = base + layout.h_shared;
  found.shared_scale = reinterpret_cast<const float*>(base + layout.h_shared_scales);

  // Experts go by slots, and the work of each in token order: so the kernel has it where each block
  // makes its own lists. Elsewhere tokens go as they arrived.
  std::vector<std::size_t> order;
  std::vector<std::vector<std::int32_t>> lists(static_cast<std::size_t>(shape.slots));
  for (std::size_t place = 0; place < assignment.slots.size(); ++place) {
    const std::int32_t slot = assignment.slots[place];
    if (slot >= 0 && leader_of(assignment, place) == place) {
      auto& list = lists[static_cast<std::size_t>(slot)];
      if (list.empty()) order.push_back(static_cast<std::size_t>(slot));
      list.push_back(static_cast<std::int32_t>(place));
    }
  }
  std::ranges::sort(order);
  if (!config.local_lists) {
    const auto stride = static_cast<std::size_t>(shape.max_tokens);
    const std::vector<std::int32_t> stored = arena.download(
        reinterpret_cast<const std::int32_t*>(base + layout.lists), lists.size() * stride);
    for (const std::size_t slot : order) {
      const auto first = stored.begin() + static_cast<std::ptrdiff_t>(slot * stride);
      std::vector<std::int32_t> list(first,
                                     first + static_cast<std::ptrdiff_t>(lists[slot].size()));
      std::vector<std::int32_t> sorted = list;
      std::ranges::sort(sorted);
      if (sorted != lists[slot]) {
        found.fault = "the kernel's list of slot " + std::to_string(slot) + " is not its tokens";
        return found;
      }
      lists[slot] = std::move(list);
    }
  }
  found.row_of_place.assign(assignment.slots.size(), -1);
  std::int32_t row = 0;
  for (const std::size_t slot : order) {
    for (const std::int32_t place : lists[slot]) {
      found.row_of_place[static_cast<std::size_t>(place)] = row++;
    }
  }
  for (std::size_t place = 0; place < assignment.slots.size(); ++place) {
    if (assignment.slots[place] >= 0) {
      found.row_of_place[place] = found.row_of_place[leader_of(assignment, place)];
    }
  }
  return found;
}

}  // namespace moeopt::gpu_test
