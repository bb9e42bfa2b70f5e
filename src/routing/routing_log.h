// What a routing log says, independent of its file format (docs/SCHEMA.md).
// Invariant: in a RequestRoutes, ids and weights have tokens() * n_layers * top_k entries in the
// order [token][logged layer][slot], and the runs' tokens add up to tokens().
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace moeopt {

// In ids: this slot holds no expert (a layer with fewer slots, or a record that a log lacks).
inline constexpr std::uint16_t kNoExpert = std::numeric_limits<std::uint16_t>::max();

// Limits of both formats; a log beyond them is refused.
inline constexpr int kMaxLoggedLayers = 1024;
inline constexpr int kMaxExperts = 32767;
inline constexpr int kMaxTopK = 64;

struct RoutingHeader {
  std::string model;        // name or path as the run was given it
  std::string program;      // "moeopt 0.1.0"
  std::string router;       // "softmax" or "sigmoid"
  std::string started;      // UTC, ISO 8601
  int n_layers = 0;         // of the model, dense ones included
  int n_experts = 0;        // of the widest layer
  int top_k = 0;            // of the widest layer
  std::vector<int> layers;  // logged ones, ascending, the model's numbers
  std::uint64_t seed = 0;
  double sampled = 1.0;  // share of requests that is logged
  int part = 0;          // of a rotated log
  bool has_weights = true;
  std::vector<std::string> missing;  // fields that the file lacks, of a foreign log

  // Ids are stored in one byte when they fit beside the mark for "no expert".
  int id_bytes() const { return n_experts > 0 && n_experts <= 255 ? 1 : 2; }
};

enum class RoutePhase : std::uint8_t { kPrefill = 0, kDecode = 1, kUnknown = 2 };
std::string_view route_phase_name(RoutePhase phase);  // "prefill", "decode", ""

// Consecutive tokens that were computed alike.
struct RouteSpan {
  std::uint32_t first_token = 0;  // position in the sequence
  std::uint32_t n_tokens = 0;
  RoutePhase phase = RoutePhase::kUnknown;
  bool replayed = false;  // computed before, lost to preemption
};

// All that is logged of one choice of one request.
struct RequestRoutes {
  std::string id;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // came from the prefix cache: no routes of theirs exist
  bool complete = true;             // false: a part of a request, of a foreign or cut log
  std::vector<RouteSpan> spans;
  std::vector<std::uint16_t> ids;
  std::vector<std::uint16_t> weights;  // fp16 bits; empty without weights

  std::size_t tokens() const;
  std::size_t replayed_tokens() const;
  std::size_t bytes() const;  // held in memory
};

// What a log says about itself besides its requests.
struct RoutingTotals {
  std::uint64_t requests = 0;
  std::uint64_t tokens = 0;
  std::uint64_t replayed_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t dropped_requests = 0;  // whole ones: the disk was too slow
  std::uint64_t dropped_tokens = 0;
  std::uint64_t unsampled_requests = 0;
};

// "all", "0,2,5-7": a selection out of `layers` (ascending). Error(kUsage) names what is wrong.
std::vector<int> select_layers(std::string_view text, const std::vector<int>& layers);

// Error(kInvalidData) opening with `where` when a header field is out of the limits above.
void check_header(const RoutingHeader& header, std::string_view where);

}  // namespace moeopt
