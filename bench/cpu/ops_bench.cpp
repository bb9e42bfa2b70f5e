// Times the operations of cpu/fast on Qwen3-30B-A3B's layer shapes, against the machine's floors:
// bytes that must be read at the measured read bandwidth, multiplications at the measured tile
// peak.
//   cpu_ops_bench [THREADS [ISA [huge|small [moe|linear|attention]]]]
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cpu/machine.h"
#include "cpu/ops.h"

namespace moeopt::bench {
namespace {

constexpr int kHidden = 2048, kIntermediate = 768, kExperts = 64, kTopK = 8, kHeads = 32,
              kKvHeads = 4, kHead = 128, kLayers = 4, kMaxRows = 512;

struct Floors {
  double bytes_per_s = 0;
  double flops_per_s = 0;
};

// Weights of kLayers MoE layers and projections, so many that no cache holds them from one use to
// the next.
struct Model {
  std::vector<std::vector<cpu::SwigluWeights>> experts;
  std::vector<cpu::Matrix> routers, q, k, v, o;
  MoeSpec moe;
  AttentionSpec attention;
  std::byte* next = nullptr;

  cpu::Matrix matrix(int out, int in) {
    cpu::Matrix m;
    m.weight = {DType::kBF16, {out, in}, next};
    next += m.weight.size_bytes();
    return m;
  }

  explicit Model(std::byte* memory) : next(memory) {
    moe.n_experts = kExperts;
    moe.top_k = kTopK;
    moe.intermediate = kIntermediate;
    attention.n_heads = kHeads;
    attention.n_kv_heads = kKvHeads;
    attention.qk_head_dim = attention.v_head_dim = kHead;
    attention.softmax_scale = 0.088;
    for (int layer = 0; layer < kLayers; ++layer) {
      q.push_back(matrix(kHeads * kHead, kHidden));
      k.push_back(matrix(kKvHeads * kHead, kHidden));
      v.push_back(matrix(kKvHeads * kHead, kHidden));
      o.push_back(matrix(kHidden, kHeads * kHead));
      routers.push_back(matrix(kExperts, kHidden));
      experts.emplace_back();
      for (int e = 0; e < kExperts; ++e) {
        experts.back().push_back({matrix(kIntermediate, kHidden), matrix(kIntermediate, kHidden),
                                  matrix(kHidden, kIntermediate)});
      }
    }
  }
};

constexpr std::size_t kModelBytes =
    std::size_t{2} * kLayers *
    (std::size_t{kHidden} * (2 * kHeads + 2 * kKvHeads) * kHead + std::size_t{kExperts} * kHidden +
     std::size_t{3} * kExperts * kHidden * kIntermediate);

ModelSpec spec_of(const Model& model) {
  ModelSpec spec;
  spec.hidden = kHidden;
  spec.layers.resize(1);
  spec.layers[0].attention = model.attention;
  spec.layers[0].moe = model.moe;
  return spec;
}

// The median of several runs, each of every layer once.
double seconds_per_layer(const std::function<void(int layer)>& work) {
  std::vector<double> times;
  for (int run = 0; run < 7; ++run) {
    const auto start = std::chrono::steady_clock::now();
    for (int layer = 0; layer < kLayers; ++layer) work(layer);
    times.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kLayers);
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

void report(const char* name, int rows, double seconds, double bytes, double flops,
            const Floors& floors) {
  const double floor =
      std::max(bytes / floors.bytes_per_s, floors.flops_per_s > 0 ? flops / floors.flops_per_s : 0);
  fmt::print("{:<22}{:>6}{:>11.3f}{:>10.1f}{:>10.0f}{:>11.3f}{:>9.0f}%\n", name, rows,
             seconds * 1e3, bytes / seconds / 1e9, flops / seconds / 1e9, floor * 1e3,
             100 * floor / seconds);
}

class Bench {
 public:
  Bench(int threads, const std::string& isa, Model& model, const Floors& floors)
      : ops_(cpu::make_fast_ops(threads, isa)),
        model_(model),
        floors_(floors),
        scratch_(ops_->scratch_bytes(spec_of(model), kMaxRows, 8192)),
        x_(Buffer(std::size_t{kMaxRows} * kHeads * kHead * sizeof(float))),
        out_(Buffer(std::size_t{kMaxRows} * kHeads * kHead * sizeof(float))) {
    ops_->set_scratch(scratch_.bytes());
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& value : x_.as<float>()) value = normal(random);
  }

  std::string name() const { return ops_->name(); }

  void linear(const char* name, const std::vector<cpu::Matrix>& w, int rows) {
    const double seconds = seconds_per_layer(
        [&](int layer) { ops_->linear(x(), rows, w[static_cast<std::size_t>(layer)], {}, out()); });
    const double weights = 1.0 * w[0].out() * w[0].in();
    report(name, rows, seconds, 2 * weights, 2 * weights * rows, floors_);
  }

  void moe(int rows) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(rows) * kTopK);
    std::vector<float> weights(ids.size());
    int touched = 0;
    const double seconds = seconds_per_layer([&](int layer) {
      const auto l = static_cast<std::size_t>(layer);
      cpu::MoeWeights w;
      w.spec = &model_.moe;
      w.router = model_.routers[l];
      w.experts = model_.experts[l];
      ops_->moe(x(), rows, w, {ids, weights}, out());
    });
    std::vector<bool> used(kExperts);
    for (const std::int32_t id : ids) used[static_cast<std::size_t>(id)] = true;
    touched = static_cast<int>(std::ranges::count(used, true));
    const double expert = 3.0 * kHidden * kIntermediate;
    report("moe", rows, seconds, 2 * (touched * expert + 1.0 * kExperts * kHidden),
           2 * expert * rows * kTopK, floors_);
  }

  void attention(int rows, int context) {
    KvLayout layout;
    layout.planes = {{"k", kKvHeads * kHead}, {"v", kKvHeads * kHead}};
    layout.n_layers = 1;
    const int blocks = (context + layout.block_tokens - 1) / layout.block_tokens;
    const Buffer cache(layout.block_bytes() * static_cast<std::size_t>(blocks));
    std::vector<std::int32_t> table(static_cast<std::size_t>(blocks));
    for (int b = 0; b < blocks; ++b) table[static_cast<std::size_t>(b)] = blocks - 1 - b;
    const cpu::SequenceRows sequence{0, rows, context - rows, table};
    const cpu::KvBlocks kv{&layout, const_cast<std::byte*>(cache.bytes().data())};
    const double seconds = seconds_per_layer([&](int /*layer*/) {
      ops_->attention_gqa(x(), model_.attention, {&sequence, 1}, kv, out());
    });
    double pairs = 0;
    for (int r = 0; r < rows; ++r) pairs += context - rows + r + 1;
    report(fmt::format("attention, {} kept", context).c_str(), rows, seconds,
           2.0 * context * layout.token_bytes_per_layer() / 2, 4.0 * kHead * kHeads * pairs,
           floors_);
  }

 private:
  const float* x() { return x_.as<float>().data(); }
  float* out() { return out_.as<float>().data(); }

  std::unique_ptr<cpu::CpuOps> ops_;
  Model& model_;
  Floors floors_;
  Buffer scratch_, x_, out_;
};

}  // namespace
}  // namespace moeopt::bench

int main(int argc, char** argv) {
  using namespace moeopt;
  using namespace moeopt::bench;
  const int threads = argc > 1 ? std::stoi(argv[1]) : 2;
  const std::string isa = argc > 2 ? argv[2] : "";
  const bool small = argc > 3 && std::string(argv[3]) == "small";
  Buffer memory(kModelBytes);
  if (small) ::madvise(memory.bytes().data(), kModelBytes, MADV_NOHUGEPAGE);
  std::mt19937 random(1);
  std::vector<std::uint16_t> pool(1 << 20);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  for (std::uint16_t& value : pool) value = to_bf16(normal(random)).bits;
  const std::span<std::uint16_t> weights = memory.as<std::uint16_t>();
  for (std::size_t i = 0; i < weights.size(); i += pool.size() - 77) {
    std::copy_n(pool.begin(), std::min(pool.size(), weights.size() - i),
                weights.begin() + static_cast<std::ptrdiff_t>(i));
  }

  ThreadPool team(threads);
  const MultiplyPeak peak = multiply_peak(team);
  const Floors floors{read_bandwidth(team, memory.bytes()), peak.flops_per_s};
  Model model(memory.bytes().data());
  Bench bench(threads, isa, model, floors);
  fmt::print("{}, {} threads, {} pages; reads {:.1f} GB/s, {} {:.0f} GFLOP/s\n", bench.name(),
             threads, small ? "4 KiB" : "huge", floors.bytes_per_s / 1e9, peak.unit,
             floors.flops_per_s / 1e9);
  fmt::print("{:<22}{:>6}{:>11}{:>10}{:>10}{:>11}{:>10}\n", "op", "rows", "ms", "GB/s", "GFLOP/s",
             "floor ms", "of floor");
  const std::string only = argc > 4 ? argv[4] : "";
  if (only.empty() || only == "moe") {
    for (const int rows : {1, 4, 16, 64, 512}) bench.moe(rows);
  }
  if (only.empty() || only == "linear") {
    for (const int rows : {1, 16, 64, 512}) {
      bench.linear("q", model.q, rows);
      bench.linear("o", model.o, rows);
    }
    for (const int rows : {1, 512}) bench.linear("k", model.k, rows);
  }
  if (only.empty() || only == "attention") {
    for (const int rows : {1, 512}) {
      bench.attention(rows, 512);
      bench.attention(rows, 4096);
    }
  }
  return 0;
}
