// Small routing logs for tests.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "routing/log_format.h"
#include "routing/log_reader.h"
#include "routing/routing_log.h"

namespace moeopt {

RoutingHeader small_header(int n_experts = 16, int top_k = 2, std::vector<int> layers = {1, 3});

// Random routes: a prompt of `n_prompt` tokens, then decoding.
RequestRoutes random_request(const RoutingHeader& header, const std::string& id, int n_prompt,
                             int n_decode, unsigned seed);

struct ReadLog {
  RoutingHeader header;
  std::vector<RequestRoutes> requests;
  std::uint64_t records = 0;
  bool truncated = false;
  std::optional<RoutingTotals> stated;
};
ReadLog read_all(RoutingLogReader& reader);
ReadLog read_all(const std::string& bytes);
ReadLog read_all(const std::filesystem::path& file);

// A whole log as bytes.
std::string encoded(LogFormat format, const RoutingHeader& header,
                    const std::vector<RequestRoutes>& requests);

void expect_equal(const RequestRoutes& got, const RequestRoutes& wanted);

// A fresh path below the test's temporary folder, removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name);
  ~TemporaryFile();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace moeopt
