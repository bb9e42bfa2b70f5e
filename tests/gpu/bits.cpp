// A token's bits: alone and in every batch, in every configuration, again and again, beside other
// work, and with weights that come late.
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <numeric>
#include <thread>

#include "gpu/groups.h"
#include "gpu/model_layers.h"
#include "gpu/rig.h"

namespace moeopt::gpu_test {
namespace {

struct Shape {
  const char* name;
  ModelLayer layer;
  bool fp8;
};

// Real extents of K with as many experts as the point needs.
constexpr Shape kShapes[] = {
    {"qwen3-bf16", kQwen3, false},
    {"qwen3-fp8", kQwen3, true},
    {"qwen1.5-bf16", kQwen15, false},
    {"qwen1.5-fp8", kQwen15, true},
    {"mixtral-bf16", {"", 4096, 14336, 4, 2, 1, 0, false}, false},
    {"deepseek-fp8", {"", 7168, 2048, 16, 8, 1, 2048, true}, true},
    {"odd-bf16", {"", 320, 192, 37, 5, 0, 448, false}, false},
    // 128 router rows in a gate task, with 4096 tokens.
    {"many-experts-bf16", {"", 1152, 192, 256, 4, 0, 0, false}, false},
};
constexpr int kMaxTokens[] = {1, 4, 8, 64, 512, 4096};

std::vector<std::int32_t> draw_rows(int n, int of, Rng& rng) {
  std::vector<std::int32_t> rows(static_cast<std::size_t>(of));
  std::iota(rows.begin(), rows.end(), 0);
  rng.shuffle(rows);
  rows.resize(static_cast<std::size_t>(n));
  return rows;
}

BatchPlan batch_of(const Shape& shape, int tokens) {
  BatchPlan batch;
  batch.tokens = tokens;
  batch.given = shape.layer.given;
  batch.spread = Spread::kZipf;
  return batch;
}

Rig make_rig(Arena& arena, const Shape& shape, int tokens, int max_tokens, std::uint64_t seed) {
  return {arena, shape.layer.desc(shape.fp8, max_tokens), batch_of(shape, tokens), seed};
}

void test_batches(Suite& suite, Arena& arena, const Shape& shape) {
  suite.run(fmt::format("batches-{}", shape.name), [&](Case& c, std::uint64_t seed) {
    const Arena::Scope scope(arena);
    const bool small = shape.layer.intermediate < 256;
    const int all = suite.options().quick && !small ? 512 : 4096;
    Rng rng(seed);
    Rig whole = make_rig(arena, shape, all, all, seed);
    whole.forward(all);
    const auto k = static_cast<std::size_t>(whole.desc.top_k);
    const std::vector<float> all_weights =
        arena.download(whole.outputs.weights, static_cast<std::size_t>(all) * k);
    for (const int max_tokens : kMaxTokens) {
      for (const int n : {1, 1, 3, 7, 64, 333}) {
        if (n > max_tokens || max_tokens > all) continue;
        const Arena::Scope inner(arena);
        const std::vector<std::int32_t> rows = draw_rows(n, all, rng);
        const Rig some(arena, whole, rows, max_tokens,
                       rng.chance(0.4) ? 0 : draw_tile(max_tokens, rng));
        some.forward(n);
        const std::uint64_t different = some.differing(whole, n, arena.upload(rows));
        c.expect(different == 0,
                 fmt::format("{} values of {} rows (capacity {}, {}) differ from the "
                             "same rows among {}",
                             different, n, max_tokens, moeopt_moe_config(some.layer.get()), all));
        // Router weights show what bf16 outputs round away: the last bits of logits.
        const std::vector<float> weights =
            arena.download(some.outputs.weights, static_cast<std::size_t>(n) * k);
        int other = 0;
        for (std::size_t row = 0; row < rows.size(); ++row) {
          const auto from = static_cast<std::size_t>(rows[row]);
          other += std::memcmp(&weights[row * k], &all_weights[from * k], k * sizeof(float)) != 0;
        }
        c.expect(other == 0, fmt::format("router weights of {} of {} rows (capacity {}) differ",
                                         other, n, max_tokens));
      }
    }
  });
}

void test_repeats(Suite& suite, Arena& arena, const Shape& shape) {
  for (const int tokens : {5, 64, 333}) {
    suite.run(fmt::format("repeats-{}-{}", shape.name, tokens), [&](Case& c, std::uint64_t seed) {
      constexpr int kRuns = 100;
      const Arena::Scope scope(arena);
      const Rig rig = make_rig(arena, shape, tokens, tokens, seed);
      rig.forward(tokens);
      const Outputs again = make_outputs(arena, rig.desc, tokens, 0);
      auto* const count = arena.upload(std::vector<std::uint64_t>(1));
      moeopt_moe_args args = rig.args(tokens);
      args.out = again.out;
      for (int run = 1; run < kRuns; ++run) {
        arena.poison(again.out, static_cast<std::size_t>(tokens) *
                                    static_cast<std::size_t>(rig.desc.hidden) * sizeof(Bf16Bits));
        rig.forward(args, arena.stream());
        count_different(again.out, again.out_stride, rig.outputs.out, rig.outputs.out_stride,
                        nullptr, tokens, rig.desc.hidden, count, arena.stream().get());
      }
      const std::uint64_t different = arena.download(count, 1)[0];
      c.expect(different == 0, fmt::format("{} values differ over {} runs", different, kRuns));
      c.expect(rig.counters().launches == kRuns, "launches: " + text_of(rig.counters()));
    });
  }
}

// Of the host, which the device reads and writes as its own, across the bus.
class MappedMemory {
 public:
  explicit MappedMemory(std::size_t bytes) {
    check(cudaHostAlloc(&memory_, bytes, cudaHostAllocMapped), "take mapped memory");
  }
  ~MappedMemory() { cudaFreeHost(memory_); }
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;
  void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

// Keeps `blocks` multiprocessors busy for its lifetime.
class Occupation {
 public:
  Occupation(int blocks, double seconds)
      : memory_(static_cast<std::size_t>(1 + blocks) * sizeof(int)),
        stop_(static_cast<volatile int*>(memory_.get())) {
    std::memset(memory_.get(), 0, static_cast<std::size_t>(1 + blocks) * sizeof(int));
    occupy(blocks, seconds, stop_, stop_ + 1, stream_.get());
    const auto start = std::chrono::steady_clock::now();
    for (int block = 0; block < blocks; ++block) {
      while (stop_[1 + block] == 0) {
        if (std::chrono::steady_clock::now() - start > std::chrono::seconds(5)) {
          end();
          throw std::runtime_error("the other kernel did not start on all its multiprocessors");
        }
        std::this_thread::yield();
      }
    }
  }
  ~Occupation() {
    *stop_ = 1;
    cudaStreamSynchronize(stream_.get());  // it ends: it has a time limit
  }
  Occupation(const Occupation&) = delete;
  Occupation& operator=(const Occupation&) = delete;
  bool over() const { return stream_.idle(); }
  void end() {
    *stop_ = 1;
    stream_.wait();
  }

 private:
  Stream stream_;
  MappedMemory memory_;
  volatile int* stop_;
};

int multiprocessors() {
  int device = 0;
  int count = 0;
  check(cudaGetDevice(&device), "which device");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "multiprocessors");
  return count;
}

void test_beside(Suite& suite, Arena& arena, const Shape& shape) {
  for (const int tokens : {8, 333}) {
    for (const bool all_but_one : {false, true}) {
      suite.run(
          fmt::format("beside-{}-{}-{}", shape.name, tokens, all_but_one ? "all-but-1" : "half"),
          [&](Case& c, std::uint64_t seed) {
            constexpr double kSeconds = 8;
            const Arena::Scope scope(arena);
            const Rig rig = make_rig(arena, shape, tokens, tokens, seed);
            const Outputs beside = make_outputs(arena, rig.desc, tokens, 0);
            moeopt_moe_args args = rig.args(tokens);
            auto* const count = arena.upload(std::vector<std::uint64_t>(1));
            // Everything once before, so that no module is loaded while the other kernel runs.
            rig.forward(args, arena.stream());
            args.out = beside.out;
            rig.forward(args, arena.stream());
            count_different(beside.out, beside.out_stride, rig.outputs.out, rig.outputs.out_stride,
                            nullptr, tokens, rig.desc.hidden, count, arena.stream().get());
            arena.poison(beside.out, static_cast<std::size_t>(tokens) *
                                         static_cast<std::size_t>(rig.desc.hidden) *
                                         sizeof(Bf16Bits));
            arena.stream().wait();

            const int all = multiprocessors();
            Occupation other(all_but_one ? all - 1 : all / 2, kSeconds);
            rig.forward(args, arena.stream());
            arena.stream().wait();
            c.expect(!other.over(), "it waited for the other kernel to end");
            other.end();
            count_different(beside.out, beside.out_stride, rig.outputs.out, rig.outputs.out_stride,
                            nullptr, tokens, rig.desc.hidden, count, arena.stream().get());
            const std::uint64_t different = arena.download(count, 1)[0];
            c.expect(different == 0, fmt::format("{} values differ", different));
          });
    }
  }
}

// The same rig's launches on a stream of their own, each compared on the device.
class Repeating {
 public:
  Repeating(Arena& arena, const Rig& rig, int tokens)
      : rig_(rig),
        tokens_(tokens),
        again_(make_outputs(arena, rig.desc, tokens, 0)),
        count_(arena.upload(std::vector<std::uint64_t>(1))) {
    rig.forward(tokens);
    arena.stream().wait();
  }
  void enqueue() {
    moeopt_moe_args args = rig_.args(tokens_);
    args.out = again_.out;
    rig_.forward(args, stream_);
    count_different(again_.out, again_.out_stride, rig_.outputs.out, rig_.outputs.out_stride,
                    nullptr, tokens_, rig_.desc.hidden, count_, stream_.get());
  }
  std::uint64_t different(const Arena& arena) {
    stream_.wait();
    return arena.download(count_, 1)[0];
  }

 private:
  const Rig& rig_;
  int tokens_;
  Outputs again_;
  std::uint64_t* count_;
  Stream stream_;
};

void test_two_streams(Suite& suite, Arena& arena) {
  for (const int tokens : {8, 200}) {
    suite.run(fmt::format("two-streams-{}", tokens), [&](Case& c, std::uint64_t seed) {
      constexpr int kLaunches = 100;
      const Arena::Scope scope(arena);
      const Rig bf16 = make_rig(arena, kShapes[0], tokens, tokens, seed);
      const Rig fp8 = make_rig(arena, kShapes[3], tokens, tokens, seed);
      // The first layer's weights in both: one handle and one set of weights, two workspaces.
      const Rig same(arena, bf16.desc, batch_of(kShapes[0], tokens), seed + 1, bf16.experts);
      Repeating a(arena, bf16, tokens);
      Repeating b(arena, fp8, tokens);
      Repeating d(arena, same, tokens);
      for (int launch = 0; launch < kLaunches; ++launch) {
        a.enqueue();
        b.enqueue();
        d.enqueue();
      }
      const std::uint64_t different = a.different(arena) + b.different(arena) + d.different(arena);
      c.expect(different == 0, fmt::format("{} values differ", different));
    });
  }
}

// The values that differ when the experts lie behind the bus. Shared memory is NaN before each
// launch.
std::uint64_t differing_with_late_weights(Arena& arena, const Rig& rig, int tokens) {
  constexpr int kLaunches = 5;
  rig.forward(tokens);
  const std::uint64_t bytes =
      rig.experts->stride() * static_cast<std::uint64_t>(rig.experts->plan().slots);
  const MappedMemory experts(bytes);
  check(cudaMemcpyAsync(experts.get(), rig.experts->packed(), bytes, cudaMemcpyDeviceToHost,
                        arena.stream().get()),
        "copy the experts out");
  const Outputs late = make_outputs(arena, rig.desc, tokens, 0);
  auto* const count = arena.upload(std::vector<std::uint64_t>(1));
  moeopt_moe_args args = rig.args(tokens);
  args.experts = experts.get();
  args.out = late.out;
  for (int launch = 0; launch < kLaunches; ++launch) {
    arena.poison(late.out, static_cast<std::size_t>(tokens) *
                               static_cast<std::size_t>(rig.desc.hidden) * sizeof(Bf16Bits));
    poison_shared(arena.stream().get());
    rig.forward(args, arena.stream());
    count_different(late.out, late.out_stride, rig.outputs.out, rig.outputs.out_stride, nullptr,
                    tokens, rig.desc.hidden, count, arena.stream().get());
  }
  return arena.download(count, 1)[0];
}

// For weights that are asked for before the routing is known: it is known within some 10 us, while
// a stage takes 3 to 40, the longer the more blocks there are, so that one is on its way then. All
// tokens choose both experts: which task is a block's first is guessed right. (fp8 shows less: the
// task's scales, which its consumers wait for, come across the same bus after that stage.)
void test_late_weights(Suite& suite, Arena& arena, bool fp8) {
  for (const int tokens : {2, 12, 24, 64}) {  // each another compiled tile
    suite.run(fmt::format("late-weights-{}-{}", fp8 ? "fp8" : "bf16", tokens),
              [&](Case& c, std::uint64_t seed) {
                for (const int intermediate : {256, 1024}) {
                  const Arena::Scope scope(arena);
                  const Shape shape{"", {"", 2048, intermediate, 2, 2, 1, 0, false}, fp8};
                  const Rig rig = make_rig(arena, shape, tokens, tokens, seed);
                  const std::uint64_t different = differing_with_late_weights(arena, rig, tokens);
                  c.expect(different == 0,
                           fmt::format("{} values differ (I = {}, {})", different, intermediate,
                                       moeopt_moe_config(rig.layer.get())));
                }
              });
  }
}

}  // namespace

void test_bits(Suite& suite, Arena& arena) {
  if (!suite.begin("bits")) return;
  for (const Shape& shape : kShapes) test_batches(suite, arena, shape);
  for (const int index : {0, 1, 3}) {
    test_repeats(suite, arena, kShapes[index]);
    test_beside(suite, arena, kShapes[index]);
  }
  test_two_streams(suite, arena);
  for (const bool fp8 : {false, true}) test_late_weights(suite, arena, fp8);
}

}  // namespace moeopt::gpu_test
