// The benchmark's table and its JSON.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "moe_layer/shapes.h"

namespace moeopt::bench {

// What a line is held against: skewed routing against the even use of the same experts; a layer
// made for more tokens against one made for these; the library's choice against the best tile; a
// call cut into pieces, for the sake of the workspace, against the whole.
struct Held {
  double us;
  double limit;
};
inline constexpr double kSkewLimit = 1.15, kCapturedLimit = 1.10, kChoiceLimit = 1.05,
                        kPiecesLimit = 1.10;

struct Result {
  LayerShape shape;
  DType dtype = DType::kBf16;
  std::string routing;  // "uniform", "zipf", ..., "even over zipf's"
  bool given_ids = false;
  int tokens = 0;
  int max_tokens = 0;
  std::string config;
  double workspace_bytes = 0;
  double us = 0;
  double stream_us = 0;
  double clock_mhz = 0;     // of the multiprocessors, right behind a replay
  double weight_bytes = 0;  // of the distinct experts and the shared one, per call
  double distinct = 0;
  Floor floor;
  std::optional<Held> held;
  int calls = 0, copies = 0;
  double reuse_bytes = 0;

  double ratio() const { return us / floor.us; }
  bool within() const;  // every limit that this point has
};

struct Machine {
  std::string gpu;
  std::string driver;
  int multiprocessors = 0;
  double clock_mhz = 0;  // the highest
  double empty_us = 0;   // an empty kernel in the same kind of graph
};
Machine this_machine();

void print_head(const Machine& machine);
void print_row(const Result& result);
void write_json(const std::string& path, const Machine& machine,
                const std::vector<Result>& results);

}  // namespace moeopt::bench
