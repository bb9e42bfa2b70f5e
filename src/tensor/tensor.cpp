#include "tensor/tensor.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
}

Buffer::Buffer(std::size_t size_bytes) {
  if (size_bytes == 0) return;
  void* address =
      ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    throw_error(ErrorCode::kDoesNotFit, "cannot allocate {}", format_bytes(size_bytes));
  }
  if (size_bytes >= kHugePageBytes) ::madvise(address, size_bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(address);
  size_bytes_ = size_bytes;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

void Buffer::commit() {
  if (size_bytes_ == 0) return;
  if (::madvise(data_, size_bytes_, MADV_POPULATE_WRITE) == 0) return;
  if (errno == ENOMEM) {
    throw_error(ErrorCode::kDoesNotFit, "cannot allocate {}", format_bytes(size_bytes_));
  }
  // Kernels before 5.14 do not know the advice: one write a page does the same.
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t at = 0; at < size_bytes_; at += page) {
    volatile std::byte* byte = data_ + at;
    *byte = *byte;
  }
}

Buffer::~Buffer() {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
}

}  // namespace moeopt
