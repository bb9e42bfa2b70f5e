// CUDA graphs and their time: the one way in which everything in this benchmark is timed.
// Invariant: a figure is the median over replays of one graph, divided by the calls it holds; a
// CUDA error is an exception, never a figure.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace moeopt::bench {

// Throws std::runtime_error with CUDA's message.
void check(cudaError_t error);

int multiprocessor_count();
int l2_bytes();
// Of the multiprocessors at this moment, MHz: the cycles of a thread that spins for 200 us.
double clock_mhz();

// Device memory, freed at the end; not initialised.
struct DeviceFree {
  void operator()(void* p) const { cudaFree(p); }
};
template <typename T>
using DeviceArray = std::unique_ptr<T, DeviceFree>;
void* device_allocate(std::size_t bytes);
template <typename T>
DeviceArray<T> device_array(std::size_t count) {
  return DeviceArray<T>(static_cast<T*>(device_allocate(count * sizeof(T))));
}

// A captured sequence of `calls` kernels.
class Graph {
 public:
  // `enqueue(call, stream)` enqueues call 0 .. calls - 1.
  Graph(int calls, const std::function<void(int, cudaStream_t)>& enqueue);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // One replay, waited for; µs per call. `before` is enqueued ahead and not timed.
  double replay_us(const std::function<void(cudaStream_t)>& before = {});
  // The median of `reps` replays after two that are not counted.
  double median_us(int reps, const std::function<void(cudaStream_t)>& before = {});
  std::size_t nodes() const { return nodes_; }

 private:
  int calls_;
  std::size_t nodes_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

}  // namespace moeopt::bench
