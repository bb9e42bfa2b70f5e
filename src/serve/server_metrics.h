// What the server itself counts; the engine's own figures come from its snapshot. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "base/metrics.h"

namespace moeopt::serve {

// A counter with one label of few values, all of which are ours (no client makes up a name).
class LabelledCounter {
 public:
  void add(const std::string& label);
  std::map<std::string, std::uint64_t> values() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::uint64_t> values_;
};

struct ServerMetrics {
  ServerMetrics();

  Histogram time_to_first_token_s;
  Histogram inter_token_s;
  Histogram request_s;  // of generations that came to their end
  Histogram prompt_tokens, output_tokens;
  LabelledCounter requests;  // by status
  LabelledCounter errors;    // by cause
  LabelledCounter finished;  // choices, by finish reason
};

}  // namespace moeopt::serve
