#include "routing/recorder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/dtype.h"

namespace moeopt {
namespace {

// Finalizer of splitmix64 (Steele, Lea, Flood 2014): all bits of the result depend on all of x.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

RoutingRecorder::RoutingRecorder(LogWriterOptions writer, RoutingHeader header,
                                 std::vector<int> moe_layers, RecorderOptions options)
    : header_(std::move(header)),
      options_(std::move(options)),
      writer_(std::move(writer), header_) {
  for (const int layer : header_.layers) {
    const auto at = std::ranges::find(moe_layers, layer);
    MOEOPT_CHECK(at != moe_layers.end());
    logged_.push_back(static_cast<std::size_t>(at - moe_layers.begin()));
  }
}

bool RoutingRecorder::is_sampled(const Key& key) const {
  if (options_.sampled >= 1) return true;
  const double draw =
      std::ldexp(static_cast<double>(mix(options_.seed ^ mix(key.first)) >> 11), -53);
  return draw < options_.sampled;
}

RoutingRecorder::Open& RoutingRecorder::open(const RouteRun& run) {
  const Key key{run.request, run.choice};
  const auto [at, is_new] = open_.try_emplace(key);
  Open& open = at->second;
  if (!is_new) return open;
  open.sampled = is_sampled(key);
  if (!open.sampled) return open;
  open.routes.prompt_tokens = static_cast<std::uint32_t>(run.n_prompt);
  ++n_named_;
  std::string& id = open.routes.id;
  if (options_.request_id.empty()) {
    id = fmt::format("r{}", n_named_);
  } else {
    id = options_.request_id.substr(0, kMaxRequestIdBytes - 24);
    if (n_named_ > 1) id += fmt::format("-{}", n_named_);
  }
  return open;
}

void RoutingRecorder::on_routes(std::span<const RouteRun> runs, const RouteStep& step) {
  weights_.resize(step.weights.size());
  std::ranges::transform(step.weights, weights_.begin(), [](float w) { return to_f16(w).bits; });
  for (const RouteRun& run : runs) {
    Open& open = this->open(run);
    open.tokens += static_cast<std::uint64_t>(run.n_tokens);
    if (open.sampled && !open.dropped) add(open, run, step);
  }
}

void RoutingRecorder::append_span(RequestRoutes& routes, std::uint32_t position, RoutePhase phase,
                                  bool replayed) {
  if (!routes.spans.empty()) {
    RouteSpan& last = routes.spans.back();
    if (last.first_token + last.n_tokens == position && last.phase == phase &&
        last.replayed == replayed) {
      last.n_tokens += 1;
      return;
    }
  }
  routes.spans.push_back({position, 1, phase, replayed});
}

void RoutingRecorder::add(Open& open, const RouteRun& run, const RouteStep& step) {
  MOEOPT_CHECK(step.top_k == header_.top_k);
  RequestRoutes& routes = open.routes;
  const auto first = static_cast<std::uint32_t>(run.first_position);
  if (first > open.next_position) {  // at admission, or again after a preemption
    routes.cached_tokens += first - open.next_position;
    open.next_position = first;
  }
  for (int t = 0; t < run.n_tokens; ++t) {
    const auto position = static_cast<std::uint32_t>(run.first_position + t);
    const bool replayed = position < open.next_position;
    const RoutePhase phase =
        run.first_position + t < run.n_prompt ? RoutePhase::kPrefill : RoutePhase::kDecode;
    append_span(routes, position, phase, replayed);
    open.next_position = std::max(open.next_position, position + 1);
  }
  if (!copy_rows(routes, run, step)) {  // the model broke here, its request ends in an error
    drop(open);
    return;
  }
  const std::size_t bytes = routes.bytes();
  open_bytes_ += bytes - open.bytes;
  open.bytes = bytes;
  if (open_bytes_ > options_.open_bytes) drop(open);
}

bool RoutingRecorder::copy_rows(RequestRoutes& routes, const RouteRun& run,
                                const RouteStep& step) const {
  static_assert(static_cast<std::uint16_t>(std::int16_t{-1}) == kNoExpert);
  const auto top_k = static_cast<std::size_t>(step.top_k);
  const auto n_tokens = static_cast<std::size_t>(run.n_tokens);
  const std::size_t before = routes.ids.size();
  const std::size_t after = before + n_tokens * logged_.size() * top_k;
  routes.ids.resize(after);
  routes.weights.resize(after);
  std::uint16_t* ids = routes.ids.data() + before;
  std::uint16_t* weights = routes.weights.data() + before;
  for (std::size_t t = 0; t < n_tokens; ++t) {
    const std::size_t row = static_cast<std::size_t>(run.first_row) + t;
    for (const std::size_t layer : logged_) {
      const std::size_t from = (layer * static_cast<std::size_t>(step.n_tokens) + row) * top_k;
      std::memcpy(ids, &step.ids[from], top_k * sizeof(*ids));
      std::memcpy(weights, &weights_[from], top_k * sizeof(*weights));
      ids += top_k;
      weights += top_k;
    }
  }
  unsigned broken = 0;
  for (std::size_t i = before; i < after; ++i) {
    broken |= static_cast<unsigned>((routes.weights[i] & 0x7c00u) == 0x7c00u);
  }
  return broken == 0;
}

void RoutingRecorder::drop(Open& open) {
  open.dropped = true;
  open_bytes_ -= open.bytes;
  open.bytes = 0;
  open.routes = {};
}

void RoutingRecorder::finish(Open& open) {
  open_bytes_ -= open.bytes;
  if (!open.sampled) {
    writer_.count_unsampled();
  } else if (open.dropped) {
    writer_.count_dropped(open.tokens);
  } else {
    writer_.submit(std::move(open.routes));
  }
}

void RoutingRecorder::on_finished(std::uint64_t request, int choice) {
  const auto at = open_.find({request, choice});
  if (at == open_.end()) return;  // ended before its first step
  finish(at->second);
  open_.erase(at);
}

void RoutingRecorder::close() {
  for (auto& [key, open] : open_) {
    open.routes.complete = false;
    finish(open);
  }
  open_.clear();
  writer_.close();
}

}  // namespace moeopt
