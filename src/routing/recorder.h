// RoutingRecorder: gathers the routes of each sampled request and hands whole requests to a
// RoutingLogWriter.
// The engine's thread calls it. Invariants: what is logged of a request is all of it or nothing;
// the memory of open requests is bounded like the writer's queue: a request that passes the bound
// is dropped and counted; a position computed twice is marked as replayed the second time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "routing/log_writer.h"
#include "routing/route_sink.h"

namespace moeopt {

struct RecorderOptions {
  double sampled = 1.0;    // share of requests to log, in (0, 1]
  std::uint64_t seed = 0;  // which ones
  std::string request_id;  // "": r1, r2, ...; else this name, then NAME-2, ...
  std::size_t open_bytes = std::size_t{256} << 20;
};

class RoutingRecorder final : public RouteSink {
 public:
  // `moe_layers`: the model's numbers of all its MoE layers; header.layers is a selection of them.
  RoutingRecorder(LogWriterOptions writer, RoutingHeader header, std::vector<int> moe_layers,
                  RecorderOptions options);

  void on_routes(std::span<const RouteRun> runs, const RouteStep& step) override;
  void on_finished(std::uint64_t request, int choice) override;

  // Hands over what is still open, as parts of requests, and closes the file.
  void close();
  RoutingLogWriter::State state() const { return writer_.state(); }

 private:
  struct Open {
    RequestRoutes routes;
    std::uint32_t next_position = 0;  // positions below were computed, or came from the cache
    std::size_t bytes = 0;            // counted in open_bytes_
    std::uint64_t tokens = 0;
    bool sampled = true;
    bool dropped = false;
  };
  using Key = std::pair<std::uint64_t, int>;

  Open& open(const RouteRun& run);
  void add(Open& open, const RouteRun& run, const RouteStep& step);
  // False: a weight is no finite number.
  bool copy_rows(RequestRoutes& routes, const RouteRun& run, const RouteStep& step) const;
  void append_span(RequestRoutes& routes, std::uint32_t position, RoutePhase phase, bool replayed);
  void drop(Open& open);
  void finish(Open& open);
  bool is_sampled(const Key& key) const;

  const RoutingHeader header_;
  const RecorderOptions options_;
  std::vector<std::size_t> logged_;     // of header_.layers: index among the MoE layers
  std::vector<std::uint16_t> weights_;  // the step's, as fp16
  std::map<Key, Open> open_;
  std::size_t open_bytes_ = 0;
  std::uint64_t n_named_ = 0;
  RoutingLogWriter writer_;
};

}  // namespace moeopt
