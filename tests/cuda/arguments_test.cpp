// Every check of a pack or forward call, by its message. Addresses are made up: none is followed.
#include "cuda/moe/arguments.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "cuda/moe/describe.h"
#include "cuda/moe/refusal.h"

namespace moeopt::cuda::moe {
namespace {

template <typename T>
void set_address(T*& pointer, std::uintptr_t value) {
  pointer = reinterpret_cast<T*>(value);
}

Shape shape_of(const std::function<void(moeopt_moe_desc&)>& change = [](moeopt_moe_desc&) {}) {
  moeopt_moe_desc desc{};
  desc.struct_size = sizeof(desc);
  desc.hidden = 256;
  desc.intermediate = 128;
  desc.experts = 8;
  desc.top_k = 2;
  desc.max_tokens = 64;
  change(desc);
  return check_desc(&desc);
}

moeopt_moe_args good_args() {
  moeopt_moe_args args{};
  args.struct_size = sizeof(args);
  args.tokens = 64;
  set_address(args.x, 0x100000);
  set_address(args.out, 0x200000);
  set_address(args.experts, 0x300000);
  set_address(args.router, 0x400000);
  set_address(args.workspace, 0x500000);
  return args;
}

moeopt_expert_source good_source(moeopt_source kind) {
  moeopt_expert_source source{};
  source.struct_size = sizeof(source);
  source.source = kind;
  set_address(source.gate, 0x100000);
  set_address(source.up, 0x200000);
  set_address(source.down, 0x300000);
  if (kind == MOEOPT_SOURCE_FP8) {
    set_address(source.gate_scale, 0x400004);
    set_address(source.up_scale, 0x500008);
    set_address(source.down_scale, 0x60000c);
  }
  return source;
}

// What `call` was refused with; "" when it was not.
template <typename Call>
std::string refusal_of(const Call& call) {
  try {
    call();
    return "";
  } catch (const Refusal& refusal) {
    EXPECT_EQ(refusal.status(), MOEOPT_ERROR_ARGUMENT);
    return refusal.what();
  }
}

struct ArgsCase {
  std::string wanted;
  std::function<void(moeopt_moe_args&)> change;
};

void expect(const Shape& shape, const std::vector<ArgsCase>& cases) {
  for (const ArgsCase& c : cases) {
    moeopt_moe_args args = good_args();
    c.change(args);
    EXPECT_EQ(refusal_of([&] { check_args(shape, &args); }), c.wanted);
  }
}

void give_ids(moeopt_moe_args& args) {
  args.router = nullptr;
  set_address(args.ids, 0x600000);
  set_address(args.weights, 0x700000);
}

TEST(Arguments, FillsInTheStrides) {
  const moeopt_moe_args given = good_args();
  const moeopt_moe_args args = check_args(shape_of(), &given);
  EXPECT_EQ(args.x_stride, 256);
  EXPECT_EQ(args.out_stride, 256);
  EXPECT_EQ(args.expert_stride, 3u * 256u * 128u * 2u);
  EXPECT_EQ(args.x, given.x);
  EXPECT_EQ(args.workspace, given.workspace);
}

TEST(Arguments, Tokens) {
  expect(shape_of(),
         {{"", [](auto& a) { a.tokens = 0; }},
          {"tokens is 65; it must be 0 .. max_tokens (64)", [](auto& a) { a.tokens = 65; }},
          {"tokens is -1; it must be 0 .. max_tokens (64)", [](auto& a) { a.tokens = -1; }},
          {"", [](auto& a) { a.tokens = -1, set_address(a.tokens_device, 0x800000); }},
          {"tokens_device is not aligned to 16 bytes",
           [](auto& a) { set_address(a.tokens_device, 0x800004); }},
          // An empty tensor has no address; with a count on the device it is not known to be empty.
          {"", [](auto& a) { a.tokens = 0, a.x = nullptr, a.out = nullptr, a.router = nullptr; }},
          {"x is null",
           [](auto& a) { a.tokens = 0, a.x = nullptr, set_address(a.tokens_device, 0x800000); }}});
}

TEST(Arguments, Rows) {
  expect(
      shape_of(),
      {{"x is null", [](auto& a) { a.x = nullptr; }},
       {"out is null", [](auto& a) { a.out = nullptr; }},
       {"x is not aligned to 16 bytes", [](auto& a) { set_address(a.x, 0x100008); }},
       {"out is not aligned to 16 bytes", [](auto& a) { set_address(a.out, 0x200001); }},
       {"", [](auto& a) { a.x_stride = 264, a.out_stride = 1024; }},
       {"x_stride is 255; it must be 0 or a multiple of 8 that is not below the row's 256 elements",
        [](auto& a) { a.x_stride = 255; }},
       {"x_stride is 248; it must be 0 or a multiple of 8 that is not below the row's 256 elements",
        [](auto& a) { a.x_stride = 248; }},
       {"out_stride is -256; it must be 0 or a multiple of 8 that is not below the row's 256 "
        "elements",
        [](auto& a) { a.out_stride = -256; }},
       {"x_stride is 545392680; the 64 rows of x would span 64 GiB or more",
        [](auto& a) { a.x_stride = 545392680, set_address(a.out, 0x10000000000000); }},
       {"", [](auto& a) { a.x_stride = 545392672, set_address(a.out, 0x10000000000000); }},
       {"out overlaps x", [](auto& a) { a.out = const_cast<void*>(a.x); }},
       {"out overlaps x", [](auto& a) { set_address(a.out, 0x100000 + 64 * 512 - 16); }},
       {"", [](auto& a) { set_address(a.out, 0x100000 + 64 * 512); }},
       {"out_ids is not aligned to 16 bytes", [](auto& a) { set_address(a.out_ids, 0x800004); }},
       {"out_weights is not aligned to 16 bytes",
        [](auto& a) { set_address(a.out_weights, 0x800008); }},
       {"out_counts is not aligned to 16 bytes",
        [](auto& a) { set_address(a.out_counts, 0x80000c); }}});
}

TEST(Arguments, RowsOverlap) {
  const auto at = [](std::uintptr_t value) { return reinterpret_cast<const void*>(value); };
  // Two halves of one wide matrix.
  EXPECT_FALSE(rows_overlap(at(0x1000), 512, at(0x1000 + 512), 512, 8, 256));
  EXPECT_FALSE(rows_overlap(at(0x1000 + 512), 512, at(0x1000), 512, 8, 256));
  EXPECT_TRUE(rows_overlap(at(0x1000), 512, at(0x1000 + 496), 512, 8, 256));
  EXPECT_TRUE(rows_overlap(at(0x1000), 512, at(0x1000 + 528), 512, 8, 256));
  EXPECT_TRUE(rows_overlap(at(0x1000), 256, at(0x1000 + 512), 512, 8, 256));
  EXPECT_FALSE(rows_overlap(at(0x1000), 256, at(0x1000 + 8 * 512), 256, 8, 256));
  EXPECT_FALSE(rows_overlap(at(0x1000), 256, at(0x1000 + 512), 256, 1, 256));
}

TEST(Arguments, Route) {
  expect(shape_of(),
         {{"", give_ids},
          {"", [](auto& a) { set_address(a.correction_bias, 0x800000); }},
          {"router and ids are both null; give one of them", [](auto& a) { a.router = nullptr; }},
          {"router and ids are both set; give one of them",
           [](auto& a) { set_address(a.ids, 0x600000); }},
          {"router is not aligned to 16 bytes", [](auto& a) { set_address(a.router, 0x400002); }},
          {"correction_bias is not aligned to 16 bytes",
           [](auto& a) { set_address(a.correction_bias, 0x800004); }},
          {"ids is null, but weights are set", [](auto& a) { give_ids(a), a.ids = nullptr; }},
          {"weights is null, but ids are set", [](auto& a) { give_ids(a), a.weights = nullptr; }},
          {"ids is not aligned to 16 bytes",
           [](auto& a) { give_ids(a), set_address(a.ids, 0x600004); }},
          {"weights is not aligned to 16 bytes",
           [](auto& a) { give_ids(a), set_address(a.weights, 0x700004); }},
          {"correction_bias is set, but ids are given",
           [](auto& a) { give_ids(a), set_address(a.correction_bias, 0x800000); }},
          {"expert_map is not aligned to 16 bytes",
           [](auto& a) { set_address(a.expert_map, 0x800004); }}});
  expect(shape_of([](auto& d) { d.slots = 4; }),
         {{"expert_map is null, but the layer has 4 slots for 8 experts", [](auto&) {}},
          {"", [](auto& a) { set_address(a.expert_map, 0x800000); }}});
}

TEST(Arguments, PackedWeightsAndWorkspace) {
  expect(
      shape_of(),
      {{"experts is null", [](auto& a) { a.experts = nullptr; }},
       {"experts is not aligned to 128 bytes", [](auto& a) { set_address(a.experts, 0x300040); }},
       {"", [](auto& a) { a.expert_stride = 196608 + 128; }},
       {"expert_stride is 196480; it must be 0 or a multiple of 128 that is not below expert_bytes "
        "(196608)",
        [](auto& a) { a.expert_stride = 196480; }},
       {"expert_stride is 196624; it must be 0 or a multiple of 128 that is not below expert_bytes "
        "(196608)",
        [](auto& a) { a.expert_stride = 196624; }},
       {"shared is set, but the layer has no shared expert",
        [](auto& a) { set_address(a.shared, 0x800000); }},
       {"shared_gate is set, but the layer has no shared gate",
        [](auto& a) { set_address(a.shared_gate, 0x800000); }},
       {"workspace is null", [](auto& a) { a.workspace = nullptr; }},
       {"workspace is not aligned to 128 bytes",
        [](auto& a) { set_address(a.workspace, 0x500010); }},
       {"control is not aligned to 128 bytes", [](auto& a) { set_address(a.control, 0x600010); }},
       {"control is the workspace; null means the workspace's own",
        [](auto& a) { a.control = a.workspace; }},
       {"peers is set, but world is 0 or 1",
        [](auto& a) { a.peers = reinterpret_cast<void* const*>(0x800000); }}});
  expect(shape_of([](auto& d) { d.shared_intermediate = 128, d.shared_gate = 1; }),
         {{"shared is null, but the layer has a shared expert", [](auto&) {}},
          {"shared is not aligned to 128 bytes", [](auto& a) { set_address(a.shared, 0x800010); }},
          {"shared_gate is null, but the layer has a shared gate",
           [](auto& a) { set_address(a.shared, 0x800000); }},
          {"", [](auto& a) {
             set_address(a.shared, 0x800000);
             set_address(a.shared_gate, 0x900000);
           }}});
}

TEST(Arguments, StructSize) {
  expect(shape_of(), {{"moeopt_moe_args.struct_size is 152; this library takes 160 to 168 bytes",
                       [](auto& a) { a.struct_size = 152; }},
                      {"moeopt_moe_args.struct_size is 176; this library takes 160 to 168 bytes",
                       [](auto& a) { a.struct_size = 176; }}});
  EXPECT_EQ(refusal_of([] { check_args(shape_of(), nullptr); }), "moeopt_moe_args is null");
}

struct SourceCase {
  std::string wanted;
  std::function<void(moeopt_expert_source&)> change;
};

void expect(const ExpertLayout& layout, moeopt_source kind, const std::vector<SourceCase>& cases) {
  for (const SourceCase& c : cases) {
    moeopt_expert_source source = good_source(kind);
    c.change(source);
    EXPECT_EQ(refusal_of([&] { check_source(layout, &source); }), c.wanted);
  }
}

constexpr ExpertLayout kBf16{256, 128, 2};
constexpr ExpertLayout kFp8{256, 128, 1};

TEST(Arguments, SourceFillsInTheStrides) {
  const moeopt_expert_source given = good_source(MOEOPT_SOURCE_BF16);
  const moeopt_expert_source source = check_source(kBf16, &given);
  EXPECT_EQ(source.gate_stride, 256);
  EXPECT_EQ(source.up_stride, 256);
  EXPECT_EQ(source.down_stride, 128);
}

TEST(Arguments, Source) {
  expect(kBf16, MOEOPT_SOURCE_BF16,
         {{"", [](auto& s) { s.gate_stride = 264, s.up_stride = 512, s.down_stride = 136; }},
          {"source is 3; it must be MOEOPT_SOURCE_BF16, _FP8 or _BF16_TO_FP8",
           [](auto& s) { s.source = 3; }},
          {"source is not MOEOPT_SOURCE_BF16, but the layer is bf16",
           [](auto& s) { s.source = MOEOPT_SOURCE_BF16_TO_FP8; }},
          {"gate is null", [](auto& s) { s.gate = nullptr; }},
          {"up is null", [](auto& s) { s.up = nullptr; }},
          {"down is null", [](auto& s) { s.down = nullptr; }},
          {"gate is not aligned to 16 bytes", [](auto& s) { set_address(s.gate, 0x100008); }},
          {"up is not aligned to 16 bytes", [](auto& s) { set_address(s.up, 0x200004); }},
          {"down is not aligned to 16 bytes", [](auto& s) { set_address(s.down, 0x300002); }},
          {"gate_stride is 128; it must be 0 or a multiple of 8 that is not below the row's 256 "
           "elements",
           [](auto& s) { s.gate_stride = 128; }},
          {"up_stride is 260; it must be 0 or a multiple of 8 that is not below the row's 256 "
           "elements",
           [](auto& s) { s.up_stride = 260; }},
          {"down_stride is -128; it must be 0 or a multiple of 8 that is not below the row's 128 "
           "elements",
           [](auto& s) { s.down_stride = -128; }},
          {"gate_scale is set, but source is not MOEOPT_SOURCE_FP8",
           [](auto& s) { set_address(s.gate_scale, 0x400000); }},
          {"moeopt_expert_source.struct_size is 8; this library takes 80 to 80 bytes",
           [](auto& s) { s.struct_size = 8; }}});
  expect(
      kFp8, MOEOPT_SOURCE_FP8,
      {{"", [](auto&) {}},
       {"source is MOEOPT_SOURCE_BF16, but the layer is fp8 (_FP8, _BF16_TO_FP8)",
        [](auto& s) { s.source = MOEOPT_SOURCE_BF16; }},
       {"gate_stride is 264; it must be 0 or a multiple of 16 that is not below the row's 256 "
        "elements",
        [](auto& s) { s.gate_stride = 264; }},
       {"gate_scale is null, but source is MOEOPT_SOURCE_FP8",
        [](auto& s) { s.gate_scale = nullptr; }},
       {"up_scale is null, but source is MOEOPT_SOURCE_FP8", [](auto& s) { s.up_scale = nullptr; }},
       {"down_scale is null, but source is MOEOPT_SOURCE_FP8",
        [](auto& s) { s.down_scale = nullptr; }},
       {"up_scale is not aligned to 4 bytes", [](auto& s) { set_address(s.up_scale, 0x500002); }}});
  expect(kFp8, MOEOPT_SOURCE_BF16_TO_FP8,
         {{"", [](auto& s) { s.gate_stride = 264; }},
          {"down_scale is set, but source is not MOEOPT_SOURCE_FP8",
           [](auto& s) { set_address(s.down_scale, 0x600000); }}});
}

}  // namespace
}  // namespace moeopt::cuda::moe
