#include <cstdio>
#include <set>
#include <stdexcept>
#include <vector>

#include "moe_layer/probe.h"
#include "moe_layer/random_fill.cuh"
#include "moe_layer/stream.cuh"
#include "moe_layer/timing.h"

namespace moeopt::bench {
namespace {

constexpr std::uint64_t kPieceBytes = 9437184;  // one expert of Qwen3-30B in bf16
constexpr int kPieces = 128;                    // together 1.2 GB: 20 times the cache

struct Probe {
  DeviceArray<unsigned char> memory = device_array<unsigned char>(kPieces * kPieceBytes);
  DeviceArray<unsigned long long> counters = device_array<unsigned long long>(3);
  DeviceArray<int> sms = device_array<int>(1024);
  DeviceArray<int> tickets = device_array<int>(64);
  int reps = 0;

  unsigned long long counter(int which) const {
    unsigned long long value = 0;
    check(cudaMemcpy(&value, counters.get() + which, sizeof value, cudaMemcpyDeviceToHost));
    return value;
  }

  StreamJob job(int first, int count) const {
    StreamJob job;
    job.experts = memory.get();
    job.expert_stride = job.expert_bytes = kPieceBytes;
    job.count = count;
    for (int i = 0; i < count; ++i) {
      job.slots[i] = static_cast<std::uint16_t>((first + i) % kPieces);
    }
    job.bytes_read = counters.get();
    return job;
  }

  // One line: `pieces` pieces a launch, as `shape` says.
  void line(int pieces, StreamShape shape, int per_multiprocessor) {
    const int calls = kPieces / pieces;
    shape.sm_of_block = sms.get();
    Graph graph(calls, [&](int call, cudaStream_t stream) {
      StreamShape own = shape;
      own.tickets = tickets.get() + call;
      launch_stream(job(call * pieces, pieces), own, stream);
    });
    check(cudaMemset(counters.get(), 0, sizeof(unsigned long long)));
    check(cudaDeviceSynchronize());  // the graph's stream does not wait for the default one
    const double us = graph.median_us(reps, [&](cudaStream_t stream) {
      check(cudaMemsetAsync(tickets.get(), 0, 64 * sizeof(int), stream));
    });
    const unsigned long long expected = (reps + 2ull) * calls * pieces * kPieceBytes;
    if (counter(0) != expected) {
      throw std::runtime_error("the stream read " + std::to_string(counter(0)) + " bytes of " +
                               std::to_string(expected));
    }
    std::vector<int> where(shape.blocks);
    check(cudaMemcpy(where.data(), sms.get(), shape.blocks * sizeof(int), cudaMemcpyDeviceToHost));
    const std::size_t used = std::set<int>(where.begin(), where.end()).size();
    const double tb_s = static_cast<double>(pieces) * kPieceBytes / us * 1e-6;
    std::printf("%8.1f %7d %5zu %7d %6d %-10s %-11s %8.2f %6.2f %10.1f\n",
                pieces * kPieceBytes * 1e-6, shape.blocks, used, per_multiprocessor,
                shape.ring_slots * kStreamChunkBytes / 1024,
                shape.sm_limit > 0 ? "packed" : "spread", shape.contiguous ? "contiguous" : "turns",
                us, tb_s, tb_s * 1e3 / static_cast<double>(used));
    std::fflush(stdout);
  }
};

}  // namespace

void run_probe(int reps) {
  Probe probe;
  probe.reps = reps;
  launch_random_bytes(probe.memory.get(), kPieces * kPieceBytes, 1, nullptr);
  check(cudaDeviceSynchronize());

  for (const bool contiguous : {false, true}) {  // what the stream reads is what is there
    check(cudaMemset(probe.counters.get(), 0, 3 * sizeof(unsigned long long)));
    StreamShape shape;
    shape.checksum = true;
    shape.contiguous = contiguous;
    shape.sum = probe.counters.get() + 1;
    StreamJob job = probe.job(3, 17);
    job.extra = job.experts;
    job.extra_bytes = kStreamChunkBytes * 5 + 48;
    launch_stream(job, shape, nullptr);
    launch_plain_sum(job, probe.counters.get() + 2, nullptr);
    check(cudaDeviceSynchronize());
    if (probe.counter(1) != probe.counter(2) || probe.counter(0) != stream_bytes(job)) {
      throw std::runtime_error("the stream did not read its experts");
    }
  }
  Graph empty(64, [](int, cudaStream_t stream) { launch_empty(stream); });
  std::printf("%d multiprocessors, cache %.0f MB, an empty kernel %.2f us\n",
              multiprocessor_count(), l2_bytes() * 1e-6, empty.median_us(reps));
  std::printf("%8s %7s %5s %7s %6s %-10s %-11s %8s %6s %10s\n", "MB", "blocks", "SMs", "per SM",
              "KB", "placed", "order", "us", "TB/s", "GB/s/SM");
  const int all = multiprocessor_count();
  for (const int pieces : {8, 25}) {
    for (const int multiprocessors : {all, 96, 64, 48, 32, 16, 8, 1}) {
      StreamShape one;
      one.blocks = multiprocessors;
      probe.line(pieces, one, 1);
      if (multiprocessors == all) {
        one.contiguous = true;
        probe.line(pieces, one, 1);
        one.contiguous = false;
      }
      for (const int slots : {6, 3}) {
        one.ring_slots = slots;
        if (multiprocessors != 1) probe.line(pieces, one, 1);
      }
      one.ring_slots = kStreamSlots;
      if (multiprocessors != all) {
        one.sm_limit = multiprocessors;
        probe.line(pieces, one, 1);
      }
      StreamShape two;
      two.blocks = 2 * multiprocessors;
      two.ring_slots = kStreamSlots / 2;
      two.sm_limit = multiprocessors;
      probe.line(pieces, two, 2);
    }
  }
}

}  // namespace moeopt::bench
