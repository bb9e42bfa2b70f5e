// Times a whole model on the CPU backend: one prefill, then greedy decoding at batch 1, against the
// floors of this machine. Prints one line of JSON.
//   cpu_model_bench FOLDER [THREADS [ISA [PREFILL [DECODE]]]]
#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/model_folder.h"
#include "cpu/cpu_backend.h"
#include "cpu/machine.h"
#include "model/parse.h"

namespace moeopt::bench {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// What one token, and what many tokens that reach every expert, must read and multiply.
struct Work {
  double token_bytes = 0;     // of weights, for one token
  double all_bytes = 0;       // with every expert, without the embedding table
  double token_products = 0;  // multiply-adds of one token, without the logits
};

Work work_of(const ModelSpec& spec) {
  Work work;
  for (const WeightSpec& weight : weights_of(spec)) {
    const double elements = static_cast<double>(weight.shape.elements());
    const double bytes =
        elements * static_cast<double>(dtype_bytes(weight.quantised ? DType::kF8E4M3 : spec.dtype));
    if (weight.role == WeightRole::kEmbedding) {
      if (spec.tied_embeddings) {
        work.token_bytes += bytes;
        work.all_bytes += bytes;
      }
      continue;
    }
    double share = 1;
    if (weight.expert >= 0) {
      const MoeSpec& moe = *spec.layers[static_cast<std::size_t>(weight.layer)].moe;
      share = static_cast<double>(moe.top_k) / moe.n_experts;
    }
    work.all_bytes += bytes;
    work.token_bytes += bytes * share;
    if (weight.role != WeightRole::kLmHead && weight.shape.rank() == 2) {
      work.token_products += elements * share;
    }
  }
  return work;
}

std::uint64_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

class Run {
 public:
  Run(const ModelSpec& spec, const TensorSource& source, int threads, const std::string& isa,
      int prefill, int decode)
      : spec_(spec),
        prefill_(prefill),
        decode_(decode),
        limits_(limits_of(prefill, decode)),
        backend_(spec, source, limits_, cpu::make_fast_ops(threads, isa)),
        plan_(backend_.capacity()),
        table_(static_cast<std::size_t>(limits_.kv_blocks)) {
    for (std::size_t i = 0; i < table_.size(); ++i) table_[i] = static_cast<std::int32_t>(i);
    SamplingParams greedy;
    greedy.temperature = 0;
    backend_.bind_slot(0, greedy, {});
  }

  std::string name() const { return backend_.name(); }
  int decoded() const { return decode_; }
  std::uint64_t workspace_bytes() const { return total_bytes(backend_.buffers()); }

  double prefill_s() {
    std::vector<TokenRef> tokens;
    tokens.reserve(static_cast<std::size_t>(prefill_));
    for (int i = 0; i < prefill_; ++i) {
      tokens.push_back(
          TokenRef::literal(static_cast<std::int32_t>((i * 7919LL + 13) % spec_.vocab)));
    }
    return step_s(0, tokens);
  }
  double decode_s() {
    std::vector<double> times;
    for (int i = 0; i < decode_; ++i) {
      const TokenRef last = TokenRef::last_sample_of(0);
      times.push_back(step_s(prefill_ + i, {&last, 1}));
    }
    return median(times);
  }

 private:
  static ExecutionLimits limits_of(int prefill, int decode) {
    ExecutionLimits limits;
    limits.max_sequences = 1;
    limits.max_step_tokens = prefill;
    limits.max_logit_rows = 1;
    limits.max_model_len = prefill + decode;
    limits.kv_blocks = limits.blocks_per_sequence();
    return limits;
  }

  double step_s(int position, std::span<const TokenRef> tokens) {
    const double start = now_s();
    plan_.clear();
    const int first = plan_.add_sequence(0, position, tokens, table_);
    plan_.add_sample(first + static_cast<int>(tokens.size()) - 1, 0, kSampleToken);
    backend_.prepare(plan_);
    backend_.wait(backend_.launch());
    return now_s() - start;
  }

  const ModelSpec& spec_;
  int prefill_, decode_;
  ExecutionLimits limits_;
  cpu::CpuBackend backend_;
  StepPlan plan_;
  std::vector<std::int32_t> table_;
};

int run(int argc, char** argv) {
  const ModelFolder folder = resolve_model(argv[1]);
  const int threads = argc > 2 ? std::stoi(argv[2]) : 2;
  const std::string isa = argc > 3 ? argv[3] : "";
  const int prefill = argc > 4 ? std::stoi(argv[4]) : 512;
  const int decode = argc > 5 ? std::stoi(argv[5]) : 64;

  ThreadPool team(threads);
  double bandwidth = 0;
  {
    Buffer memory(std::size_t{2} << 30);
    std::ranges::fill(memory.bytes(), std::byte{1});
    bandwidth = read_bandwidth(team, memory.bytes());
  }
  const MultiplyPeak peak = multiply_peak(team);

  const ModelSpec spec = parse_model_spec(read_config(folder), "config.json");
  const auto source = open_tensors(folder);
  Run bench(spec, *source, threads, isa, prefill, decode);
  bench.prefill_s();  // reads every weight once
  std::vector<double> prefills;
  std::vector<double> decodes;
  for (int repeat = 0; repeat < 5; ++repeat) {
    prefills.push_back(bench.prefill_s());
    decodes.push_back(bench.decode_s());
  }
  const Work work = work_of(spec);
  const nlohmann::ordered_json result = {
      {"name", bench.name()},
      {"threads", threads},
      {"read_bytes_per_s", bandwidth},
      {"multiply_unit", peak.unit},
      {"multiply_flops_per_s", peak.flops_per_s},
      {"prefill_tokens", prefill},
      {"prefill_s", median(prefills)},
      {"decode_s", median(decodes)},
      {"token_bytes", work.token_bytes},
      {"all_bytes", work.all_bytes},
      {"prefill_flops", 2 * work.token_products * prefill},
      {"resident_bytes", resident_bytes()},
      {"workspace_bytes", bench.workspace_bytes()},
  };
  fmt::print("{}\n", result.dump());
  return 0;
}

}  // namespace
}  // namespace moeopt::bench

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: cpu_model_bench FOLDER [THREADS [ISA [PREFILL [DECODE]]]]\n");
    return 2;
  }
  try {
    return moeopt::bench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
