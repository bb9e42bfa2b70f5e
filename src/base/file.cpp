#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/mapping_guard.h"

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
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

[[noreturn]] void refuse(const std::filesystem::path& file, const char* verb, int error) {
  const bool absent = error == ENOENT || error == ENOTDIR;
  throw_error(absent ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: cannot {}: {}", file.string(),
              verb, std::strerror(error));
}

// A device or a pipe: a rename would put a file in its place.
bool is_device(const std::filesystem::path& file) {
  struct stat status {};
  return ::stat(file.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

int open_for_reading(const std::filesystem::path& file) {
  // O_NONBLOCK: a FIFO put in a file's place must not hang the program.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) refuse(file, "open", errno);
  return descriptor;
}

FileIdentity regular_identity(const struct stat& status, const std::filesystem::path& file) {
  if (!S_ISREG(status.st_mode)) {
    throw_error(ErrorCode::kInvalidData, "{}: not a regular file", file.string());
  }
  return {status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size),
          std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

FileIdentity identify(const FileDescriptor& descriptor, const std::filesystem::path& file) {
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) refuse(file, "stat", errno);
  return regular_identity(status, file);
}

// Reads until `into` is full or the file ends; returns the bytes read.
std::size_t read_fully(int descriptor, std::uint64_t offset, std::span<std::byte> into,
                       const std::filesystem::path& file) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = ::pread(descriptor, into.data() + done, into.size() - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse(file, "read", errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

}  // namespace

std::string read_file(const std::filesystem::path& file, std::size_t limit_bytes) {
  const FileDescriptor descriptor(open_for_reading(file));
  const std::uint64_t size_bytes = identify(descriptor, file).size_bytes;
  if (size_bytes > limit_bytes) {
    throw_error(ErrorCode::kInvalidData, "{}: {} bytes, the limit is {}", file.string(), size_bytes,
                limit_bytes);
  }
  std::string text(static_cast<std::size_t>(size_bytes), '\0');
  text.resize(read_fully(descriptor.get(), 0, std::as_writable_bytes(std::span(text)), file));
  return text;
}

bool write_fully(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return true;
}

void write_file(const std::filesystem::path& file, std::span<const std::byte> bytes) {
  if (is_device(file)) {
    const FileDescriptor descriptor(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
    if (descriptor.get() < 0) refuse(file, "open", errno);
    if (!write_fully(descriptor.get(), bytes)) refuse(file, "write", errno);
    return;
  }
  const std::filesystem::path part = file.string() + ".part";
  const auto give_up = [&] {
    const int error = errno;
    ::unlink(part.c_str());
    refuse(file, "write", error);
  };
  {
    const FileDescriptor descriptor(
        ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (descriptor.get() < 0) refuse(part, "create", errno);
    if (!write_fully(descriptor.get(), bytes)) give_up();
  }
  if (::rename(part.c_str(), file.c_str()) != 0) give_up();
}

FileIdentity identify_file(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) refuse(file, "stat", errno);
  return regular_identity(status, file);
}

InputFile::InputFile(std::filesystem::path file) : path_(std::move(file)), descriptor_(-1) {
  FileDescriptor descriptor(open_for_reading(path_));
  identity_ = identify(descriptor, path_);
  descriptor_ = descriptor.release();
}

InputFile::~InputFile() {
  ::close(descriptor_);
}

void InputFile::read_at(std::uint64_t offset, std::span<std::byte> into) const {
  if (offset > identity_.size_bytes || into.size() > identity_.size_bytes - offset ||
      read_fully(descriptor_, offset, into, path_) != into.size()) {
    throw_error(ErrorCode::kInvalidData, "{}: ends before byte {}: truncated?", path_.string(),
                offset + into.size());
  }
}

MappedFile::MappedFile(const std::filesystem::path& file) : MappedFile(InputFile(file)) {}

MappedFile::MappedFile(const InputFile& file) {
  const auto size_bytes = static_cast<std::size_t>(file.identity().size_bytes);
  if (size_bytes == 0) return;
  void* address = ::mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, file.descriptor_, 0);
  if (address == MAP_FAILED) refuse(file.path(), "map", errno);
  bytes_ = {static_cast<const std::byte*>(address), size_bytes};
  guard_mapping(bytes_, file.path());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

void read_ahead(std::span<const std::byte> mapped) {
  const auto page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<std::uintptr_t>(mapped.data());
  const std::uintptr_t begin = first / page_bytes * page_bytes;
  ::madvise(reinterpret_cast<void*>(begin), first + mapped.size() - begin, MADV_POPULATE_READ);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (bytes_.empty()) return;
  unguard_mapping(bytes_);
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::drop_pages(std::uint64_t offset, std::uint64_t size_bytes) const {
  MOEOPT_CHECK(offset <= bytes_.size());
  MOEOPT_CHECK(size_bytes <= bytes_.size() - offset);
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = (offset + page_bytes - 1) / page_bytes * page_bytes;
  const std::uint64_t end = (offset + size_bytes) / page_bytes * page_bytes;
  if (begin >= end) return;
  ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace moeopt
