#include "routing/log_input.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace moeopt {

namespace {
constexpr std::size_t kWindowBytes = std::size_t{1} << 20;
}  // namespace

LogInput::LogInput(const std::filesystem::path& file)
    : file_(std::make_unique<InputFile>(file)),
      name_(file.string()),
      size_bytes_(file_->identity().size_bytes) {}

LogInput::LogInput(std::span<const std::byte> bytes, std::string name)
    : memory_(bytes), name_(std::move(name)), size_bytes_(bytes.size()) {}

void LogInput::seek(std::uint64_t offset) {
  offset_ = offset;
  line_number_ = 0;
}

// Bytes from the offset on: at least that many, or all that are left.
std::span<const std::byte> LogInput::window(std::size_t at_least) {
  const std::uint64_t left = size_bytes_ - offset_;
  if (!file_) return memory_.subspan(static_cast<std::size_t>(offset_));
  const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(at_least, left));
  const bool inside =
      offset_ >= buffer_begin_ && offset_ + wanted <= buffer_begin_ + buffer_.size();
  if (!inside) {
    const std::size_t n =
        static_cast<std::size_t>(std::min<std::uint64_t>(std::max(at_least, kWindowBytes), left));
    buffer_.resize(n);
    file_->read_at(offset_, buffer_);
    buffer_begin_ = offset_;
  }
  return std::span<const std::byte>(buffer_).subspan(
      static_cast<std::size_t>(offset_ - buffer_begin_));
}

bool LogInput::read(std::span<std::byte> into) {
  if (size_bytes_ - offset_ < into.size()) return false;
  if (file_ && into.size() > kWindowBytes) {
    file_->read_at(offset_, into);
  } else {
    std::ranges::copy(window(into.size()).first(into.size()), into.begin());
  }
  offset_ += into.size();
  return true;
}

bool LogInput::line(std::string_view& text, bool& ended, std::size_t limit_bytes) {
  if (offset_ == size_bytes_) return false;
  ++line_number_;
  // One window of what is left of the last read, and when no line ends there, one that holds the
  // longest line allowed.
  for (const std::size_t at_least : {std::size_t{1}, limit_bytes + 1}) {
    const auto bytes = window(at_least);
    const auto visible = bytes.first(std::min(bytes.size(), limit_bytes + 1));
    const void* feed = std::memchr(visible.data(), '\n', visible.size());
    const bool all = visible.size() == size_bytes_ - offset_;
    if (feed == nullptr && !all) continue;
    ended = feed != nullptr;
    const std::size_t n =
        ended ? static_cast<std::size_t>(static_cast<const std::byte*>(feed) - visible.data())
              : visible.size();
    text = {reinterpret_cast<const char*>(visible.data()), n};
    offset_ += n + (ended ? 1 : 0);
    if (n > limit_bytes) break;
    return true;
  }
  throw_error(ErrorCode::kInvalidData, "{}:{}: the line is longer than {} bytes", name_,
              line_number_, limit_bytes);
}

}  // namespace moeopt
