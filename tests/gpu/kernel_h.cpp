#include "gpu/kernel_h.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cuda/moe/config.h"
#include "cuda/moe/describe.h"
#include "cuda/moe/workspace.h"
#include "tensor/dtype.h"

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

// A token tile of h in stage images (cuda/moe/layout.h).
struct ImageTile {
  std::size_t first_row;  // of the images
  std::size_t rows;
};

// The tiles of `rows` rows whose images begin at `first_row`.
void cut(std::size_t first_row, std::size_t rows, std::size_t tile_rows,
         std::vector<ImageTile>& tiles) {
  for (std::size_t row = 0; row < rows; row += tile_rows) {
    tiles.push_back({first_row + row, std::min(tile_rows, rows - row)});
  }
}

// h and its scales from images to rows of `width` values, on the device.
void unfold(Arena& arena, const std::vector<ImageTile>& tiles, int width, const Fp8Bits*& h,
            const float*& scale) {
  constexpr std::size_t kBytes = moe::kBlockBytes;
  const auto groups = static_cast<std::size_t>(width) / kBytes;
  const std::size_t image_rows =
      tiles.empty()
          ? 0
          : tiles.back().first_row +
                static_cast<std::size_t>(moe::image_rows(static_cast<int>(tiles.back().rows)));
  const std::vector<Fp8Bits> images = arena.download(h, image_rows * groups * kBytes);
  const std::vector<float> image_scales = arena.download(scale, image_rows * groups);
  std::vector<Fp8Bits> plain;
  std::vector<float> plain_scales;
  for (const ImageTile& tile : tiles) {
    const auto padded = static_cast<std::size_t>(moe::image_rows(static_cast<int>(tile.rows)));
    const std::size_t base = tile.first_row * groups;
    for (std::size_t row = 0; row < tile.rows; ++row) {
      for (std::size_t block = 0; block < groups; ++block) {
        const std::size_t line = (base + block * padded + row) * kBytes;
        for (std::size_t byte = 0; byte < kBytes; ++byte) {
          const std::size_t chunk = (byte / 16) ^ (row % 8);
          plain.push_back(images[line + chunk * 16 + byte % 16]);
        }
        plain_scales.push_back(image_scales[base + block * padded + row]);
      }
    }
  }
  h = arena.upload(plain);
  scale = arena.upload(plain_scales);
}

// h of few tokens, float32 in words, as those who read it quantise it.
void quantise_words(Arena& arena, const unsigned char* words, std::size_t rows, int width,
                    const Fp8Bits*& h, const float*& scale) {
  constexpr std::size_t kBlock = 128;
  constexpr float kLargest = 448.0f;
  const std::vector<std::uint64_t> stored = arena.download(
      reinterpret_cast<const std::uint64_t*>(words), rows * static_cast<std::size_t>(width));
  std::vector<Fp8Bits> plain;
  std::vector<float> scales;
  for (std::size_t start = 0; start < stored.size(); start += kBlock) {
    float column[kBlock];
    float largest = 1e-10f;
    for (std::size_t i = 0; i < kBlock; ++i) {
      column[i] = std::bit_cast<float>(static_cast<std::uint32_t>(stored[start + i]));
      largest = std::fmax(largest, std::fabs(column[i]));
    }
    scales.push_back(largest / kLargest);
    for (const float value : column) plain.push_back(to_f8e4m3(value / scales.back()).bits);
  }
  h = arena.upload(plain);
  scale = arena.upload(scales);
}

}  // namespace

KernelH find_kernel_h(Arena& arena, const moeopt_moe_desc& desc, const void* workspace,
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
  std::vector<ImageTile> tiles;
  const auto tile_rows = static_cast<std::size_t>(config.variant.n_max);
  for (const std::size_t slot : order) {
    cut(static_cast<std::size_t>(moe::image_row(row, static_cast<int>(slot))), lists[slot].size(),
        tile_rows, tiles);
    for (const std::int32_t place : lists[slot]) {
      found.row_of_place[static_cast<std::size_t>(place)] = row++;
    }
  }
  for (std::size_t place = 0; place < assignment.slots.size(); ++place) {
    if (assignment.slots[place] >= 0) {
      found.row_of_place[place] = found.row_of_place[leader_of(assignment, place)];
    }
  }
  if (config.few() && shape.dtype == moe::Dtype::kFp8) {
    quantise_words(arena, base + layout.h_words, static_cast<std::size_t>(row), shape.intermediate,
                   found.h, found.scale);
    quantise_words(arena, base + layout.h_shared_words,
                   shape.shared() ? static_cast<std::size_t>(assignment.rows) : 0,
                   shape.shared_intermediate, found.shared_h, found.shared_scale);
  }
  if (config.images()) {
    unfold(arena, tiles, shape.intermediate, found.h, found.scale);
    if (shape.shared()) {
      std::vector<ImageTile> shared;
      cut(0, static_cast<std::size_t>(assignment.rows), tile_rows, shared);
      unfold(arena, shared, shape.shared_intermediate, found.shared_h, found.shared_scale);
    }
  }
  return found;
}

}  // namespace moeopt::gpu_test
