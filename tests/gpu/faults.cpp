// What must not spread: NaN, zeros, ties, packed experts that nobody asked for, and calls that are
// refused.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "gpu/groups.h"
#include "gpu/model_layers.h"
#include "gpu/rig.h"

namespace moeopt::gpu_test {
namespace {

constexpr Bf16Bits kNanBf16 = 0x7fc0;

moeopt_moe_desc plain_desc(bool fp8, int max_tokens) {
  const ModelLayer layer{"", 384, 256, 20, 3, 1, 0, false};
  return layer.desc(fp8, max_tokens);
}

void check_nan_tokens(Case& c, const Rig& rig, std::uint64_t wanted) {
  const moeopt_moe_counters counters = rig.counters();
  c.expect(counters.nan_tokens == wanted,
           fmt::format("nan_tokens is {}, not {}", counters.nan_tokens, wanted));
}

void judge(Case& c, const Rig& rig, int tokens) {
  judge_launch(c, rig.arena, rig.desc, *rig.experts, rig.inputs, rig.outputs, tokens,
               rig.workspace);
}

void overwrite(const Arena& arena, Bf16Bits* at, Bf16Bits bits) {
  arena.copy_in(at, &bits, sizeof(bits));
}

// One NaN in a token's x: its row is NaN, the others' bits are those of a clean run.
void nan_token(Case& c, Arena& arena, bool fp8, int tokens, std::uint64_t seed) {
  BatchPlan batch;
  batch.tokens = tokens;
  moeopt_moe_desc desc = plain_desc(fp8, tokens);
  desc.shared_intermediate = 256;
  const Rig clean(arena, desc, batch, seed);
  const Rig broken(arena, desc, batch, seed, clean.experts);  // the same seed, the same rows
  const int row = tokens / 2;
  overwrite(arena, broken.inputs.x + row * broken.inputs.x_stride + 77, kNanBf16);
  clean.forward(tokens);
  broken.forward(tokens);
  judge(c, broken, tokens);
  check_nan_tokens(c, broken, 1);
  const auto hidden = static_cast<std::uint64_t>(desc.hidden);
  const std::uint64_t different = broken.differing(clean, tokens);
  c.expect(different == hidden,
           fmt::format("{} values differ from a clean run, not {}", different, hidden));
}

// A router row of NaN: its expert is chosen by nobody, whatever its bias, and every token is
// counted.
void nan_router_row(Case& c, Arena& arena, bool fp8, int tokens, std::uint64_t seed) {
  BatchPlan batch;
  batch.tokens = tokens;
  batch.bias = true;
  Rig rig(arena, plain_desc(fp8, tokens), batch, seed);
  constexpr std::size_t kExpert = 7;
  constexpr float kBias = 10;
  rig.inputs.bias[kExpert] = kBias;
  arena.copy_in(rig.inputs.bias_device + kExpert, &rig.inputs.bias[kExpert], sizeof(float));
  const auto hidden = static_cast<std::size_t>(rig.desc.hidden);
  arena.poison(rig.inputs.router + kExpert * hidden, hidden * sizeof(Bf16Bits));
  rig.experts->poison(kExpert);
  rig.forward(tokens);
  judge(c, rig, tokens);
  check_nan_tokens(c, rig, static_cast<std::uint64_t>(tokens));
}

void nan_weight(Case& c, Arena& arena, bool fp8, int tokens, std::uint64_t seed) {
  BatchPlan batch;
  batch.tokens = tokens;
  batch.given = true;
  Rig rig(arena, plain_desc(fp8, tokens), batch, seed);
  const std::size_t place = 3 * static_cast<std::size_t>(tokens / 2) + 1;
  rig.inputs.weights[place] = std::numeric_limits<float>::quiet_NaN();
  arena.copy_in(rig.inputs.weights_device + place, &rig.inputs.weights[place], sizeof(float));
  rig.forward(tokens);
  judge(c, rig, tokens);
  check_nan_tokens(c, rig, 1);
}

// Packed experts that the router did not choose hold NaN: nothing changes.
void nan_in_unused(Case& c, Arena& arena, bool fp8, int tokens, std::uint64_t seed) {
  BatchPlan batch;
  batch.tokens = tokens;
  batch.spread = Spread::kHalfEmpty;
  const moeopt_moe_desc desc = plain_desc(fp8, tokens);
  const Rig before(arena, desc, batch, seed);
  const Rig after(arena, desc, batch, seed, before.experts);
  before.forward(tokens);
  const std::vector<std::int32_t> counts =
      arena.download(before.outputs.counts, static_cast<std::size_t>(desc.slots));
  int unused = 0;
  for (int slot = 0; slot < desc.slots; ++slot) {
    if (counts[static_cast<std::size_t>(slot)] > 0) continue;
    before.experts->poison(slot);
    ++unused;
  }
  c.expect(unused > 0, "every expert was used: nothing tested");
  after.forward(tokens);
  c.expect(after.differing(before, tokens) == 0, "an unused expert's weights matter");
}

// Tokens of zeros give zeros, not 0 / 0.
void zero_rows(Case& c, Arena& arena, bool fp8, int tokens, std::uint64_t seed) {
  BatchPlan batch;
  batch.tokens = tokens;
  moeopt_moe_desc desc = plain_desc(fp8, tokens);
  desc.shared_intermediate = 256;
  desc.shared_gate = 1;
  const Rig rig(arena, desc, batch, seed);
  for (int row = 0; row < tokens; row += 3) {
    check(cudaMemsetAsync(rig.inputs.x + row * rig.inputs.x_stride, 0,
                          static_cast<std::size_t>(desc.hidden) * sizeof(Bf16Bits),
                          arena.stream().get()),
          "zero a row");
  }
  rig.forward(tokens);
  judge(c, rig, tokens);
}

// All logits alike: the lowest ids, in order, with one weight. With every second router row like
// the one before, the lower of a pair comes first.
void ties(Case& c, Arena& arena, bool fp8, int tokens, std::uint64_t seed) {
  BatchPlan batch;
  batch.tokens = tokens;
  moeopt_moe_desc layer = plain_desc(fp8, tokens);
  layer.scale = 0.7f;  // with weights of a third sums of bf16 lie on the boundary of two too often
  const Rig rig(arena, layer, batch, seed);
  const moeopt_moe_desc& desc = rig.desc;
  const auto copy_row = [&](std::int64_t from, std::int64_t to) {
    const std::int64_t hidden = desc.hidden;
    check(cudaMemcpyAsync(rig.inputs.router + to * hidden, rig.inputs.router + from * hidden,
                          static_cast<std::size_t>(hidden) * sizeof(Bf16Bits),
                          cudaMemcpyDeviceToDevice, arena.stream().get()),
          "copy a router row");
  };
  const auto ids_of_run = [&] {
    rig.forward(tokens);
    judge(c, rig, tokens);
    return arena.download(rig.outputs.ids,
                          static_cast<std::size_t>(tokens) * static_cast<std::size_t>(desc.top_k));
  };
  for (int e = 0; e + 1 < desc.experts; e += 2) copy_row(e, e + 1);
  std::vector<std::int32_t> ids = ids_of_run();
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    if ((i + 1) % static_cast<std::size_t>(desc.top_k) == 0) continue;
    if (ids[i] / 2 == ids[i + 1] / 2)
      c.expect(ids[i] < ids[i + 1], "of two equals the higher id came first");
  }
  for (std::size_t i = 0; i < ids.size(); i += static_cast<std::size_t>(desc.top_k)) {
    c.expect(ids[i] % 2 == 0, "of two equals the higher id was taken alone");
  }
  for (int e = 1; e < desc.experts; ++e) copy_row(0, e);
  ids = ids_of_run();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    c.expect(ids[i] == static_cast<int>(i) % desc.top_k,
             "equal logits did not go to the lowest ids");
  }
}

using Test = void (*)(Case&, Arena&, bool fp8, int tokens, std::uint64_t seed);

// A change that the library must refuse, and a word that its message must hold.
struct BadDesc {
  const char* word;
  void (*change)(moeopt_moe_desc&);
};
constexpr BadDesc kBadDescs[] = {
    {"struct_size", [](moeopt_moe_desc& d) { d.struct_size = 4; }},
    {"hidden", [](moeopt_moe_desc& d) { d.hidden = 0; }},
    {"hidden", [](moeopt_moe_desc& d) { d.hidden += 32; }},
    {"hidden", [](moeopt_moe_desc& d) { d.hidden = 16384 + 128; }},
    {"intermediate", [](moeopt_moe_desc& d) { d.intermediate = 32768 + 128; }},
    {"experts", [](moeopt_moe_desc& d) { d.experts = 513; }},
    {"top_k", [](moeopt_moe_desc& d) { d.top_k = 17; }},
    {"top_k", [](moeopt_moe_desc& d) { d.top_k = 0; }},
    {"max_tokens", [](moeopt_moe_desc& d) { d.max_tokens = 65537; }},
    {"max_tokens", [](moeopt_moe_desc& d) { d.max_tokens = 0; }},
    {"dtype", [](moeopt_moe_desc& d) { d.dtype = 2; }},
    {"groups", [](moeopt_moe_desc& d) { d.groups = 3; }},
    {"shared", [](moeopt_moe_desc& d) { d.shared_intermediate = 100; }},
    {"world", [](moeopt_moe_desc& d) { d.world = 2; }},
};
struct BadArgs {
  const char* word;
  void (*change)(moeopt_moe_args&);
};
constexpr BadArgs kBadArgs[] = {
    {"struct_size", [](moeopt_moe_args& a) { a.struct_size = 8; }},
    {"tokens", [](moeopt_moe_args& a) { a.tokens = 10000; }},
    {"tokens", [](moeopt_moe_args& a) { a.tokens = -1; }},
    {"x", [](moeopt_moe_args& a) { a.x = nullptr; }},
    {"x", [](moeopt_moe_args& a) { a.x = static_cast<const char*>(a.x) + 2; }},
    {"out", [](moeopt_moe_args& a) { a.out = nullptr; }},
    {"out", [](moeopt_moe_args& a) { a.out = const_cast<void*>(a.x); }},
    {"x_stride", [](moeopt_moe_args& a) { a.x_stride = 4; }},
    {"out_stride", [](moeopt_moe_args& a) { a.out_stride = 385; }},
    {"experts", [](moeopt_moe_args& a) { a.experts = nullptr; }},
    {"expert_stride", [](moeopt_moe_args& a) { a.expert_stride = 64; }},
    {"router", [](moeopt_moe_args& a) { a.router = nullptr; }},
    {"workspace", [](moeopt_moe_args& a) { a.workspace = nullptr; }},
    {"workspace", [](moeopt_moe_args& a) { a.workspace = static_cast<char*>(a.workspace) + 16; }},
};

void expect_refusal(Case& c, moeopt_status status, const char* word, const std::string& what) {
  c.expect(status == MOEOPT_ERROR_ARGUMENT || status == MOEOPT_ERROR_UNSUPPORTED,
           fmt::format("{} was answered with {}", what, static_cast<int>(status)));
  c.expect(std::strstr(moeopt_last_error(), word) != nullptr,
           fmt::format("{} was answered with \"{}\"", what, moeopt_last_error()));
}

void refusals(Case& c, Arena& arena, std::uint64_t seed) {
  constexpr int kTokens = 16;
  for (const BadDesc& bad : kBadDescs) {
    moeopt_moe_desc desc = plain_desc(false, kTokens);
    bad.change(desc);
    moeopt_moe* layer = nullptr;
    expect_refusal(c, moeopt_moe_create(&desc, &layer), bad.word, std::string("a bad ") + bad.word);
    c.expect(layer == nullptr, "a refused description made a layer");
    moeopt_moe_destroy(layer);
  }
  BatchPlan batch;
  batch.tokens = kTokens;
  const Rig rig(arena, plain_desc(false, kTokens), batch, seed);
  for (const BadArgs& bad : kBadArgs) {
    moeopt_moe_args args = rig.args(kTokens);
    bad.change(args);
    expect_refusal(c, moeopt_moe_forward(rig.layer.get(), &args, arena.stream().get()), bad.word,
                   std::string("a bad ") + bad.word);
  }
  arena.stream().wait();
  c.expect(rig.counters().launches == 0, "a refused call was enqueued");
  rig.forward(kTokens);
  judge(c, rig, kTokens);
}

// Making a workspace ready again starts its counters anew, whatever it holds.
void fresh_workspace(Case& c, Arena& arena, std::uint64_t seed) {
  BatchPlan batch;
  batch.tokens = 40;
  const Rig rig(arena, plain_desc(true, 40), batch, seed);
  rig.forward(40);
  arena.poison(rig.workspace, static_cast<std::size_t>(sizes_of(rig.layer.get()).workspace_bytes));
  require_ok(moeopt_moe_init_workspace(rig.layer.get(), rig.workspace, arena.stream().get()),
             "moeopt_moe_init_workspace");
  const moeopt_moe_counters zero = rig.counters();
  c.expect(zero.launches + zero.tokens + zero.rows + zero.nan_tokens + zero.errors == 0,
           "counters: " + text_of(zero));
  rig.poison_out();
  rig.forward(40);
  judge(c, rig, 40);
  c.expect(rig.counters().launches == 1, "counters: " + text_of(rig.counters()));
}

}  // namespace

void test_faults(Suite& suite, Arena& arena) {
  if (!suite.begin("faults")) return;
  constexpr std::pair<const char*, Test> kTests[] = {
      {"nan-token", nan_token},   {"nan-router-row", nan_router_row},
      {"nan-weight", nan_weight}, {"nan-in-unused", nan_in_unused},
      {"zero-rows", zero_rows},   {"ties", ties},
  };
  for (const auto& [name, test] : kTests) {
    for (const bool fp8 : {false, true}) {
      for (const int tokens : {5, 90, 1100}) {  // the last: wide gate tasks, top-k in teams
        suite.run(fmt::format("{}-{}-{}", name, fp8 ? "fp8" : "bf16", tokens),
                  [&, t = test](Case& c, std::uint64_t seed) {
                    const Arena::Scope scope(arena);
                    t(c, arena, fp8, tokens, seed);
                    c.expect(arena.damaged_bytes() == 0, "wrote beyond a buffer");
                  });
      }
    }
  }
  suite.run("refusals", [&](Case& c, std::uint64_t seed) {
    const Arena::Scope scope(arena);
    refusals(c, arena, seed);
  });
  suite.run("fresh-workspace", [&](Case& c, std::uint64_t seed) {
    const Arena::Scope scope(arena);
    fresh_workspace(c, arena, seed);
  });
}

}  // namespace moeopt::gpu_test
