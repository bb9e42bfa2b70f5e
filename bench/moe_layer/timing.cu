#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/moe/ptx.cuh"
#include "moe_layer/timing.h"

namespace moeopt::bench {

void check(cudaError_t error) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
  }
}

namespace {

using cuda::moe::wall_clock_ns;

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

__device__ double spun_mhz;

__global__ void spin() {
  const std::uint64_t before = wall_clock_ns();
  std::uint64_t begin = before;
  while (begin == before) begin = wall_clock_ns();  // the timer may count in steps of a microsecond
  const long long cycles = clock64();
  std::uint64_t end = begin;
  while (end - begin < 200'000) end = wall_clock_ns();
  spun_mhz = static_cast<double>(clock64() - cycles) * 1e3 / static_cast<double>(end - begin);
}
}  // namespace

double clock_mhz() {
  double mhz = 0;
  spin<<<1, 1>>>();
  check(cudaGetLastError());
  check(cudaMemcpyFromSymbol(&mhz, spun_mhz, sizeof mhz));
  return mhz;
}

int multiprocessor_count() {
  static const int count = attribute(cudaDevAttrMultiProcessorCount);
  return count;
}

int l2_bytes() {
  static const int bytes = attribute(cudaDevAttrL2CacheSize);
  return bytes;
}

void* device_allocate(std::size_t bytes) {
  void* p = nullptr;
  check(cudaMalloc(&p, std::max<std::size_t>(bytes, 1)));
  return p;
}

Graph::Graph(int calls, const std::function<void(int, cudaStream_t)>& enqueue) : calls_(calls) {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  check(cudaEventCreate(&start_));
  check(cudaEventCreate(&stop_));
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  for (int call = 0; call < calls; ++call) enqueue(call, stream_);
  check(cudaStreamEndCapture(stream_, &graph));
  check(cudaGraphGetNodes(graph, nullptr, &nodes_));
  check(cudaGraphInstantiate(&exec_, graph, 0));
  check(cudaGraphDestroy(graph));
  check(cudaGraphUpload(exec_, stream_));
  check(cudaStreamSynchronize(stream_));
}

Graph::~Graph() {
  cudaGraphExecDestroy(exec_);
  cudaEventDestroy(start_);
  cudaEventDestroy(stop_);
  cudaStreamDestroy(stream_);
}

double Graph::replay_us(const std::function<void(cudaStream_t)>& before) {
  if (before) before(stream_);
  check(cudaEventRecord(start_, stream_));
  check(cudaGraphLaunch(exec_, stream_));
  check(cudaEventRecord(stop_, stream_));
  check(cudaEventSynchronize(stop_));
  float ms = 0;
  check(cudaEventElapsedTime(&ms, start_, stop_));
  return ms * 1e3 / calls_;
}

double Graph::median_us(int reps, const std::function<void(cudaStream_t)>& before) {
  for (int i = 0; i < 2; ++i) replay_us(before);
  std::vector<double> us;
  for (int i = 0; i < reps; ++i) us.push_back(replay_us(before));
  std::nth_element(us.begin(), us.begin() + reps / 2, us.end());
  return us[reps / 2];
}

}  // namespace moeopt::bench
