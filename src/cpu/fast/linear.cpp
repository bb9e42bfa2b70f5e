#include "cpu/fast/linear.h"

#include <algorithm>
#include <array>

namespace moeopt::cpu::fast {
namespace {

struct LinearScratch {
  LinearScratch(Carver& carver, const Team& team, Packing packing, int rows, int inputs)
      : products(carver, team.pool.threads(), inputs),
        tile_bytes(team.kernels.packed_tile_bytes(packing, inputs)),
        packed(carver.take<std::byte>(static_cast<std::size_t>(tiles_of_rows(rows)) * tile_bytes)) {
  }
  ProductScratch products;
  std::size_t tile_bytes;
  std::byte* packed;
};

void pack_rows(const Team& team, Packing packing, const float* x, int rows, int inputs,
               const LinearScratch& scratch) {
  team.pool.for_each(tiles_of_rows(rows), [&](int tile, int /*member*/) {
    std::array<const float*, kTileRows> row;
    const int first = tile * kTileRows;
    const int n = std::min(kTileRows, rows - first);
    for (int r = 0; r < n; ++r) {
      row[static_cast<std::size_t>(r)] =
          x + static_cast<std::size_t>(first + r) * static_cast<std::size_t>(inputs);
    }
    team.kernels.pack_tile(packing, row.data(), n, inputs,
                           scratch.packed + static_cast<std::size_t>(tile) * scratch.tile_bytes);
  });
}

void add_bias(const float* bias, int rows, int features, std::size_t out_stride, float* out) {
  for (int r = 0; r < rows; ++r, out += out_stride) {
    for (int f = 0; f < features; ++f) out[f] += bias[f];
  }
}

}  // namespace

std::size_t linear_scratch_bytes(const Team& team, int rows, int inputs) {
  std::size_t bytes = 0;
  for (const Packing packing : {Packing::kExact, Packing::kRounded, Packing::kPairs}) {
    Carver carver;
    const LinearScratch scratch(carver, team, packing, rows, inputs);
    bytes = std::max(bytes, carver.used_bytes());
  }
  return bytes;
}

void linear(const Team& team, const float* x, int rows, const Matrix& w, bool round_inputs,
            std::span<const float> bias, float* out, Carver carver) {
  const WeightKind kind = kind_of(w);
  const Packing packing = packing_for(kind, round_inputs);
  const LinearScratch scratch(carver, team, packing, rows, w.in());
  pack_rows(team, packing, x, rows, w.in(), scratch);

  struct Item {
    int first_row = 0;
    int strip = -1;
  };
  const int strips = strips_of(w.out());
  const int block = block_rows(team.kernels, packing, w.in());
  const int blocks = (rows + block - 1) / block;
  const auto out_stride = static_cast<std::size_t>(w.out());
  stream_items(
      team.pool, blocks * strips,
      [&](int i) {
        return Item{i / strips * block, i % strips};
      },
      [&](const Item& item, const Item& following, int member) {
        const int first = item.strip * kStripFeatures;
        const Strip strip = strip_at(w, first, w.out(), scratch.products.scales(member));
        const int n = std::min(block, rows - item.first_row);
        const Upcoming next = following.strip < 0
                                  ? Upcoming{}
                                  : upcoming_strip(w, following.strip * kStripFeatures, w.out());
        float* to = out + static_cast<std::size_t>(item.first_row) * out_stride + first;
        team.kernels.product(packing, kind, strip,
                             scratch.packed + static_cast<std::size_t>(item.first_row / kTileRows) *
                                                  scratch.tile_bytes,
                             n, to, out_stride, scratch.products.product(member), next);
        if (!bias.empty()) add_bias(bias.data() + first, n, strip.features, out_stride, to);
      });
}

}  // namespace moeopt::cpu::fast
