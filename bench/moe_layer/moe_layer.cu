// Times the fused MoE layer against a stream that only reads the same weights, both in CUDA graphs
// of the same kind, in one run. README.md beside this says what is measured and how.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <exception>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "moe_layer/layer.h"
#include "moe_layer/neighbour.h"
#include "moe_layer/probe.h"
#include "moe_layer/report.h"
#include "moe_layer/routing.h"
#include "moe_layer/trace.h"

namespace moeopt::bench {
namespace {

constexpr char kUsage[] =
    R"(usage: moe_layer [--shape NAME|H,I,E,k[,shared]]... [--dtype bf16|fp8] [--tokens 1,4,...]
                 [--routing uniform|zipf|random] [--given-ids] [--gate] [--max-tokens N]
                 [--device-tokens] [--captured] [--sweep] [--pieces N]
                 [--neighbour launch|split|code|memory|model] [--matrix-tflops BF16,FP8] [--reps N]
                 [--json FILE]
       moe_layer --probe [--reps N]
       moe_layer_trace --trace FILE --shape NAME --dtype D --tokens T ...   one launch, phase by phase
Without --shape: every point that has a target. NAME: qwen3, mixtral, dsv3 or qwen15.
Exit code 0: everything ran and was right, whatever the times; 1: something failed; 2: the arguments.
)";

constexpr std::uint64_t kRoutingSeed = 7;
constexpr int kCaches = 3;         // cold: so many times the cache's bytes between two uses
constexpr double kWarmUpUs = 2e5;  // of work before the first figure, for the clocks

struct Options {
  std::vector<std::string> shapes;
  std::optional<DType> dtype;
  std::vector<int> tokens;
  RoutingKind routing = RoutingKind::kUniform;
  std::string routing_name = "uniform";
  std::optional<bool> given_ids;
  bool device_tokens = false, captured = false, sweep = false, probe = false;
  Neighbour neighbour = Neighbour::kNone;
  int max_tokens = 0, pieces = 1, reps = 20;
  MatrixRates rates;
  std::string json, trace;
};

std::vector<double> numbers(const std::string& text) {
  std::vector<double> list;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    std::size_t used = 0;
    try {
      list.push_back(std::stod(part, &used));
    } catch (const std::exception&) {
    }
    if (used == 0 || used != part.size() || list.back() < 0) {
      throw std::invalid_argument("not a list of numbers: " + text);
    }
  }
  return list;
}

Options parse(int argc, char** argv) {
  static const std::map<std::string, RoutingKind> kRoutings = {{"uniform", RoutingKind::kUniform},
                                                               {"zipf", RoutingKind::kZipf},
                                                               {"random", RoutingKind::kRandom}};
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) throw std::invalid_argument(name + " needs a value");
      return argv[++i];
    };
    if (name == "--shape") {
      options.shapes.push_back(value());
      parse_shape(options.shapes.back());  // refused here, before any work
    } else if (name == "--dtype") {
      const std::string dtype = value();
      if (dtype != "bf16" && dtype != "fp8") throw std::invalid_argument("not a dtype: " + dtype);
      options.dtype = dtype == "bf16" ? DType::kBf16 : DType::kFp8;
    } else if (name == "--tokens") {
      for (const double n : numbers(value())) options.tokens.push_back(static_cast<int>(n));
    } else if (name == "--routing") {
      options.routing_name = value();
      const auto found = kRoutings.find(options.routing_name);
      if (found == kRoutings.end())
        throw std::invalid_argument("no routing " + options.routing_name);
      options.routing = found->second;
    } else if (name == "--given-ids" || name == "--gate") {
      options.given_ids = name == "--given-ids";
    } else if (name == "--device-tokens") {
      options.device_tokens = true;
    } else if (name == "--captured") {
      options.captured = true;
    } else if (name == "--sweep") {
      options.sweep = true;
    } else if (name == "--pieces") {
      options.pieces = std::max(1, static_cast<int>(numbers(value()).at(0)));
    } else if (name == "--neighbour") {
      options.neighbour = parse_neighbour(value());
    } else if (name == "--max-tokens") {
      options.max_tokens = static_cast<int>(numbers(value()).at(0));
    } else if (name == "--matrix-tflops") {
      const std::vector<double> rates = numbers(value());
      options.rates = {rates.at(0) * 1e12, rates.at(1) * 1e12};
    } else if (name == "--reps") {
      options.reps = std::max(1, static_cast<int>(numbers(value()).at(0)));
    } else if (name == "--json") {
      options.json = value();
    } else if (name == "--trace") {
      options.trace = value();
      if (!can_trace()) throw std::invalid_argument("--trace needs moe_layer_trace");
    } else if (name == "--probe") {
      options.probe = true;
    } else {
      throw std::invalid_argument("unknown argument " + name + "; --help says which there are");
    }
  }
  return options;
}

std::vector<JudgedLayer> layers_to_run(const Options& options) {
  static const std::vector<int> kTokens = {1, 4, 8, 16, 32, 64, 128, 256, 512};
  std::vector<JudgedLayer> layers;
  if (options.shapes.empty()) {
    layers = judged_layers();
    std::erase_if(layers, [&](const JudgedLayer& layer) {
      return options.dtype && layer.dtype != *options.dtype;
    });
  }
  for (const std::string& shape : options.shapes) {
    for (const DType dtype : {DType::kBf16, DType::kFp8}) {
      if (!options.dtype || *options.dtype == dtype) layers.push_back({shape, dtype, kTokens});
    }
  }
  for (JudgedLayer& layer : layers) {
    if (!options.tokens.empty()) layer.tokens = options.tokens;
  }
  return layers;
}

struct Times {
  double layer_us = 0, stream_us = 0, clock_mhz = 0;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// The layer's graph and the stream's take turns, each with the neighbour's kernels between the
// calls, whose own time is taken off. Every launch that was timed is held to the library's counters
// and to what the stream says it read.
Times measure(Calls& calls, Neighbour neighbour, int reps, bool& clocks_are_up) {
  launch_neighbour(neighbour, nullptr);  // allocates what it needs, which a capture may not
  check(cudaDeviceSynchronize());
  Graph layer(calls.count(), [&](int call, cudaStream_t s) {
    launch_neighbour(neighbour, s);
    calls.forward(call, s);
  });
  const int neighbours = neighbour == Neighbour::kNone ? 0 : kNeighbourKernels;
  if (layer.nodes() !=
      static_cast<std::size_t>(calls.count() * (calls.launches_a_call() + neighbours))) {
    throw std::runtime_error("a launch is more than one node of the graph");
  }
  Graph stream(calls.count(), [&](int call, cudaStream_t s) {
    launch_neighbour(neighbour, s);
    launch_stream(calls.stream_job(call), {}, s);
  });
  std::optional<Graph> alone;
  if (neighbours > 0) {
    alone.emplace(calls.count(), [&](int, cudaStream_t s) { launch_neighbour(neighbour, s); });
  }
  std::uint64_t replays = 0;
  const auto both = [&]() -> Times {
    ++replays;
    const double off = alone ? alone->replay_us() : 0;
    const double layer_us = layer.replay_us();
    return {layer_us - off, stream.replay_us() - off, 0};
  };
  for (double us = 0; !clocks_are_up && us < kWarmUpUs;) {
    const Times times = both();
    us += (times.layer_us + times.stream_us) * calls.count();
  }
  clocks_are_up = true;
  std::vector<double> layer_us, stream_us, clocks;
  for (int rep = -2; rep < reps; ++rep) {  // two that are not counted
    const Times times = both();
    if (rep < 0) continue;
    layer_us.push_back(times.layer_us);
    stream_us.push_back(times.stream_us);
    clocks.push_back(clock_mhz());
  }
  calls.verify_stream(replays);
  calls.verify(replays * calls.count());
  return {median(layer_us), median(stream_us), median(clocks)};
}

// Judged by that alone, not by the stream.
Result held_to(Result result, const Held& held) {
  result.floor.limit = 0;
  result.held = held;
  return result;
}

// One (shape, dtype) with its weights on the device, and the token counts to run it at.
class Bench {
 public:
  Bench(const JudgedLayer& wanted, const Options& options)
      : options_(options),
        shape_(parse_shape(wanted.shape)),
        dtype_(wanted.dtype),
        given_ids_(options.given_ids.value_or(shape_.given_ids)) {
    const moeopt_moe_sizes sizes = sizes_of(make_layer(shape_, dtype_, 1).get());
    const std::uint64_t cold_bytes = std::uint64_t{kCaches} * l2_bytes();
    int copies = 1;
    for (const int tokens : wanted.tokens) {
      points_.push_back({tokens, plan_routing(options.routing, shape_, tokens, sizes.expert_bytes,
                                              sizes.shared_bytes, cold_bytes, kRoutingSeed)});
      copies = std::max(copies, points_.back().routing.copies);
    }
    weights_.emplace(shape_, dtype_, copies);
  }

  std::size_t points() const { return points_.size(); }

  // The results of one token count: one, or with skewed routing, --captured or --pieces two, with
  // --sweep one a tile and the library's choice.
  std::vector<Result> run(std::size_t point, bool& clocks_are_up) const {
    const auto& [tokens, routing] = points_[point];
    if (options_.captured) {
      const int most = static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::max(1, tokens))));
      const Result own = time(routing, tokens, options_.routing_name, {}, clocks_are_up);
      const Result captured = time(routing, tokens, "made for " + std::to_string(most),
                                   {.max_tokens = most, .on_device = true}, clocks_are_up);
      return {own, held_to(captured, {own.us, kCapturedLimit})};
    }
    if (options_.pieces > 1) {
      const Result whole = time(routing, tokens, options_.routing_name, {}, clocks_are_up);
      const Result cut = time(routing, tokens, "in " + std::to_string(options_.pieces) + " pieces",
                              {.pieces = options_.pieces}, clocks_are_up);
      return {whole, held_to(cut, {whole.us, kPiecesLimit})};
    }
    if (options_.sweep) return sweep(routing, tokens, clocks_are_up);
    const Room room{options_.max_tokens, options_.device_tokens};
    if (options_.routing == RoutingKind::kUniform || tokens == 0) {
      return {time(routing, tokens, options_.routing_name, room, clocks_are_up)};
    }
    // Skewed routing is held against the even use of the same experts, not against the stream.
    const Result even = time(evened(routing, shape_, tokens, kRoutingSeed), tokens,
                             "even, " + options_.routing_name, room, clocks_are_up);
    const Result skewed = time(routing, tokens, options_.routing_name, room, clocks_are_up);
    return {even, held_to(skewed, {even.us, kSkewLimit})};
  }

 private:
  struct Point {
    int tokens;
    Routing routing;
  };

  Calls make_calls(const Routing& routing, int tokens, const Room& room) const {
    return {shape_, dtype_, *weights_, routing, tokens, room, given_ids_};
  }

  // Every tile, then the library's choice among them, held against the best.
  std::vector<Result> sweep(const Routing& routing, int tokens, bool& clocks_are_up) const {
    std::vector<Result> results;
    double best = std::numeric_limits<double>::infinity();
    for (const int tile : {8, 32, 64, 128}) {
      if (tile == 8 && tokens > tile) continue;
      results.push_back(time(routing, tokens, "tile of " + std::to_string(tile),
                             {.tile_tokens = tile}, clocks_are_up));
      results.back().floor.limit = 0;
      best = std::min(best, results.back().us);
    }
    const Result choice = time(routing, tokens, "the choice", {}, clocks_are_up);
    results.push_back(held_to(choice, {best, kChoiceLimit}));
    return results;
  }

  Result time(const Routing& routing, int tokens, const std::string& name, const Room& room,
              bool& clocks_are_up) const {
    if (!options_.trace.empty()) {
      Calls calls = make_calls(routing, tokens, room);
      std::printf("%s %s T=%d %s\n", shape_.name.c_str(), name_of(dtype_), tokens, calls.config());
      trace_call(calls, options_.neighbour, options_.trace);
    }
    Calls calls = make_calls(routing, tokens, room);
    const Times times = measure(calls, options_.neighbour, options_.reps, clocks_are_up);
    Result r;
    r.shape = shape_;
    r.dtype = dtype_;
    r.routing = name;
    r.given_ids = given_ids_;
    r.tokens = tokens;
    r.max_tokens = calls.max_tokens();
    r.config = calls.config();
    r.workspace_bytes = static_cast<double>(calls.workspace_bytes());
    r.us = times.layer_us;
    r.stream_us = times.stream_us;
    r.clock_mhz = times.clock_mhz;
    r.weight_bytes = calls.weight_bytes();
    r.distinct = routing.mean_distinct;
    r.floor = floor_of(shape_, dtype_, tokens, r.weight_bytes, r.stream_us, options_.rates);
    r.calls = calls.count();
    r.copies = routing.copies;
    r.reuse_bytes = static_cast<double>(routing.reuse_bytes);
    return r;
  }

  const Options& options_;
  LayerShape shape_;
  DType dtype_;
  bool given_ids_;
  std::vector<Point> points_;
  std::optional<Weights> weights_;
};

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (options.probe) {
    run_probe(options.reps);
    return 0;
  }
  const Machine machine = this_machine();
  print_head(machine);
  std::vector<Result> results;
  bool clocks_are_up = false;
  int failures = 0;
  for (const JudgedLayer& layer : layers_to_run(options)) {
    const auto failed = [&](const std::string& where, const std::exception& error) {
      ++failures;
      std::printf("%s %s%s FAILED: %s\n", layer.shape.c_str(), name_of(layer.dtype), where.c_str(),
                  error.what());
    };
    try {
      const Bench bench(layer, options);
      for (std::size_t point = 0; point < bench.points(); ++point) {
        try {
          for (const Result& result : bench.run(point, clocks_are_up)) {
            print_row(result);
            results.push_back(result);
          }
        } catch (const std::exception& error) {
          failed(" T=" + std::to_string(layer.tokens[point]), error);
        }
      }
    } catch (const std::exception& error) {
      failed("", error);
    }
  }
  int judged = 0, within = 0;
  for (const Result& r : results) {
    if (r.floor.limit == 0 && !r.held) continue;
    ++judged;
    within += r.within() ? 1 : 0;
  }
  std::printf("%d of %d judged points within their limits, %d failed\n", within, judged, failures);
  if (!options.json.empty()) write_json(options.json, machine, results);
  return failures > 0 ? 1 : 0;
}

}  // namespace
}  // namespace moeopt::bench

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--help" || std::string(argv[i]) == "-h") {
      std::fputs(moeopt::bench::kUsage, stdout);
      return 0;
    }
  }
  try {
    return moeopt::bench::run(argc, argv);
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "moe_layer: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "moe_layer: %s\n", error.what());
    return 1;
  }
}
