#include "gpu/device.h"

#include <chrono>
#include <thread>

#include "gpu/fill.h"

namespace moeopt::gpu_test {
namespace {

constexpr std::size_t kMaxGuards = 4096;
double limit_seconds = 20;
std::function<void(const std::string&)> on_hang;

std::size_t align_up(std::size_t value, std::size_t to) {
  return (value + to - 1) / to * to;
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw DeviceLost(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

Stream::Stream() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream");
}

Stream::~Stream() {
  cudaStreamDestroy(stream_);
}

bool Stream::idle() const {
  const cudaError_t status = cudaStreamQuery(stream_);
  if (status == cudaErrorNotReady) return false;
  check(status, "work on the stream");
  return true;
}

void Stream::wait() const {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  while (!idle()) {
    if (std::chrono::duration<double>(Clock::now() - start).count() > limit_seconds) {
      const std::string what =
          "no end after " + std::to_string(static_cast<int>(limit_seconds)) + " s: it hangs";
      if (on_hang) on_hang(what);
      throw DeviceLost(what);
    }
    std::this_thread::yield();
  }
}

void Stream::set_limit_seconds(double seconds) {
  limit_seconds = seconds;
}

void Stream::set_on_hang(std::function<void(const std::string&)> handler) {
  on_hang = std::move(handler);
}

Arena::Arena(std::size_t bytes, const Stream& stream) : stream_(stream), bytes_(bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "take the arena");
  base_ = static_cast<unsigned char*>(memory);
  check(cudaMalloc(&memory, kMaxGuards * sizeof(void*)), "take the guard table");
  guard_table_ = static_cast<const unsigned char**>(memory);
  check(cudaMalloc(&memory, sizeof(std::uint64_t)), "take the damage count");
  damaged_ = static_cast<std::uint64_t*>(memory);
}

Arena::~Arena() {
  cudaFree(base_);
  cudaFree(guard_table_);
  cudaFree(damaged_);
}

void* Arena::take_bytes(std::size_t bytes, std::size_t alignment) {
  std::size_t start = align_up(used_ + kGuardBytes, 1024);
  if (alignment == 16) start += 16 * (1 + guards_.size() / 2 % 7);
  const std::size_t end = start + bytes + kGuardBytes;
  if (end > bytes_ || guards_.size() + 2 > kMaxGuards) {
    throw std::runtime_error("the arena is too small: " + std::to_string(end >> 20) + " MiB");
  }
  used_ = end;
  guards_.push_back(base_ + start - kGuardBytes);
  guards_.push_back(base_ + start + bytes);
  poison(base_ + start - kGuardBytes, bytes + 2 * kGuardBytes);
  return base_ + start;
}

void Arena::poison(void* data, std::size_t bytes) const {
  check(cudaMemsetAsync(data, kPoison, bytes, stream_.get()), "poison");
}

void Arena::copy_in(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return;
  stream_.wait();  // a copy from pageable memory may wait without an end
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_.get()), "copy in");
  stream_.wait();
}

void Arena::copy_out(void* to, const void* from, std::size_t bytes) const {
  stream_.wait();
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_.get()), "copy out");
  stream_.wait();
}

std::uint64_t Arena::damaged_bytes() const {
  if (guards_.empty()) return 0;
  copy_in(guard_table_, guards_.data(), guards_.size() * sizeof(guards_[0]));
  check(cudaMemsetAsync(damaged_, 0, sizeof(*damaged_), stream_.get()), "clear the damage count");
  count_unlike(guard_table_, static_cast<int>(guards_.size()), kGuardBytes, kPoison, damaged_,
               stream_.get());
  return download(damaged_, 1)[0];
}

}  // namespace moeopt::gpu_test
