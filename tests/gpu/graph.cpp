// CUDA graphs: a captured call is one kernel node, and its replays follow the count on the device.
#include <fmt/format.h>

#include <numeric>

#include "gpu/groups.h"
#include "gpu/model_layers.h"
#include "gpu/rig.h"

namespace moeopt::gpu_test {
namespace {

constexpr Bf16Bits kPoisonBf16 = 0xffff;

class Graph {
 public:
  template <typename Body>
  Graph(const Stream& stream, const Body& body) {
    // Global: whatever else a call may do to the device while it is captured is an error.
    check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal), "begin capture");
    try {
      body();
    } catch (...) {
      cudaStreamEndCapture(stream.get(), &graph_);
      throw;
    }
    check(cudaStreamEndCapture(stream.get(), &graph_), "end capture");
    check(cudaGraphInstantiate(&executable_, graph_, 0), "instantiate");
  }
  ~Graph() {
    cudaGraphExecDestroy(executable_);
    cudaGraphDestroy(graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  std::vector<cudaGraphNodeType> node_types() const {
    std::size_t count = 0;
    check(cudaGraphGetNodes(graph_, nullptr, &count), "count nodes");
    std::vector<cudaGraphNode_t> nodes(count);
    check(cudaGraphGetNodes(graph_, nodes.data(), &count), "get nodes");
    std::vector<cudaGraphNodeType> types(count);
    for (std::size_t i = 0; i < count; ++i) {
      check(cudaGraphNodeGetType(nodes[i], &types[i]), "type of a node");
    }
    return types;
  }
  void replay(const Stream& stream) const {
    check(cudaGraphLaunch(executable_, stream.get()), "replay");
  }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

moeopt_moe_desc small_desc(bool fp8, int max_tokens) {
  const ModelLayer layer{"", 512, 384, 24, 4, 1, 256, false};
  return layer.desc(fp8, max_tokens);
}

std::int32_t* device_count(Arena& arena) {
  return arena.upload(std::vector<std::int32_t>(1));
}

void set_count(const Arena& arena, std::int32_t* at, std::int32_t tokens) {
  arena.copy_in(at, &tokens, sizeof(tokens));
}

void test_nodes(Suite& suite, Arena& arena, bool fp8, int max_tokens) {
  suite.run(fmt::format("one-node-{}-{}", fp8 ? "fp8" : "bf16", max_tokens),
            [&](Case& c, std::uint64_t seed) {
              const Arena::Scope scope(arena);
              BatchPlan batch;
              batch.tokens = max_tokens;
              const Rig rig(arena, small_desc(fp8, max_tokens), batch, seed);
              auto* const count = device_count(arena);
              for (const bool on_device : {false, true}) {
                moeopt_moe_args args = rig.args(max_tokens);
                if (on_device) args.tokens_device = count;
                const Graph graph(arena.stream(), [&] { rig.forward(args, arena.stream()); });
                const auto types = graph.node_types();
                c.expect(types.size() == 1 && types[0] == cudaGraphNodeTypeKernel,
                         fmt::format("the graph has {} nodes, the first of type {}", types.size(),
                                     types.empty() ? -1 : static_cast<int>(types[0])));
              }
            });
}

// Two sets of rows take turns in the captured buffers, so that a stale result shows.
void test_replays(Suite& suite, Arena& arena, bool fp8, int max_tokens) {
  suite.run(fmt::format("replay-{}-{}", fp8 ? "fp8" : "bf16", max_tokens), [&](Case& c,
                                                                               std::uint64_t seed) {
    const Arena::Scope scope(arena);
    Rng rng(seed);
    BatchPlan batch;
    batch.tokens = max_tokens;
    Rig rig(arena, small_desc(fp8, max_tokens), batch, seed);
    std::vector<std::int32_t> rows(static_cast<std::size_t>(max_tokens));
    std::iota(rows.begin(), rows.end(), 0);
    const Rig first(arena, rig, rows, max_tokens);
    rng.shuffle(rows);
    const Rig second(arena, rig, rows, max_tokens);
    first.forward(max_tokens);
    second.forward(max_tokens);

    auto* const count = device_count(arena);
    moeopt_moe_args args = rig.args(0);
    args.tokens_device = count;
    const Graph graph(arena.stream(), [&] { rig.forward(args, arena.stream()); });
    std::vector<int> counts{max_tokens, 0, 1, max_tokens, max_tokens / 2, 0, 0, 1};
    while (counts.size() < 24) counts.push_back(rng.between(0, max_tokens));
    std::uint64_t tokens = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const Rig& source = i % 2 == 0 ? first : second;
      const auto bytes = static_cast<std::size_t>(max_tokens) *
                         static_cast<std::size_t>(rig.desc.hidden) * sizeof(Bf16Bits);
      check(cudaMemcpyAsync(rig.inputs.x, source.inputs.x, bytes, cudaMemcpyDeviceToDevice,
                            arena.stream().get()),
            "new rows");
      rig.poison_out();
      set_count(arena, count, counts[i]);
      graph.replay(arena.stream());
      arena.stream().wait();
      tokens += static_cast<std::uint64_t>(counts[i]);

      const Arena::Scope inner(arena);
      auto* const bad = arena.upload(std::vector<std::uint64_t>(1));
      count_outside(rig.outputs.out, rig.outputs.out_stride, max_tokens, counts[i], rig.desc.hidden,
                    kPoisonBf16, bad, arena.stream().get());
      const std::uint64_t different = rig.differing(source, counts[i]) + arena.download(bad, 1)[0];
      c.expect(different == 0,
               fmt::format("replay {} of {} tokens: {} values are wrong", i, counts[i], different));
    }
    const moeopt_moe_counters counters = rig.counters();
    c.expect(counters.launches == counts.size() && counters.tokens == tokens &&
                 counters.rows == tokens * 4 && counters.errors == 0,
             "counters: " + text_of(counters));
  });
}

void test_too_many(Suite& suite, Arena& arena, bool fp8, int max_tokens) {
  suite.run(fmt::format("too-many-{}-{}", fp8 ? "fp8" : "bf16", max_tokens),
            [&](Case& c, std::uint64_t seed) {
              const Arena::Scope scope(arena);
              BatchPlan batch;
              batch.tokens = max_tokens;
              const Rig rig(arena, small_desc(fp8, max_tokens), batch, seed);
              rig.forward(max_tokens);
              const Outputs again = make_outputs(arena, rig.desc, max_tokens, 0);
              auto* const count = device_count(arena);
              auto* const bad = arena.upload(std::vector<std::uint64_t>(1));
              moeopt_moe_args args = rig.args(0);
              args.tokens_device = count;
              args.out = again.out;
              set_count(arena, count, max_tokens + 1);
              rig.forward(args, arena.stream());
              count_outside(again.out, again.out_stride, max_tokens, 0, rig.desc.hidden,
                            kPoisonBf16, bad, arena.stream().get());
              c.expect(arena.download(bad, 1)[0] == 0, "wrote an output though T > max_tokens");
              const moeopt_moe_counters refused = rig.counters();
              c.expect(
                  refused.errors == 1 && refused.tokens == static_cast<std::uint64_t>(max_tokens),
                  "counters: " + text_of(refused));
              set_count(arena, count, max_tokens);
              rig.forward(args, arena.stream());
              count_different(again.out, again.out_stride, rig.outputs.out, rig.outputs.out_stride,
                              nullptr, max_tokens, rig.desc.hidden, bad, arena.stream().get());
              c.expect(arena.download(bad, 1)[0] == 0, "the launch after it is wrong");
              c.expect(arena.damaged_bytes() == 0, "wrote beyond a buffer");
            });
}

}  // namespace

void test_graph(Suite& suite, Arena& arena) {
  if (!suite.begin("graph")) return;
  for (const bool fp8 : {false, true}) {
    for (const int max_tokens : {1, 8, 64, 512, 4096}) test_nodes(suite, arena, fp8, max_tokens);
    for (const int max_tokens : {1, 8, 60, 500}) test_replays(suite, arena, fp8, max_tokens);
    for (const int max_tokens : {8, 100}) test_too_many(suite, arena, fp8, max_tokens);
  }
}

}  // namespace moeopt::gpu_test
