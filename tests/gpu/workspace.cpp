// What outlasts a launch: the numbers of launches, which come round, and a control apart from
// scratch that others use in between.
#include "cuda/moe/workspace.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "cuda/moe/describe.h"
#include "gpu/groups.h"
#include "gpu/model_layers.h"
#include "gpu/rig.h"

namespace moeopt::gpu_test {
namespace {

namespace moe = cuda::moe;

constexpr ModelLayer kSmall{"", 512, 384, 24, 4, 1, 256, false};
constexpr int kTokens[] = {1, 4, 30, 200, 600};  // words, local lists, images, a wide gate

// Two sets of rows for calls in turns, so that what an earlier launch left behind shows.
struct Turns {
  Rig whole;
  Rig one;
  Rig other;

  Turns(Arena& arena, const moeopt_moe_desc& desc, int tokens, std::uint64_t seed)
      : whole(arena, desc, batch_of(2 * tokens), seed),
        one(arena, whole, rows_from(0, tokens), tokens),
        other(arena, whole, rows_from(tokens, tokens), tokens) {
    one.forward(tokens);
    other.forward(tokens);
  }
  const Rig& of(int turn) const { return turn % 2 == 0 ? one : other; }

 private:
  static BatchPlan batch_of(int tokens) {
    BatchPlan batch;
    batch.tokens = tokens;
    return batch;
  }
  static std::vector<std::int32_t> rows_from(int first, int count) {
    std::vector<std::int32_t> rows(static_cast<std::size_t>(count));
    std::iota(rows.begin(), rows.end(), first);
    return rows;
  }
};

// The values of a call that differ from what `rig` made; its scratch and its output are poisoned
// before.
std::uint64_t differing(Arena& arena, const Rig& rig, int tokens, void* control, void* scratch,
                        std::size_t scratch_bytes) {
  const Arena::Scope scope(arena);
  const Outputs again = make_outputs(arena, rig.desc, tokens, 0);
  auto* const count = arena.upload(std::vector<std::uint64_t>(1));
  moeopt_moe_args args = rig.args(tokens);
  args.out = again.out;
  args.control = control;
  args.workspace = scratch;
  arena.poison(scratch, scratch_bytes);
  rig.forward(args, arena.stream());
  count_different(again.out, again.out_stride, rig.outputs.out, rig.outputs.out_stride, nullptr,
                  tokens, rig.desc.hidden, count, arena.stream().get());
  return arena.download(count, 1)[0];
}

std::size_t scratch_bytes_of(const Rig& rig) {
  const moeopt_moe_sizes sizes = sizes_of(rig.layer.get());
  return static_cast<std::size_t>(sizes.workspace_bytes - sizes.control_bytes);
}

void* make_control(Arena& arena, const Rig& rig) {
  auto* const control = arena.take<unsigned char>(
      static_cast<std::size_t>(sizes_of(rig.layer.get()).control_bytes), 128);
  require_ok(moeopt_moe_init_workspace(rig.layer.get(), control, arena.stream().get()),
             "moeopt_moe_init_workspace");
  return control;
}

void test_numbers(Suite& suite, Arena& arena, bool fp8, int tokens) {
  suite.run(fmt::format("numbers-come-round-{}-{}", fp8 ? "fp8" : "bf16", tokens),
            [&](Case& c, std::uint64_t seed) {
              constexpr std::uint64_t kFirst = 0xfffffffc;
              constexpr int kLaunches = 7;
              const Arena::Scope scope(arena);
              const Turns turns(arena, kSmall.desc(fp8, 2 * tokens), tokens, seed);
              void* const control = make_control(arena, turns.one);
              const std::size_t bytes = scratch_bytes_of(turns.one);
              void* const scratch = arena.take<unsigned char>(bytes, 128);
              const moe::Shape shape = moe::check_desc(&turns.one.desc);
              auto* const ticket = reinterpret_cast<std::uint64_t*>(
                  static_cast<unsigned char*>(control) +
                  moe::workspace_layout(shape, moe::choose_config(shape)).ticket);
              const std::uint64_t start = kFirst << 32;
              arena.copy_in(ticket, &start, sizeof(start));
              for (int launch = 0; launch < kLaunches; ++launch) {
                const std::uint64_t different =
                    differing(arena, turns.of(launch), tokens, control, scratch, bytes);
                c.expect(different == 0, fmt::format("launch {} from {:#x} on: {} values differ",
                                                     launch, kFirst, different));
              }
              const std::uint64_t end = arena.download(ticket, 1)[0];
              c.expect(end == std::uint64_t{5} << 32, fmt::format("the ticket is {:#x}", end));
            });
}

// Layers of other sizes, each with a control of its own.
void test_one_scratch(Suite& suite, Arena& arena, bool fp8) {
  suite.run(fmt::format("one-scratch-{}", fp8 ? "fp8" : "bf16"), [&](Case& c, std::uint64_t seed) {
    constexpr ModelLayer kOther{"", 768, 256, 9, 3, 1, 0, false};
    const Arena::Scope scope(arena);
    for (const int tokens : kTokens) {
      const Arena::Scope inner(arena);
      const Turns small(arena, kSmall.desc(fp8, 2 * tokens), tokens, seed);
      const Turns other(arena, kOther.desc(fp8, 4), 2, seed);
      const std::size_t bytes = std::max(scratch_bytes_of(small.one), scratch_bytes_of(other.one));
      void* const scratch = arena.take<unsigned char>(bytes, 128);
      void* const controls[] = {make_control(arena, small.one), make_control(arena, other.one)};
      for (int turn = 0; turn < 6; ++turn) {
        std::uint64_t different =
            differing(arena, small.of(turn), tokens, controls[0], scratch, bytes);
        different += differing(arena, other.of(turn), 2, controls[1], scratch, bytes);
        c.expect(different == 0, fmt::format("turn {} ({}): {} values differ", turn,
                                             moeopt_moe_config(small.one.layer.get()), different));
      }
      c.expect(read_counters(arena, controls[0]).launches == 6, "launches of the first control");
      c.expect(read_counters(arena, controls[1]).tokens == 12, "tokens of the second control");
      c.expect(arena.damaged_bytes() == 0, "wrote beyond a buffer");
    }
  });
}

}  // namespace

void test_workspace(Suite& suite, Arena& arena) {
  if (!suite.begin("workspace")) return;
  for (const bool fp8 : {false, true}) {
    for (const int tokens : kTokens) test_numbers(suite, arena, fp8, tokens);
    test_one_scratch(suite, arena, fp8);
  }
}

}  // namespace moeopt::gpu_test
