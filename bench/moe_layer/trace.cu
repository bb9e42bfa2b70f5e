#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <stdexcept>
#include <vector>

#include "cuda/moe/trace.cuh"
#include "moe_layer/trace.h"

#if defined(MOEOPT_MOE_TRACE)
extern "C" cudaError_t moeopt_moe_set_trace(void* buffer);
#endif

namespace moeopt::bench {

#if !defined(MOEOPT_MOE_TRACE)
bool can_trace() {
  return false;
}
void trace_call(Calls& /*calls*/, Neighbour /*neighbour*/, const std::string& /*path*/) {
  throw std::runtime_error("this program's kernels hold no stamps; build moe_layer_trace");
}
#else

namespace {

using cuda::moe::kTraceRecords;
using cuda::moe::TracePhase;
using cuda::moe::TraceRecord;
using cuda::moe::TraceRole;

constexpr int kRoles = static_cast<int>(TraceRole::kCount);
constexpr std::array<const char*, kRoles> kRoleNames = {"producer", "loader", "warpgroup 0",
                                                        "warpgroup 1"};
constexpr std::array<const char*, 16> kKindNames = {
    "quantise", "gate", "dispatch", "route", "first", "second", "combine", "end",
    "?",        "?",    "?",        "?",     "?",     "?",      "?",       "launch"};
constexpr std::array<const char*, 7> kPhaseNames = {"start",    "waited", "task", "done",
                                                    "finished", "end",    "wall"};

const char* kind_of(const TraceRecord& record) {
  return kKindNames[record.task >> 28];
}

// Clocks of one multiprocessor to µs since the earliest block began.
struct Clock {
  double first_clock = 0, first_us = 0, us_per_clock = 1 / 1980.0;
  double us(std::uint64_t clock) const {
    return first_us + (static_cast<double>(clock) - first_clock) * us_per_clock;
  }
};

Clock clock_of(const TraceRecord* producer, std::uint64_t epoch_ns) {
  std::vector<std::pair<double, double> > moments;  // clock, us
  for (int i = 0; i + 1 < kTraceRecords; ++i) {
    if (producer[i].phase != static_cast<std::uint32_t>(TracePhase::kWall)) continue;
    moments.emplace_back(static_cast<double>(producer[i + 1].clock),
                         static_cast<double>(producer[i].clock - epoch_ns) / 1000);
    ++i;
  }
  Clock clock;
  if (moments.empty()) return clock;
  clock.first_clock = moments[0].first;
  clock.first_us = moments[0].second;
  if (moments.size() > 1 && moments[1].second > moments[0].second) {
    clock.us_per_clock =
        (moments[1].second - moments[0].second) / (moments[1].first - moments[0].first);
  }
  return clock;
}

struct Stamped {
  int block, role;
  double us;
  TraceRecord record;
};

std::vector<Stamped> in_us(const std::vector<TraceRecord>& records, int blocks) {
  const auto lane = [&](int block, int role) {
    return records.data() + (std::size_t{1} * block * kRoles + role) * kTraceRecords;
  };
  std::uint64_t epoch_ns = ~std::uint64_t{0};
  for (int b = 0; b < blocks; ++b) {
    if (lane(b, 0)->clock != 0) epoch_ns = std::min(epoch_ns, lane(b, 0)->clock);
  }
  std::vector<Stamped> stamped;
  for (int b = 0; b < blocks; ++b) {
    const Clock clock = clock_of(lane(b, 0), epoch_ns);
    for (int role = 0; role < kRoles; ++role) {
      for (int i = 0; i < kTraceRecords && lane(b, role)[i].clock != 0; ++i) {
        const TraceRecord& record = lane(b, role)[i];
        if (record.phase == static_cast<std::uint32_t>(TracePhase::kWall)) continue;
        stamped.push_back({b, role, clock.us(record.clock), record});
      }
    }
  }
  return stamped;
}

void write_perfetto(const std::string& path, const std::vector<Stamped>& stamped) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "w"),
                                                             std::fclose);
  if (!file) throw std::runtime_error("cannot write " + path);
  std::fprintf(file.get(), "{\"displayTimeUnit\": \"ns\", \"traceEvents\": [");
  const char* separator = "\n";
  for (std::size_t i = 0; i < stamped.size(); ++i) {
    const Stamped& s = stamped[i];
    if (i == 0 || stamped[i - 1].block != s.block || stamped[i - 1].role != s.role) {
      std::fprintf(file.get(),
                   "%s{\"ph\": \"M\", \"name\": \"thread_name\", \"pid\": %d, \"tid\": %d, "
                   "\"args\": {\"name\": \"%s\"}}",
                   separator, s.block, s.role, kRoleNames[static_cast<std::size_t>(s.role)]);
      separator = ",\n";
    }
    // A slice lasts from its stamp to the next one of the same role.
    const bool last =
        i + 1 == stamped.size() || stamped[i + 1].block != s.block || stamped[i + 1].role != s.role;
    const double end = last ? s.us : stamped[i + 1].us;
    std::fprintf(file.get(),
                 ",\n{\"ph\": \"X\", \"name\": \"after %s: %s\", \"pid\": %d, \"tid\": %d, "
                 "\"ts\": %.3f, \"dur\": %.3f, \"args\": {\"expert\": %u, \"unit\": %u}}",
                 kPhaseNames[s.record.phase], kind_of(s.record), s.block, s.role, s.us, end - s.us,
                 s.record.task >> 16 & 0xfff, s.record.task & 0xffff);
  }
  std::fprintf(file.get(), "\n]}\n");
}

void print_summary(const std::vector<Stamped>& stamped) {
  std::map<std::string, std::vector<double> > times;
  for (const Stamped& s : stamped) {
    times[std::string(kRoleNames[static_cast<std::size_t>(s.role)]) + " " + kind_of(s.record) +
          " " + kPhaseNames[s.record.phase]]
        .push_back(s.us);
  }
  std::printf("  %-34s %6s %8s %8s %8s us\n", "stamp", "count", "first", "median", "last");
  for (auto& [name, us] : times) {
    std::sort(us.begin(), us.end());
    std::printf("  %-34s %6zu %8.2f %8.2f %8.2f\n", name.c_str(), us.size(), us.front(),
                us[us.size() / 2], us.back());
  }
  // How long a role spends between two neighbouring stamps of a task, over all blocks.
  std::map<std::string, std::pair<double, int> > spans;
  for (std::size_t i = 0; i + 1 < stamped.size(); ++i) {
    const Stamped& a = stamped[i];
    const Stamped& b = stamped[i + 1];
    if (a.block != b.block || a.role != b.role) continue;
    auto& span =
        spans[std::string(kRoleNames[static_cast<std::size_t>(a.role)]) + " " + kind_of(a.record) +
              " " + kPhaseNames[a.record.phase] + " > " + kPhaseNames[b.record.phase]];
    span.first += b.us - a.us;
    ++span.second;
  }
  std::printf("  %-44s %6s %9s us each\n", "span", "count", "mean");
  for (const auto& [name, span] : spans) {
    std::printf("  %-44s %6d %9.2f\n", name.c_str(), span.second, span.first / span.second);
  }
}

}  // namespace

bool can_trace() {
  return true;
}

void trace_call(Calls& calls, Neighbour neighbour, const std::string& path) {
  int blocks = 0;
  check(cudaDeviceGetAttribute(&blocks, cudaDevAttrMultiProcessorCount, 0));
  const std::size_t count = std::size_t{1} * blocks * kRoles * kTraceRecords;
  const auto buffer = device_array<TraceRecord>(count);
  check(moeopt_moe_set_trace(nullptr));
  for (int call = 0; call < calls.count(); ++call) calls.forward(call, nullptr);
  check(cudaDeviceSynchronize());
  check(cudaMemset(buffer.get(), 0, count * sizeof(TraceRecord)));
  check(moeopt_moe_set_trace(buffer.get()));
  // The neighbours before it are part of the picture: clocks are up, the cache is theirs.
  calls.forward(calls.count() - 1, nullptr);
  check(cudaMemsetAsync(buffer.get(), 0, count * sizeof(TraceRecord), nullptr));
  launch_neighbour(neighbour, nullptr);
  calls.forward(0, nullptr);
  check(cudaDeviceSynchronize());
  check(moeopt_moe_set_trace(nullptr));
  std::vector<TraceRecord> records(count);
  check(cudaMemcpy(records.data(), buffer.get(), count * sizeof(TraceRecord),
                   cudaMemcpyDeviceToHost));
  const std::vector<Stamped> stamped = in_us(records, blocks);
  print_summary(stamped);
  write_perfetto(path, stamped);
}
#endif

}  // namespace moeopt::bench
