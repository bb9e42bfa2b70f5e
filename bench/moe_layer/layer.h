// A layer on the device as the benchmark needs it: random packed weights in several copies, and the
// tokens of every call, with the routing planted in them. Talks to the library through moeopt.h.
// Invariant: weights are random, never zeros; a call's tokens make the router choose exactly the
// planned experts.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "moe_layer/routing.h"
#include "moe_layer/shapes.h"
#include "moe_layer/stream.cuh"
#include "moe_layer/timing.h"
#include "moeopt.h"

namespace moeopt::bench {

// Throws std::runtime_error with the library's own words.
void check(moeopt_status status);

struct LayerDeleter {
  void operator()(moeopt_moe* layer) const { moeopt_moe_destroy(layer); }
};
using LayerHandle = std::unique_ptr<moeopt_moe, LayerDeleter>;
// tile_tokens: the tile of a task; 0: the library's choice.
LayerHandle make_layer(const LayerShape& shape, DType dtype, int max_tokens, int tile_tokens = 0);
moeopt_moe_sizes sizes_of(const moeopt_moe* layer);

// One expert before packing; remade from its number whenever it is needed.
struct SourceExpert {
  DeviceArray<__nv_bfloat16> gate, up, down;
  int hidden = 0, intermediate = 0;

  SourceExpert(int hidden, int intermediate);
  // Expert -1 is the shared one.
  void fill(int expert, cudaStream_t stream);
};

// `copies` times all experts and the shared one, each copy in memory of its own.
class Weights {
 public:
  Weights(const LayerShape& shape, DType dtype, int copies);
  const unsigned char* experts(int copy) const;
  const unsigned char* shared(int copy) const;  // null when there is none
  const __nv_bfloat16* shared_gate() const { return shared_gate_.get(); }
  const moeopt_moe_sizes& sizes() const { return sizes_; }

 private:
  LayerShape shape_;
  moeopt_moe_sizes sizes_;
  DeviceArray<unsigned char> experts_, shared_;
  DeviceArray<__nv_bfloat16> shared_gate_;
};

// What a layer is made for.
struct Room {
  int max_tokens = 0;      // 0: exactly the call's tokens
  bool on_device = false;  // the kernel reads their count from device memory
  int tile_tokens = 0;     // 0: the library's choice
  int pieces = 1;          // a call is cut into so many launches, and the layer made for one
};

// The calls of one graph.
class Calls {
 public:
  Calls(const LayerShape& shape, DType dtype, const Weights& weights, const Routing& routing,
        int tokens, const Room& room, bool given_ids);

  int count() const { return static_cast<int>(routing_.calls.size()); }
  const char* config() const { return moeopt_moe_config(layer_.get()); }
  int max_tokens() const { return max_tokens_; }
  int launches_a_call() const { return static_cast<int>(pieces_.size()); }
  std::uint64_t workspace_bytes() const { return sizes_of(layer_.get()).workspace_bytes; }
  void forward(int call, cudaStream_t stream);
  StreamJob stream_job(int call) const;
  double weight_bytes() const;  // that one call touches, on average
  // Throws unless the streams so far, `replays` times all calls', read all their bytes.
  void verify_stream(std::uint64_t replays) const;

  // Runs every call once, with the recorder on, and holds what came out against the plan and, for
  // the first and the last token, against a plain float32 sum; then checks the library's counters
  // against all calls so far, `timed_calls` and these. Throws std::runtime_error.
  void verify(std::uint64_t timed_calls);

 private:
  struct PlannedToken {
    std::vector<int> ids;
    std::vector<float> weights;
  };
  struct Piece {
    int first, tokens;
  };
  static std::vector<Piece> cut(int tokens, int pieces);  // at least one, the first the largest
  moeopt_moe_args args(int call, const Piece& piece) const;
  void plant();
  void check_recorded(int call, const int* ids, const float* weights, const int* counts) const;
  void check_row(int call, int token) const;
  void check_counters(std::uint64_t calls) const;

  LayerShape shape_;
  DType dtype_;
  const Weights& weights_;
  Routing routing_;
  int tokens_;
  std::vector<Piece> pieces_;
  int max_tokens_;
  bool given_ids_, tokens_on_device_;
  LayerHandle layer_;
  DeviceArray<__nv_bfloat16> x_, out_, router_;  // each call has its own
  DeviceArray<int> ids_, tokens_device_;
  DeviceArray<float> id_weights_;
  DeviceArray<unsigned char> workspace_;
  DeviceArray<unsigned long long> bytes_read_;
  std::vector<std::vector<PlannedToken>> planned_;  // [call][token]
};

}  // namespace moeopt::bench
