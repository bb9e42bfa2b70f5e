#include <cuda_runtime.h>

#include <ctime>
#include <memory>
#include <stdexcept>

#include "moe_layer/report.h"
#include "moe_layer/stream.cuh"
#include "moe_layer/timing.h"
#include "moeopt.h"

namespace moeopt::bench {
namespace {

constexpr int kEmptyCalls = 64;
constexpr int kEmptyReps = 50;

double tb_s(const Result& r) {
  return r.weight_bytes / r.us * 1e-6;
}
double tflop_s(const Result& r) {
  return layer_flops(r.shape, r.tokens) / r.us * 1e-6;
}

std::string or_dash(const std::optional<double>& value, const char* format) {
  if (!value) return "-";
  char text[32];
  std::snprintf(text, sizeof text, format, *value);
  return text;
}

std::optional<double> limit_of(const Result& r) {
  return r.floor.limit > 0 ? std::optional(r.floor.limit) : std::nullopt;
}

std::string or_null(const std::optional<double>& value) {
  return value ? or_dash(value, "%.6g") : "null";
}

}  // namespace

bool Result::within() const {
  return (floor.limit == 0 || ratio() <= floor.limit) && (!held || us <= held->limit * held->us);
}

Machine this_machine() {
  Machine machine;
  int device = 0, khz = 0, driver = 0;
  cudaDeviceProp properties{};
  check(cudaGetDevice(&device));
  check(cudaGetDeviceProperties(&properties, device));
  check(cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, device));
  check(cudaDriverGetVersion(&driver));
  machine.gpu = properties.name;
  machine.driver = std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10);
  machine.multiprocessors = multiprocessor_count();
  machine.clock_mhz = khz * 1e-3;
  machine.empty_us =
      Graph(kEmptyCalls, [](int, cudaStream_t s) { launch_empty(s); }).median_us(kEmptyReps);
  return machine;
}

void print_head(const Machine& machine) {
  std::printf(
      "moeopt %s on %s (%d multiprocessors, at most %.0f MHz, driver for CUDA %s); an empty "
      "kernel %.2f us\n",
      moeopt_version(), machine.gpu.c_str(), machine.multiprocessors, machine.clock_mhz,
      machine.driver.c_str(), machine.empty_us);
  std::printf("%-9s %-5s %-16s %6s %9s | %8s %6s %8s %9s %6s %6s | %7s %6s %5s %8s | %s\n", "shape",
              "dtype", "routing", "T", "us", "MB", "TB/s", "TFLOP/s", "stream us", "ratio", "limit",
              "target", "beside", "MHz", "MB work", "ok");
}

void print_row(const Result& r) {
  const std::string routing = r.routing + (r.given_ids ? ", ids" : "");
  const std::optional<double> beside = r.held ? std::optional(r.us / r.held->us) : std::nullopt;
  const bool judged = limit_of(r) || r.held;
  std::printf(
      "%-9s %-5s %-16s %6d %9.2f | %8.1f %6.2f %8.1f %9.2f %6.3f %6s | %7s %6s %5.0f %8.1f | %-3s "
      "%s\n",
      r.shape.name.c_str(), name_of(r.dtype), routing.c_str(), r.tokens, r.us,
      r.weight_bytes * 1e-6, tb_s(r), tflop_s(r), r.stream_us, r.ratio(),
      or_dash(limit_of(r), "%.2f").c_str(),
      or_dash(r.routing == "uniform" ? target_us(r.shape, r.dtype, r.tokens) : std::nullopt, "%.0f")
          .c_str(),
      or_dash(beside, "%.3f").c_str(), r.clock_mhz, r.workspace_bytes * 1e-6,
      judged ? (r.within() ? "yes" : "NO") : "-", r.config.c_str());
  std::fflush(stdout);
}

void write_json(const std::string& path, const Machine& machine,
                const std::vector<Result>& results) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "w"),
                                                             std::fclose);
  if (!file) throw std::runtime_error("cannot write " + path);
  std::FILE* out = file.get();
  char date[16];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%F", std::gmtime(&now));
  std::fprintf(out,
               "{\"moeopt\": \"%s\", \"date\": \"%s\", \"gpu\": \"%s\", \"multiprocessors\": %d, "
               "\"max_clock_mhz\": "
               "%.0f, \"driver_cuda\": \"%s\", \"empty_us\": %.3f, \"results\": [",
               moeopt_version(), date, machine.gpu.c_str(), machine.multiprocessors,
               machine.clock_mhz, machine.driver.c_str(), machine.empty_us);
  const char* separator = "\n";
  for (const Result& r : results) {
    std::optional<double> held_us, held_limit;
    if (r.held) held_us = r.held->us, held_limit = r.held->limit;
    std::fprintf(
        out,
        "%s {\"shape\": \"%s\", \"hidden\": %d, \"intermediate\": %d, \"experts\": %d, "
        "\"top_k\": %d, \"shared_intermediate\": %d, \"dtype\": \"%s\", \"routing\": \"%s\", "
        "\"given_ids\": %s, \"tokens\": %d, \"max_tokens\": %d, \"config\": \"%s\", ",
        separator, r.shape.name.c_str(), r.shape.hidden, r.shape.intermediate, r.shape.experts,
        r.shape.top_k, r.shape.shared_intermediate, name_of(r.dtype), r.routing.c_str(),
        r.given_ids ? "true" : "false", r.tokens, r.max_tokens, r.config.c_str());
    std::fprintf(out,
                 "\"workspace_bytes\": %.0f, \"us\": %.3f, \"stream_us\": %.3f, \"clock_mhz\": "
                 "%.0f, \"weight_bytes\": %.0f, "
                 "\"distinct_experts\": "
                 "%.2f, \"tb_s\": %.4f, \"tflop_s\": %.3f, \"ratio\": %.4f, \"limit\": %s, "
                 "\"target_us\": %s, \"held_us\": %s, \"held_limit\": %s, \"within\": %s, "
                 "\"calls\": %d, \"copies\": %d, "
                 "\"reuse_bytes\": %.0f}",
                 r.workspace_bytes, r.us, r.stream_us, r.clock_mhz, r.weight_bytes, r.distinct,
                 tb_s(r), tflop_s(r), r.ratio(), or_null(limit_of(r)).c_str(),
                 or_null(target_us(r.shape, r.dtype, r.tokens)).c_str(), or_null(held_us).c_str(),
                 or_null(held_limit).c_str(), r.within() ? "true" : "false", r.calls, r.copies,
                 r.reuse_bytes);
    separator = ",\n";
  }
  std::fprintf(out, "\n]}\n");
}

}  // namespace moeopt::bench
