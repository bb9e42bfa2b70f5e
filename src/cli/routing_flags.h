// The flags of a routing log, for every verb that runs a model, and the log of one run.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "cli/session.h"
#include "routing/recorder.h"

namespace CLI {
class App;
}

namespace moeopt::cli {

// A recording that is on: made after Session::start(), which keeps warm-up out of it. Ends with its
// owner; the session outlives it.
class RoutingLog {
 public:
  RoutingLog(Session& session, LogWriterOptions writer, RoutingHeader header,
             RecorderOptions options);
  ~RoutingLog();
  RoutingLog(const RoutingLog&) = delete;
  RoutingLog& operator=(const RoutingLog&) = delete;

  RoutingRecorder& recorder() { return recorder_; }
  // Closes the file; adds {"routing_log": {...}} to `out` and returns a line for people.
  std::string finish(nlohmann::ordered_json& out);
  // finish() with its line on standard error.
  void finish_aloud();
  // Of a recording that an error ended (a full disk): the error's exit code, else 0.
  int exit_code() const;

 private:
  void close();

  Session& session_;
  std::string file_;
  RoutingRecorder recorder_;
  bool closed_ = false;
};

class RoutingFlags {
 public:
  void add_to(CLI::App& verb);
  // Whether SessionOptions::record_routes is to be set.
  bool wanted() const { return !file_.empty(); }
  // Null when not wanted. Error(kUsage) for bad layers or format, Error(kIo).
  std::unique_ptr<RoutingLog> start(Session& session) const;

 private:
  std::string file_;
  std::string layers_ = "all";
  std::string format_ = "auto";
  double sample_ = 1.0;
  std::uint64_t rotate_mib_ = 4096;
};

// What the header of a log of these layers ("all", "0,2,5-7") says of a model that is ready to run.
// Error(kUsage): no such layers, or a model without experts.
RoutingHeader routing_header(const Session& session, std::string_view layers = "all");

}  // namespace moeopt::cli
