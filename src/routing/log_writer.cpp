#include "routing/log_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/start_thread.h"

namespace moeopt {
namespace {

// The writer takes a processor from those that compute each time it wakes: a first request waits
// so long for others, unless so much waits already.
constexpr std::chrono::milliseconds kGather{200};
constexpr std::size_t kGatherBytes = std::size_t{1} << 20;

}  // namespace

RoutingLogWriter::RoutingLogWriter(LogWriterOptions options, RoutingHeader header)
    : options_(std::move(options)),
      header_(std::move(header)),
      encoder_(make_log_encoder(options_.format)) {
  open_part();
  thread_ = start_thread([this] { work(); });
}

RoutingLogWriter::~RoutingLogWriter() {
  close();
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::filesystem::path RoutingLogWriter::part_path() const {
  if (header_.part == 0) return options_.file;
  return options_.file.string() + fmt::format(".{}", header_.part);
}

void RoutingLogWriter::open_part() {
  if (descriptor_ >= 0) ::close(descriptor_);
  const std::string path = part_path().string();
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    throw_error(ErrorCode::kIo, "{}: cannot be opened for writing: {}", path, std::strerror(errno));
  }
  part_bytes_ = 0;
  try {
    write_bytes(encoder_->header(header_));
  } catch (const Error&) {
    if (header_.part > 0) ::unlink(path.c_str());  // of no use, and an error to readers
    throw;
  }
}

void RoutingLogWriter::write_bytes(std::string_view bytes) {
  if (!write_fully(descriptor_, std::as_bytes(std::span(bytes)))) {
    const int failure = errno;
    cut_torn_record();
    throw_error(ErrorCode::kIo, "{}: writing failed: {}", part_path().string(),
                std::strerror(failure));
  }
  part_bytes_ += bytes.size();
  const std::lock_guard lock(mutex_);
  state_.bytes_written += bytes.size();
}

// Back to the last whole record; what is no regular file keeps its end.
void RoutingLogWriter::cut_torn_record() {
  if (::ftruncate(descriptor_, static_cast<off_t>(part_bytes_)) != 0) {
    log::debug("{}: ends within a record", part_path().string());
  }
}

bool RoutingLogWriter::submit(RequestRoutes routes) {
  const std::size_t bytes = routes.bytes();
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (!state_.error.empty() || closing_ || queued_bytes_ + bytes > options_.queue_bytes) {
      state_.totals.dropped_requests += 1;
      state_.totals.dropped_tokens += routes.tokens();
      return false;
    }
    queued_bytes_ += bytes;
    wake = queue_.empty() || has_enough();
    queue_.push_back(std::move(routes));
  }
  if (wake) changed_.notify_one();
  return true;
}

bool RoutingLogWriter::has_enough() const {
  return queued_bytes_ > std::min(kGatherBytes, options_.queue_bytes / 4);
}

void RoutingLogWriter::count_dropped(std::uint64_t tokens) {
  const std::lock_guard lock(mutex_);
  state_.totals.dropped_requests += 1;
  state_.totals.dropped_tokens += tokens;
}

void RoutingLogWriter::count_unsampled() {
  const std::lock_guard lock(mutex_);
  state_.totals.unsampled_requests += 1;
}

RoutingLogWriter::State RoutingLogWriter::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void RoutingLogWriter::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void RoutingLogWriter::write_request(const RequestRoutes& routes) {
  if (part_bytes_ >= options_.rotate_bytes) {
    write_bytes(encoder_->totals(state().totals));
    header_.part += 1;
    open_part();
    const std::lock_guard lock(mutex_);
    state_.parts += 1;
  }
  std::string bytes = encoder_->request(header_, routes);
  const RoutingTotals totals = state().totals;
  if (totals.dropped_requests != dropped_logged_) {
    dropped_logged_ = totals.dropped_requests;
    bytes.insert(0, encoder_->totals(totals));
  }
  write_bytes(bytes);
  const std::lock_guard lock(mutex_);
  state_.totals.requests += 1;
  state_.totals.tokens += routes.tokens();
  state_.totals.replayed_tokens += routes.replayed_tokens();
  state_.totals.cached_tokens += routes.cached_tokens;
}

void RoutingLogWriter::work() {
  std::unique_lock lock(mutex_);
  std::optional<RequestRoutes> writing;
  try {
    while (true) {
      if (queue_.empty()) {
        changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
        changed_.wait_for(lock, kGather, [this] { return closing_ || has_enough(); });
      }
      if (queue_.empty()) break;
      writing = std::move(queue_.front());
      queue_.pop_front();
      const std::size_t bytes = writing->bytes();
      lock.unlock();
      write_request(*writing);
      writing.reset();
      lock.lock();
      queued_bytes_ -= bytes;
    }
    const RoutingTotals totals = state_.totals;
    lock.unlock();
    write_bytes(encoder_->totals(totals));
  } catch (const std::exception& error) {  // the disk's, or no memory
    log::error("the routing log ends here: {}", error.what());
    if (!lock.owns_lock()) lock.lock();
    state_.error = error.what();
    if (writing) queue_.push_front(std::move(*writing));
    state_.totals.dropped_requests += queue_.size();
    for (const RequestRoutes& routes : queue_) state_.totals.dropped_tokens += routes.tokens();
    queue_.clear();
    queued_bytes_ = 0;
  }
}

}  // namespace moeopt
