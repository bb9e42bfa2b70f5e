#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moeopt {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int value) : value_(value) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }

 private:
  int value_;
};

[[noreturn]] void refuse(const std::filesystem::path& file, const char* verb, int error) {
  const ErrorCode code = error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  throw_error(code, "{}: cannot {}: {}", file.string(), verb, std::strerror(error));
}

int open_for_reading(const std::filesystem::path& file) {
  // O_NONBLOCK: a FIFO put in a file's place must not hang the program.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) refuse(file, "open", errno);
  return descriptor;
}

std::size_t regular_size_bytes(const FileDescriptor& descriptor,
                               const std::filesystem::path& file) {
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) refuse(file, "stat", errno);
  if (!S_ISREG(status.st_mode)) {
    throw_error(ErrorCode::kInvalidData, "{}: not a regular file", file.string());
  }
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

std::string read_file(const std::filesystem::path& file, std::size_t limit_bytes) {
  const FileDescriptor descriptor(open_for_reading(file));
  const std::size_t size_bytes = regular_size_bytes(descriptor, file);
  if (size_bytes > limit_bytes) {
    throw_error(ErrorCode::kInvalidData, "{}: {} bytes, the limit is {}", file.string(), size_bytes,
                limit_bytes);
  }
  std::string text(size_bytes, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(descriptor.get(), text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse(file, "read", errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

void write_file(const std::filesystem::path& file, std::span<const std::byte> bytes) {
  const std::filesystem::path part = file.string() + ".part";
  {
    const FileDescriptor descriptor(
        ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (descriptor.get() < 0) refuse(part, "create", errno);
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t put = ::write(descriptor.get(), bytes.data() + done, bytes.size() - done);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) {
        const int error = errno;
        ::unlink(part.c_str());
        refuse(file, "write", error);
      }
      done += static_cast<std::size_t>(put);
    }
  }
  if (::rename(part.c_str(), file.c_str()) != 0) {
    const int error = errno;
    ::unlink(part.c_str());
    refuse(file, "write", error);
  }
}

MappedFile::MappedFile(const std::filesystem::path& file) {
  const FileDescriptor descriptor(open_for_reading(file));
  const std::size_t size_bytes = regular_size_bytes(descriptor, file);
  if (size_bytes == 0) return;
  void* address = ::mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, descriptor.get(), 0);
  if (address == MAP_FAILED) refuse(file, "map", errno);
  bytes_ = {static_cast<const std::byte*>(address), size_bytes};
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace moeopt
