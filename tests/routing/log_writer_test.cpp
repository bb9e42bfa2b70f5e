// The file side of a recording when disks are slow, full, or the process is killed.
#include "routing/log_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <thread>

#include "base/error.h"
#include "routing/routing_util.h"

namespace moeopt {
namespace {

LogWriterOptions options_of(const std::filesystem::path& file, LogFormat format) {
  LogWriterOptions options;
  options.file = file;
  options.format = format;
  return options;
}

class WriterTest : public testing::TestWithParam<LogFormat> {
 protected:
  const RoutingHeader header_ = small_header();
};

TEST_P(WriterTest, WritesWholeRequestsInOrderAndTheTotals) {
  const TemporaryFile file("order");
  RoutingLogWriter writer(options_of(file.path(), GetParam()), header_);
  std::vector<RequestRoutes> requests;
  for (unsigned i = 0; i < 50; ++i) {
    requests.push_back(random_request(header_, "r" + std::to_string(i), 3, static_cast<int>(i), i));
    EXPECT_TRUE(writer.submit(requests.back()));
  }
  writer.count_unsampled();
  writer.close();
  const RoutingLogWriter::State state = writer.state();
  EXPECT_EQ(state.totals.requests, 50u);
  EXPECT_EQ(state.bytes_written, std::filesystem::file_size(file.path()));
  EXPECT_EQ(state.error, "");
  const ReadLog log = read_all(file.path());
  ASSERT_EQ(log.requests.size(), 50u);
  for (std::size_t i = 0; i < 50; ++i) expect_equal(log.requests[i], requests[i]);
  ASSERT_TRUE(log.stated.has_value());
  EXPECT_EQ(log.stated->tokens, state.totals.tokens);
  EXPECT_EQ(log.stated->unsampled_requests, 1u);
  EXPECT_FALSE(writer.submit(requests[0]));  // closed
}

TEST_P(WriterTest, RotatesBySizeBetweenRequests) {
  const TemporaryFile file("rotate");
  LogWriterOptions options = options_of(file.path(), GetParam());
  options.rotate_bytes = 4000;
  RoutingLogWriter writer(options, header_);
  for (unsigned i = 0; i < 40; ++i) writer.submit(random_request(header_, "r", 20, 20, i));
  writer.close();
  const int parts = writer.state().parts;
  EXPECT_GT(parts, 3);
  std::size_t requests = 0;
  for (int part = 0; part < parts; ++part) {
    const std::filesystem::path path =
        part == 0 ? file.path()
                  : std::filesystem::path(file.path().string() + "." + std::to_string(part));
    const ReadLog log = read_all(path);
    EXPECT_EQ(log.header.part, part);
    EXPECT_FALSE(log.truncated);
    for (const RequestRoutes& request : log.requests) EXPECT_TRUE(request.complete);
    requests += log.requests.size();
  }
  EXPECT_EQ(requests, 40u);
}

// A pipe that nobody empties is the slowest disk there is.
TEST_P(WriterTest, SlowDiskDropsWholeRequestsAndCountsThem) {
  const TemporaryFile file("pipe");
  ASSERT_EQ(::mkfifo(file.path().c_str(), 0600), 0);
  const int reader = ::open(file.path().c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  LogWriterOptions options = options_of(file.path(), GetParam());
  options.queue_bytes = 200'000;
  std::string bytes;
  std::thread drain;
  RoutingLogWriter::State state;
  int taken = 0;
  {
    RoutingLogWriter writer(options, header_);
    for (unsigned i = 0; i < 400; ++i) {
      taken += writer.submit(random_request(header_, "r", 100, 100, i)) ? 1 : 0;
    }
    EXPECT_LT(taken, 400);
    EXPECT_GT(taken, 10);
    drain = std::thread([&] {
      ::fcntl(reader, F_SETFL, 0);
      std::array<char, 65536> buffer;
      for (ssize_t n = 0; (n = ::read(reader, buffer.data(), buffer.size())) > 0;) {
        bytes.append(buffer.data(), static_cast<std::size_t>(n));
      }
    });
    // Room again: the recording goes on, and says what was lost.
    bool went_on = false;
    for (int tries = 0; tries < 5000 && !went_on; ++tries) {
      went_on = writer.submit(random_request(header_, "late", 5, 0, 1));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(went_on);
    writer.close();
    state = writer.state();
  }
  drain.join();
  ::close(reader);
  EXPECT_EQ(state.error, "");
  EXPECT_EQ(state.totals.requests, static_cast<std::uint64_t>(taken) + 1);
  EXPECT_GE(state.totals.dropped_requests, static_cast<std::uint64_t>(400 - taken));
  const ReadLog log = read_all(bytes);
  EXPECT_EQ(log.requests.size(), static_cast<std::size_t>(taken) + 1);
  for (const RequestRoutes& request : log.requests) EXPECT_TRUE(request.complete);
  ASSERT_TRUE(log.stated.has_value());
  EXPECT_EQ(log.stated->dropped_requests, state.totals.dropped_requests);
  EXPECT_EQ(log.stated->dropped_tokens, state.totals.dropped_tokens);
}

TEST_P(WriterTest, FullDiskEndsTheRecordingAlone) {
  RoutingHeader header = header_;
  const auto fails_at_once = [&] { RoutingLogWriter(options_of("/dev/full", GetParam()), header); };
  EXPECT_THROW(fails_at_once(), Error);
  // Full later: a limit on this process's file size, the signal ignored, makes write() fail.
  const TemporaryFile file("full");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    RoutingLogWriter writer(options_of(file.path(), GetParam()), header);
    for (unsigned i = 0; i < 200; ++i) writer.submit(random_request(header, "r", 50, 50, i));
    writer.close();
    const RoutingLogWriter::State state = writer.state();
    const bool good = !state.error.empty() && !writer.submit({}) &&
                      state.totals.requests + state.totals.dropped_requests == 200 &&
                      state.totals.tokens + state.totals.dropped_tokens == 200 * 100 &&
                      state.bytes_written == std::filesystem::file_size(file.path());
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  const ReadLog log = read_all(file.path());
  EXPECT_GT(log.records, 0u);
  EXPECT_FALSE(log.truncated);  // the torn record was cut off
  for (const RequestRoutes& request : log.requests) EXPECT_EQ(request.tokens(), 100u);
}

TEST_P(WriterTest, AfterKillTheReaderFindsEveryFullRecord) {
  const TemporaryFile file("kill");
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    RoutingLogWriter writer(options_of(file.path(), GetParam()), header_);
    bool told = false;
    for (unsigned i = 0;; ++i) {
      writer.submit(random_request(header_, "r" + std::to_string(i), 5, 5, i));
      std::uint64_t written = 0;
      while ((written = writer.state().totals.requests) + 100 < i) std::this_thread::yield();
      if (!told && written > 20) told = ::write(pipe_ends[1], "x", 1) == 1;
    }
  }
  char ready = 0;
  ASSERT_EQ(::read(pipe_ends[0], &ready, 1), 1);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
  const ReadLog log = read_all(file.path());
  ASSERT_GT(log.requests.size(), 20u);
  for (std::size_t i = 0; i < log.requests.size(); ++i) {
    const RequestRoutes wanted =
        random_request(header_, "r" + std::to_string(i), 5, 5, static_cast<unsigned>(i));
    if (log.requests[i].complete) {
      expect_equal(log.requests[i], wanted);
    } else {
      EXPECT_EQ(i + 1, log.requests.size());  // the last alone may be cut
      EXPECT_TRUE(log.truncated);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Both, WriterTest, testing::Values(LogFormat::kJsonl, LogFormat::kBinary),
                         [](const auto& format) {
                           return format.param == LogFormat::kJsonl ? "jsonl" : "binary";
                         });

}  // namespace
}  // namespace moeopt
