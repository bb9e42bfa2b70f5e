#include "cpu/fast/experts.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace moeopt::cpu::fast {
namespace {

int blocks_of(const Kernels& kernels, int rows, Packing packing, int inputs) {
  const int block = block_rows(kernels, packing, inputs);
  return (rows + block - 1) / block;
}

std::size_t offset(int count, std::size_t size) {
  return static_cast<std::size_t>(count) * size;
}

// Tiles that `groups` groups of `slot_rows` rows in all can have.
int most_tiles(int slot_rows, int groups) {
  return slot_rows / kTileRows + std::min(slot_rows, groups);
}

class Experts {
 public:
  // The tile bytes are the largest of any group's.
  Experts(const Team& team, const ExpertShape& shape, std::size_t in_tile_bytes,
          std::size_t h_tile_bytes, Carver& carver)
      : team_(team),
        shape_(shape),
        products_(carver, team.pool.threads(), std::max(shape.hidden, shape.widest_intermediate)),
        in_tile_bytes_(in_tile_bytes),
        h_tile_bytes_(h_tile_bytes),
        packed_in_(take_tiles(carver, in_tile_bytes_)),
        packed_h_(take_tiles(carver, h_tile_bytes_)),
        h_(carver.take<float>(offset(shape.slot_rows, width()))),
        halves_(carver.take<float>(offset(team.pool.threads(), 2 * kHalf))) {}

  void run(std::span<ExpertGroup> groups, const float* const* slot_inputs, float* y) {
    groups_ = groups;
    count_items();
    pack_inputs(slot_inputs);
    gate_and_up();
    pack_h();
    down(y);
  }

 private:
  static constexpr std::size_t kHalf = std::size_t{kBlockRows} * kStripFeatures;

  struct Item {
    const ExpertGroup* group = nullptr;
    int first_row = 0;  // within the group
    int rows = 0;
    int first_feature = 0;
  };

  std::byte* take_tiles(Carver& carver, std::size_t tile_bytes) const {
    return carver.take<std::byte>(offset(most_tiles(shape_.slot_rows, shape_.groups), tile_bytes));
  }
  std::size_t width() const { return static_cast<std::size_t>(shape_.widest_intermediate); }

  void count_items() {
    for (ExpertGroup& group : groups_) {
      group.first_tile = n_tiles_;
      group.first_gate_item = n_gate_items_;
      group.first_down_item = n_down_items_;
      n_tiles_ += tiles_of_rows(group.rows);
      n_gate_items_ += blocks_of(team_.kernels, group.rows, group.in, shape_.hidden) *
                       strips_of(group.weights->gate.out());
      n_down_items_ +=
          blocks_of(team_.kernels, group.rows, group.between, group.weights->down.in()) *
          strips_of(shape_.hidden);
    }
  }

  // The last group whose `first` is at most `index`.
  const ExpertGroup& group_of(int index, int ExpertGroup::*first) const {
    const auto after = std::ranges::upper_bound(groups_, index, {}, first);
    return *(after - 1);
  }

  // The index-th of a product's items: blocks of the group's rows, strips of `out` features each.
  Item item_at(const ExpertGroup& group, int index, Packing packing, int inputs, int out) const {
    const int strips = strips_of(out);
    const int block = block_rows(team_.kernels, packing, inputs);
    const int first_row = index / strips * block;
    return {&group, first_row, std::min(block, group.rows - first_row),
            index % strips * kStripFeatures};
  }
  Item gate_item(int index) const {
    const ExpertGroup& group = group_of(index, &ExpertGroup::first_gate_item);
    return item_at(group, index - group.first_gate_item, group.in, shape_.hidden,
                   group.weights->gate.out());
  }
  Item down_item(int index) const {
    const ExpertGroup& group = group_of(index, &ExpertGroup::first_down_item);
    return item_at(group, index - group.first_down_item, group.between, group.weights->down.in(),
                   shape_.hidden);
  }

  // Packs n rows of a group from its row `first` on, for every tile of every group.
  template <typename PackTile>
  void for_each_tile(const PackTile& pack_tile) {
    team_.pool.for_each(n_tiles_, [&](int tile, int /*member*/) {
      const ExpertGroup& group = group_of(tile, &ExpertGroup::first_tile);
      const int first = (tile - group.first_tile) * kTileRows;
      pack_tile(group, first, std::min(kTileRows, group.rows - first));
    });
  }

  void pack_inputs(const float* const* slot_inputs) {
    for_each_tile([&](const ExpertGroup& group, int first, int n) {
      team_.kernels.pack_tile(group.in, slot_inputs + group.first + first, n, shape_.hidden,
                              in_tile(group, first));
    });
  }
  void pack_h() {
    for_each_tile([&](const ExpertGroup& group, int first, int n) {
      std::array<const float*, kTileRows> rows;
      for (int r = 0; r < n; ++r) {
        rows[static_cast<std::size_t>(r)] = h_ + offset(group.first + first + r, width());
      }
      team_.kernels.pack_tile(group.between, rows.data(), n, group.weights->down.in(),
                              h_tile(group, first));
    });
  }

  // A group's tiles are consecutive as its own packing has them.
  std::byte* in_tile(const ExpertGroup& group, int row) const {
    return packed_in_ + offset(group.first_tile, in_tile_bytes_) +
           offset(row / kTileRows, team_.kernels.packed_tile_bytes(group.in, shape_.hidden));
  }
  std::byte* h_tile(const ExpertGroup& group, int row) const {
    return packed_h_ + offset(group.first_tile, h_tile_bytes_) +
           offset(row / kTileRows,
                  team_.kernels.packed_tile_bytes(group.between, group.weights->down.in()));
  }

  void gate_and_up() {
    const auto work = [&](const Item& item, const Item& following, int member) {
      const Matrix& gate = item.group->weights->gate;
      const Matrix& up = item.group->weights->up;
      const int intermediate = gate.out();
      const std::byte* packed = in_tile(*item.group, item.first_row);
      float* gate_out = halves_ + offset(2 * member, kHalf);
      float* up_out = gate_out + kHalf;

      int features = 0;
      const auto multiply = [&](const Matrix& w, float* out, Upcoming next) {
        // Both halves have the same features: e4m3 cuts a strip only where 128 rows end.
        const Strip strip = strip_at(w, item.first_feature, intermediate, products_.scales(member));
        features = strip.features;
        team_.kernels.product(item.group->in, kind_of(w), strip, packed, item.rows, out,
                              kStripFeatures, products_.product(member), next);
      };
      multiply(gate, gate_out, upcoming_strip(up, item.first_feature, intermediate));
      multiply(up, up_out,
               following.group == nullptr
                   ? Upcoming{}
                   : upcoming_strip(following.group->weights->gate, following.first_feature,
                                    following.group->weights->gate.out()));
      for (int r = 0; r < item.rows; ++r) {
        float* h = h_ + offset(item.group->first + item.first_row + r, width());
        team_.kernels.swiglu(gate_out + offset(r, kStripFeatures),
                             up_out + offset(r, kStripFeatures), features, h + item.first_feature);
      }
    };
    stream_items(
        team_.pool, n_gate_items_, [&](int i) { return gate_item(i); }, work);
  }

  void down(float* y) {
    const auto work = [&](const Item& item, const Item& following, int member) {
      const Matrix& w = item.group->weights->down;
      const Strip strip = strip_at(w, item.first_feature, shape_.hidden, products_.scales(member));
      const Upcoming next = following.group == nullptr
                                ? Upcoming{}
                                : upcoming_strip(following.group->weights->down,
                                                 following.first_feature, shape_.hidden);
      const auto stride = static_cast<std::size_t>(shape_.hidden);
      float* out = y + offset(item.group->first + item.first_row, stride) + item.first_feature;
      team_.kernels.product(item.group->between, kind_of(w), strip,
                            h_tile(*item.group, item.first_row), item.rows, out, stride,
                            products_.product(member), next);
    };
    stream_items(
        team_.pool, n_down_items_, [&](int i) { return down_item(i); }, work);
  }

  const Team& team_;
  ExpertShape shape_;
  ProductScratch products_;
  std::size_t in_tile_bytes_, h_tile_bytes_;
  std::byte* packed_in_;
  std::byte* packed_h_;
  float* h_;
  float* halves_;
  std::span<ExpertGroup> groups_;
  int n_tiles_ = 0;
  int n_gate_items_ = 0;
  int n_down_items_ = 0;
};

}  // namespace

std::size_t experts_scratch_bytes(const Team& team, const ExpertShape& shape) {
  Carver carver;
  const auto largest = [&](int inputs) {
    return std::max(team.kernels.packed_tile_bytes(Packing::kExact, inputs),
                    team.kernels.packed_tile_bytes(Packing::kPairs, inputs));
  };
  const Experts counted(team, shape, largest(shape.hidden), largest(shape.widest_intermediate),
                        carver);
  return carver.used_bytes();
}

void run_experts(const Team& team, std::span<ExpertGroup> groups, const float* const* slot_inputs,
                 bool round_inputs, float* y, Carver carver) {
  if (groups.empty()) return;
  ExpertShape shape;
  shape.hidden = groups.front().weights->gate.in();
  shape.groups = static_cast<int>(groups.size());
  std::size_t in_bytes = 0;
  std::size_t h_bytes = 0;
  for (ExpertGroup& group : groups) {
    const SwigluWeights& w = *group.weights;
    const Packing up = packing_for(kind_of(w.up), round_inputs);
    group.in = packing_for(kind_of(w.gate), round_inputs);
    if (group.in != up) group.in = round_inputs ? Packing::kRounded : Packing::kExact;
    group.between = packing_for(kind_of(w.down), round_inputs);
    in_bytes = std::max(in_bytes, team.kernels.packed_tile_bytes(group.in, shape.hidden));
    h_bytes = std::max(h_bytes, team.kernels.packed_tile_bytes(group.between, w.down.in()));
    shape.widest_intermediate = std::max(shape.widest_intermediate, w.gate.out());
    shape.slot_rows += group.rows;
  }
  Experts experts(team, shape, in_bytes, h_bytes, carver);
  experts.run(groups, slot_inputs, y);
}

}  // namespace moeopt::cpu::fast
