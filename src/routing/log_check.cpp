#include "routing/log_check.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <set>

#include "base/error.h"
#include "routing/log_format.h"

namespace moeopt {
namespace {

class Checker {
 public:
  explicit Checker(const RoutingHeader& header)
      : header_(header),
        same_(header.layers.size(), 0),
        last_(header.layers.size()),
        cells_(header.layers.size(), 0) {}

  void add(const RequestRoutes& routes) {
    const auto top_k = static_cast<std::size_t>(header_.top_k);
    for (std::size_t first = 0, cell = 0; first < routes.ids.size(); first += top_k, ++cell) {
      const std::size_t layer = cell % header_.layers.size();
      const auto ids = std::span(routes.ids).subspan(first, top_k);
      if (ids.front() == kNoExpert) continue;
      cells_[layer] += 1;
      const std::vector<std::uint16_t> now(ids.begin(), ids.end());
      if (now == last_[layer]) same_[layer] += 1;
      last_[layer] = now;
      if (has_twice(ids)) ++twice_;
    }
  }

  void report(std::vector<std::string>& complaints) const {
    if (twice_ > 0) complaints.push_back(fmt::format("{} records name an expert twice", twice_));
    for (std::size_t layer = 0; layer < cells_.size(); ++layer) {
      if (cells_[layer] < 100) continue;
      if (same_[layer] + 1 == cells_[layer]) {
        complaints.push_back(fmt::format("layer {}: all {} records are the same",
                                         header_.layers[layer], cells_[layer]));
      } else if (same_[layer] * 2 > cells_[layer]) {
        complaints.push_back(fmt::format(
            "layer {}: {} of {} records repeat the one before: warm-up rows, or no real routing",
            header_.layers[layer], same_[layer], cells_[layer]));
      }
    }
  }

 private:
  static bool has_twice(std::span<const std::uint16_t> ids) {
    for (std::size_t i = 1; i < ids.size() && ids[i] != kNoExpert; ++i) {
      if (std::ranges::find(ids.first(i), ids[i]) != ids.begin() + static_cast<std::ptrdiff_t>(i))
        return true;
    }
    return false;
  }

  const RoutingHeader& header_;
  std::vector<std::uint64_t> same_;
  std::vector<std::vector<std::uint16_t>> last_;
  std::vector<std::uint64_t> cells_;
  std::uint64_t twice_ = 0;
};

}  // namespace

LogCheck check_log(const std::filesystem::path& file) {
  LogCheck check;
  const auto reader = open_routing_log(file);
  Checker checker(reader->header());
  RequestRoutes routes;
  while (reader->next(routes)) {
    check.requests += 1;
    check.tokens += routes.tokens();
    check.incomplete_requests += routes.complete ? 0 : 1;
    checker.add(routes);
  }
  check.records = reader->records();
  check.truncated = reader->truncated();
  checker.report(check.complaints);
  const auto& stated = reader->stated();
  if (stated && reader->header().part == 0 && !check.truncated && check.tokens != stated->tokens) {
    check.complaints.push_back(
        fmt::format("the log says {} tokens, it has {}", stated->tokens, check.tokens));
  }
  return check;
}

ConvertedLog convert_log(const std::filesystem::path& from, const std::filesystem::path& to,
                         bool to_binary) {
  std::error_code failed;
  if (std::filesystem::equivalent(from, to, failed)) {
    throw_error(ErrorCode::kUsage, "{}: a log cannot be converted onto itself", from.string());
  }
  const auto reader = open_routing_log(from);
  const auto encoder = make_log_encoder(to_binary ? LogFormat::kBinary : LogFormat::kJsonl);
  std::ofstream out(to, std::ios::binary | std::ios::trunc);
  const auto write = [&](const std::string& bytes) {
    if (!out.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).good()) {
      throw_error(ErrorCode::kIo, "{}: cannot be written", to.string());
    }
  };
  write(encoder->header(reader->header()));
  RequestRoutes routes;
  RoutingTotals totals;
  while (reader->next(routes)) {
    write(encoder->request(reader->header(), routes));
    totals.requests += 1;
    totals.tokens += routes.tokens();
    totals.replayed_tokens += routes.replayed_tokens();
    totals.cached_tokens += routes.cached_tokens;
  }
  if (const auto& stated = reader->stated()) {
    totals.dropped_requests = stated->dropped_requests;
    totals.dropped_tokens = stated->dropped_tokens;
    totals.unsampled_requests = stated->unsampled_requests;
  }
  write(encoder->totals(totals));
  out.close();
  if (!out.good()) throw_error(ErrorCode::kIo, "{}: cannot be written", to.string());
  return {reader->records(), reader->truncated()};
}

}  // namespace moeopt
