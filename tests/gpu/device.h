// The device as the suite uses it: checked calls, waiting with an end, and one arena of memory in
// which every buffer is poisoned and lies between guard bands. Invariant: no wait is endless, and
// no byte outside a buffer can be written unnoticed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace moeopt::gpu_test {

// The device can do nothing more in this process: a launch did not end, or a fault that sticks.
class DeviceLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

void check(cudaError_t status, const char* what);

// A stream that never meets the default one.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  bool idle() const;
  // Until all enqueued work is done. When that takes longer than the limit, on_hang, then
  // DeviceLost.
  void wait() const;

  static void set_limit_seconds(double seconds);
  // Called where a wait found no end. Nothing may be freed then: that would wait as well.
  static void set_on_hang(std::function<void(const std::string&)> on_hang);

 private:
  cudaStream_t stream_ = nullptr;
};

// Bytes that memory holds before anything is written: NaN as bf16, e4m3 and float32, -1 as an
// integer.
inline constexpr int kPoison = 0xff;
inline constexpr std::size_t kGuardBytes = 1024;

class Arena {
 public:
  Arena(std::size_t bytes, const Stream& stream);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  const Stream& stream() const { return stream_; }
  std::size_t bytes_free() const { return bytes_ - used_; }

  // Poisoned memory for `count` elements, guarded up to its first and from its last byte on. With
  // alignment 16 it starts on 16 bytes and on nothing rounder.
  template <typename T>
  T* take(std::size_t count, std::size_t alignment = 16) {
    return static_cast<T*>(take_bytes(count * sizeof(T), alignment));
  }
  template <typename T>
  T* upload(std::span<const T> values, std::size_t alignment = 16) {
    T* const to = take<T>(values.size(), alignment);
    copy_in(to, values.data(), values.size_bytes());
    return to;
  }
  template <typename T>
  T* upload(const std::vector<T>& values) {
    return upload(std::span<const T>(values));
  }
  template <typename T>
  std::vector<T> download(const T* from, std::size_t count) const {
    std::vector<T> values(count);
    copy_out(values.data(), from, count * sizeof(T));
    return values;
  }
  void poison(void* data, std::size_t bytes) const;
  void copy_in(void* to, const void* from, std::size_t bytes) const;
  void copy_out(void* to, const void* from, std::size_t bytes) const;

  // Bytes of guard bands that no longer hold the poison.
  std::uint64_t damaged_bytes() const;

  // Gives back, at the end of its life, everything taken since its construction.
  class Scope {
   public:
    explicit Scope(Arena& arena)
        : arena_(arena), used_(arena.used_), guards_(arena.guards_.size()) {}
    ~Scope() {
      arena_.used_ = used_;
      arena_.guards_.resize(guards_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t used_;
    std::size_t guards_;
  };

 private:
  void* take_bytes(std::size_t bytes, std::size_t alignment);

  const Stream& stream_;
  unsigned char* base_ = nullptr;
  std::size_t bytes_;
  std::size_t used_ = 0;
  std::vector<const unsigned char*> guards_;  // each kGuardBytes long
  const unsigned char** guard_table_ = nullptr;
  std::uint64_t* damaged_ = nullptr;
};

}  // namespace moeopt::gpu_test
