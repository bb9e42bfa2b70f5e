// Views of typed memory, and the aligned buffers that own it.
// Invariant: a TensorView never owns; whoever made it keeps the bytes alive (a mapping, a Buffer).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace moeopt {

// Row-major, contiguous, read-only. `data` is aligned to the element at least, whether it came from
// a Buffer or a TensorSource; who needs more (vector loads, DMA) asks is_aligned.
struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  const std::byte* data = nullptr;

  std::size_t size_bytes() const {
    return static_cast<std::size_t>(shape.elements()) * dtype_bytes(dtype);
  }
  std::span<const std::byte> bytes() const { return {data, size_bytes()}; }
  bool is_aligned(std::size_t alignment) const {
    return reinterpret_cast<std::uintptr_t>(data) % alignment == 0;
  }
};

// Anonymous memory, 64-byte aligned, zero-filled, fixed in size. Large buffers ask for huge pages.
class Buffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  Buffer() = default;
  explicit Buffer(std::size_t size_bytes);  // Error(kDoesNotFit) when the memory is not to be had
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  // Gives every page its memory now, so that a plan is held from the start and no later write can
  // fail. Error(kDoesNotFit).
  void commit();

  std::size_t size_bytes() const { return size_bytes_; }
  std::span<std::byte> bytes() { return {data_, size_bytes_}; }
  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }

  template <typename T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(data_), size_bytes_ / sizeof(T)};
  }
  template <typename T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(data_), size_bytes_ / sizeof(T)};
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

}  // namespace moeopt
