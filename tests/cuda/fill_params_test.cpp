// What the kernel is told about its workspace: regions aligned, in bounds, apart, and large enough.
#include "cuda/moe/fill_params.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cuda/moe/describe.h"

namespace moeopt::cuda::moe {
namespace {

constexpr std::uintptr_t kBase = 0x10000000;

struct Region {
  const char* name;
  const void* start;
  std::uint64_t bytes;
};

// Every region of the workspace and the bytes that its documentation in workspace.h promises.
std::vector<Region> regions_of(const Params& p, const Shape& s) {
  const auto n = [](int value) { return static_cast<std::uint64_t>(value); };
  const std::uint64_t rows = n(s.max_tokens) * n(s.top_k);
  const bool fp8 = s.dtype == Dtype::kFp8;
  const std::uint64_t element = fp8 ? 1 : 2;
  std::vector<Region> regions = {
      {"counters", p.counters, sizeof(moeopt_moe_counters)},
      {"ticket", p.ticket, 8},
      {"sets", p.sets, 2 * p.set_bytes},
      {"logits", p.logits, 4 * n(s.max_tokens) * n(logits_stride(s.experts))},
      {"y_slot", p.y_slot, 4 * rows},
      {"weights", p.weights, 4 * n(s.max_tokens) * n(p.y_rows)},
      {"expected", p.expected, 4 * n(s.max_tokens)},
      {"lists", p.lists, 4 * n(s.slots) * n(s.max_tokens)},
  };
  const bool few = p.launch.n_max <= kFewTokens;
  if (few) {
    const std::uint64_t columns = fp8 ? 1 : 2;  // of h in a word
    regions.push_back({"h_words", p.h_words, 8 * rows * n(s.intermediate) / columns});
    regions.push_back({"h_shared_words", p.h_shared_words,
                       8 * n(s.max_tokens) * n(s.shared_intermediate) / columns});
    regions.push_back({"y_words", p.y_words, 8 * n(s.max_tokens) * n(p.y_rows) * n(s.hidden / 2)});
  } else {
    regions.push_back({"h", p.h, rows * n(s.intermediate) * element});
    regions.push_back({"y", p.y, 2 * n(s.max_tokens) * n(p.y_rows) * n(s.hidden)});
  }
  if (p.local_lists != 0) {
    regions.push_back(
        {"logit_words", p.logit_words, 8 * n(s.max_tokens) * n(logits_stride(s.experts))});
    regions.push_back({"choice_words", p.choice_words, 8 * rows});
    regions.push_back({"weight_words", p.weight_words, 8 * rows});
  }
  if (fp8) {
    regions.push_back({"x_quantised", p.x_quantised, n(s.max_tokens) * n(s.hidden)});
    regions.push_back({"x_scales", p.x_scales, 4 * n(s.max_tokens) * n(s.hidden / 128)});
    if (!few) regions.push_back({"h_scales", p.h_scales, 4 * rows * n(s.intermediate / 128)});
  }
  if (s.shared() && !few) {
    regions.push_back(
        {"h_shared", p.h_shared, n(s.max_tokens) * n(s.shared_intermediate) * element});
    if (fp8) {
      regions.push_back({"h_shared_scales", p.h_shared_scales,
                         4 * n(s.max_tokens) * n(s.shared_intermediate / 128)});
    }
  }
  return regions;
}

Shape shape_of(int hidden, int intermediate, int experts, int top_k, int max_tokens, bool fp8,
               int shared, int slots) {
  moeopt_moe_desc desc{};
  desc.struct_size = sizeof(desc);
  desc.hidden = hidden;
  desc.intermediate = intermediate;
  desc.experts = experts;
  desc.top_k = top_k;
  desc.max_tokens = max_tokens;
  desc.dtype = fp8 ? MOEOPT_FP8 : MOEOPT_BF16;
  desc.shared_intermediate = shared;
  desc.shared_gate = shared > 0 ? 1 : 0;
  desc.slots = slots;
  return check_desc(&desc);
}

TEST(FillParams, WorkspaceRegionsAreApartAndInBounds) {
  const Shape shapes[] = {
      shape_of(2048, 768, 128, 8, 1, false, 0, 0),
      shape_of(2048, 768, 128, 8, 512, true, 0, 0),
      shape_of(4096, 14336, 8, 2, 512, false, 0, 0),
      shape_of(7168, 2048, 256, 8, 64, true, 2048, 32),
      shape_of(64, 64, 1, 1, 1, false, 64, 0),
      shape_of(7168, 2048, 32, 8, 8, true, 2048, 0),
      shape_of(128, 128, 512, 16, 65536, true, 128, 0),
      shape_of(16384, 32768, 3, 3, 65536, false, 32768, 512),
  };
  for (const Shape& shape : shapes) {
    const Config config = choose_config(shape);
    const WorkspaceLayout layout = workspace_layout(shape, config);
    moeopt_moe_args args{};
    args.workspace = reinterpret_cast<void*>(kBase);
    const Params params = fill_params(shape, config, layout, args);
    std::vector<Region> regions = regions_of(params, shape);
    std::sort(regions.begin(), regions.end(), [](const Region& a, const Region& b) {
      return reinterpret_cast<std::uintptr_t>(a.start) < reinterpret_cast<std::uintptr_t>(b.start);
    });
    std::uintptr_t end = kBase;
    for (const Region& region : regions) {
      const auto start = reinterpret_cast<std::uintptr_t>(region.start);
      EXPECT_GE(start, end) << region.name << " overlaps the region before it";
      EXPECT_EQ(start % 128, 0u) << region.name;
      end = start + region.bytes;
    }
    EXPECT_LE(end, kBase + layout.bytes);
    EXPECT_EQ(static_cast<const void*>(params.counters), args.workspace)
        << "moeopt.h: at the start of the workspace";
    // A set holds all that its documentation names, and init_workspace clears both sets and no
    // result.
    EXPECT_GE(params.set_bytes,
              sizeof(CounterSet) + 4 * (static_cast<std::uint64_t>(shape.slots) +
                                        static_cast<std::uint64_t>(params.token_tiles) +
                                        static_cast<std::uint64_t>(params.shared_tiles) +
                                        static_cast<std::uint64_t>(params.gate_tiles) +
                                        static_cast<std::uint64_t>(shape.max_tokens)));
    EXPECT_GE(kBase + layout.control_bytes,
              reinterpret_cast<std::uintptr_t>(params.sets) + 2 * params.set_bytes);
    EXPECT_LE(kBase + layout.control_bytes, reinterpret_cast<std::uintptr_t>(params.logits));
  }
}

TEST(FillParams, ControlTakesWhatLastsOutOfTheWorkspace) {
  const Shape shape = shape_of(2048, 768, 128, 8, 64, true, 128, 0);
  const Config config = choose_config(shape);
  const WorkspaceLayout layout = workspace_layout(shape, config);
  constexpr std::uintptr_t kControl = 0x70000000;
  moeopt_moe_args args{};
  args.workspace = reinterpret_cast<void*>(kBase);
  const Params alone = fill_params(shape, config, layout, args);
  args.control = reinterpret_cast<void*>(kControl);
  const Params params = fill_params(shape, config, layout, args);
  const std::vector<Region> before = regions_of(alone, shape);
  const std::vector<Region> after = regions_of(params, shape);
  for (std::size_t i = 0; i < after.size(); ++i) {
    const auto offset = reinterpret_cast<std::uintptr_t>(before[i].start) - kBase;
    const std::uintptr_t expected =
        offset < layout.control_bytes ? kControl + offset : kBase + offset - layout.control_bytes;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(after[i].start), expected) << after[i].name;
  }
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(params.counters), kControl);
}

TEST(FillParams, CopiesTheLayerAndTheCall) {
  const Shape shape = shape_of(256, 128, 8, 2, 64, true, 384, 5);
  const Config config = choose_config(shape);
  moeopt_moe_args args{};
  const auto address = [](std::uintptr_t value) { return reinterpret_cast<void*>(value); };
  args.tokens = 17;
  args.tokens_device = static_cast<const std::int32_t*>(address(0x1000));
  args.x = address(0x2000);
  args.x_stride = 264;
  args.out = address(0x3000);
  args.out_stride = 272;
  args.experts = address(0x4000);
  args.expert_stride = 4096;
  args.shared = address(0x5000);
  args.router = address(0x6000);
  args.correction_bias = static_cast<const float*>(address(0x7000));
  args.shared_gate = address(0x8000);
  args.ids = static_cast<const std::int32_t*>(address(0x9000));
  args.weights = static_cast<const float*>(address(0xa000));
  args.expert_map = static_cast<const std::int32_t*>(address(0xb000));
  args.out_ids = static_cast<std::int32_t*>(address(0xc000));
  args.out_weights = static_cast<float*>(address(0xd000));
  args.out_counts = static_cast<std::int32_t*>(address(0xe000));
  args.workspace = address(kBase);
  const Params p = fill_params(shape, config, workspace_layout(shape, config), args);
  EXPECT_EQ(p.tokens, 17);
  EXPECT_EQ(p.tokens_device, args.tokens_device);
  EXPECT_EQ(p.x, args.x);
  EXPECT_EQ(p.x_stride, 264);
  EXPECT_EQ(p.out, args.out);
  EXPECT_EQ(p.out_stride, 272);
  EXPECT_EQ(p.experts, args.experts);
  EXPECT_EQ(p.expert_stride, 4096u);
  EXPECT_EQ(p.shared, args.shared);
  EXPECT_EQ(p.router, args.router);
  EXPECT_EQ(p.correction_bias, args.correction_bias);
  EXPECT_EQ(p.shared_gate, args.shared_gate);
  EXPECT_EQ(p.ids, args.ids);
  EXPECT_EQ(p.given_weights, args.weights);
  EXPECT_EQ(p.expert_map, args.expert_map);
  EXPECT_EQ(p.out_ids, args.out_ids);
  EXPECT_EQ(p.out_weights, args.out_weights);
  EXPECT_EQ(p.out_counts, args.out_counts);
  EXPECT_EQ(p.max_tokens, 64);
  EXPECT_EQ(p.hidden, 256);
  EXPECT_EQ(p.intermediate, 128);
  EXPECT_EQ(p.shared_intermediate, 384);
  EXPECT_EQ(p.experts_total, 8);
  EXPECT_EQ(p.slots, 5);
  EXPECT_EQ(p.top_k, 2);
  EXPECT_EQ(p.y_rows, 3);
  EXPECT_EQ(p.layout.bytes(), expert_layout(shape).bytes());
  EXPECT_EQ(p.shared_layout.bytes(), shared_bytes(shape));
}

// However the rows fall on the slots, each (expert, token tile) has its counter.
TEST(FillParams, EveryTokenTileHasACounter) {
  std::uint32_t state = 1;
  const auto below = [&state](int n) {
    state = state * 1664525u + 1013904223u;
    return static_cast<int>((state >> 8) % static_cast<std::uint32_t>(n));
  };
  for (int round = 0; round < 300; ++round) {
    Shape shape;
    shape.hidden = shape.intermediate = 128;
    shape.slots = shape.experts = 1 + below(40);
    shape.top_k = 1 + below(std::min(shape.experts, 16));
    shape.max_tokens = 1 + below(400);
    const Config config = choose_config(shape);
    const int n = config.variant.n_max;
    const int rows = shape.max_tokens * shape.top_k;
    std::vector<int> rows_of(static_cast<std::size_t>(shape.slots));
    for (int row = 0; row < rows;) {  // runs that end just beyond a tile now and then
      const int run = std::min(rows - row, below(2) == 0 ? n + 1 : 1 + below(2 * n));
      rows_of[static_cast<std::size_t>(below(shape.slots))] += run;
      row += run;
    }
    int tiles = 0;
    for (const int count : rows_of) tiles += ceil_div(count, n);
    EXPECT_LE(tiles, workspace_layout(shape, config).token_tiles);
  }
}

}  // namespace
}  // namespace moeopt::cuda::moe
