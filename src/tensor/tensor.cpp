#include "tensor/tensor.h"

#include <sys/mman.h>

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
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
}

}  // namespace moeopt
