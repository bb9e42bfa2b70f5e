// The JSONL format, reading side: this program's logs, and other engines' with fields missing and
// rows in another order.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "routing/log_input.h"
#include "routing/log_reader.h"
#include "routing/route_line.h"

namespace moeopt {

class JsonlReader final : public RoutingLogReader {
 public:
  // Reads a foreign file through once when its header lacks layers, experts or top_k.
  explicit JsonlReader(LogInput input);
  bool next(RequestRoutes& routes) override;

 private:
  enum class Kind { kEnd, kRoute, kRequest, kOther };

  void read_header();
  void infer_header();
  // The next line; a route is in line_, another record in json_.
  Kind read_line();
  Kind read_other(std::string_view text, bool ended);
  void check_same_header(const Json& json) const;
  void start_request();  // from json_
  void add_route();      // line_ to group_
  void check_line();
  std::size_t row_of(bool fresh);  // of line_'s token in group_
  bool flush(RequestRoutes& routes);
  std::string where() const;

  LogInput input_;
  RouteLine line_;
  Json json_;
  std::vector<int> layer_index_;  // of a layer number among the logged ones; -1
  bool inferring_ = false;

  // The request being gathered.
  RequestRoutes group_;
  bool group_open_ = false;
  bool announced_ = false;  // as whole by a "request" line
  std::uint64_t announced_tokens_ = 0;
  std::size_t filled_cells_ = 0;
  std::size_t rows_ = 0;
  std::uint32_t last_token_ = 0;
  bool last_replayed_ = false;
  std::unordered_map<std::uint64_t, std::size_t> row_of_token_;
  bool pending_route_ = false;  // line_ belongs to the next group
  bool pending_request_ = false;
};

}  // namespace moeopt
