// Calls::verify: what keeps the benchmark from timing a layer that does not do its work. The tests
// judge the numerics; the bounds here only have to tell a right result from a wrong one.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>

#include "moe_layer/layer.h"

namespace moeopt::bench {
namespace {

constexpr int kWarp = 32;
constexpr float kWeightError = 1e-3f;
// Of the difference from a float32 sum over unquantised weights. e4m3 rounds a weight or an
// activation by 2.6 % on average, and three roundings meet in a row.
constexpr double kBf16Error = 1e-2;
constexpr double kFp8Error = 8e-2;

__device__ float warp_dot(const __nv_bfloat16* row, const auto* x, int n) {
  float sum = 0;
  for (int i = threadIdx.x % kWarp; i < n; i += kWarp) {
    sum += __bfloat162float(row[i]) * static_cast<float>(x[i]);
  }
  for (int lane = kWarp / 2; lane > 0; lane /= 2) sum += __shfl_xor_sync(~0u, sum, lane);
  return sum;
}

__global__ void swiglu_kernel(const __nv_bfloat16* gate, const __nv_bfloat16* up,
                              const __nv_bfloat16* x, float* h, int hidden) {
  const std::size_t row = blockIdx.x;
  const float g = warp_dot(gate + row * hidden, x, hidden);
  const float u = warp_dot(up + row * hidden, x, hidden);
  if (threadIdx.x == 0) h[row] = g / (1.0f + expf(-g)) * u;
}

// y += weight [* sigmoid(s x)] * down h; `s` may be null.
__global__ void down_kernel(const __nv_bfloat16* down, const float* h, float* y, float weight,
                            const __nv_bfloat16* s, const __nv_bfloat16* x, int intermediate,
                            int hidden) {
  const std::size_t row = blockIdx.x;
  const float sum = warp_dot(down + row * intermediate, h, intermediate);
  const float gate = s ? 1.0f / (1.0f + expf(-warp_dot(s, x, hidden))) : 1.0f;
  if (threadIdx.x == 0) y[row] += weight * gate * sum;
}

std::vector<float> to_host(const __nv_bfloat16* device, std::size_t count) {
  std::vector<__nv_bfloat16> raw(count);
  check(cudaMemcpy(raw.data(), device, count * sizeof raw[0], cudaMemcpyDeviceToHost));
  std::vector<float> values;
  for (const __nv_bfloat16 value : raw) values.push_back(__bfloat162float(value));
  return values;
}

template <typename T>
std::vector<T> to_host(const DeviceArray<T>& device, std::size_t count) {
  std::vector<T> values(count);
  check(cudaMemcpy(values.data(), device.get(), count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error("wrong result: " + what);
}

}  // namespace

void Calls::verify(std::uint64_t timed_calls) {
  const std::size_t rows = std::size_t{1} * tokens_ * shape_.top_k;
  const std::size_t out_count = std::size_t{1} * count() * tokens_ * shape_.hidden;
  const auto ids = device_array<int>(rows);
  const auto weights = device_array<float>(rows);
  const auto counts = device_array<int>(shape_.experts);
  check(cudaMemset(out_.get(), 0xff, out_count * sizeof(__nv_bfloat16)));  // NaN
  for (int call = 0; call < count(); ++call) {
    check(cudaMemset(ids.get(), 0xff, rows * sizeof(int)));
    check(cudaMemset(weights.get(), 0xff, rows * sizeof(float)));
    std::vector<int> all_counts(shape_.experts, 0);
    for (const Piece& piece : pieces_) {
      check(cudaMemset(counts.get(), 0xff, shape_.experts * sizeof(int)));
      moeopt_moe_args own = args(call, piece);
      own.out_ids = ids.get() + std::size_t{1} * piece.first * shape_.top_k;
      own.out_weights = weights.get() + std::size_t{1} * piece.first * shape_.top_k;
      own.out_counts = counts.get();
      check(moeopt_moe_forward(layer_.get(), &own, nullptr));
      check(cudaDeviceSynchronize());
      const std::vector<int> piece_counts = to_host(counts, shape_.experts);
      std::transform(piece_counts.begin(), piece_counts.end(), all_counts.begin(),
                     all_counts.begin(), std::plus<>());
    }
    check_recorded(call, to_host(ids, rows).data(), to_host(weights, rows).data(),
                   all_counts.data());
  }
  const std::vector<float> out = to_host(out_.get(), out_count);
  for (std::size_t row = 0; row < out_count; row += shape_.hidden) {
    double norm = 0;
    for (int i = 0; i < shape_.hidden; ++i) norm += std::abs(double{out[row + i]});
    require(std::isfinite(norm) && norm > 0, "a row is empty or not finite");
  }
  if (tokens_ > 0) {
    check_row(0, 0);
    check_row(count() - 1, tokens_ - 1);
  }
  check_counters(timed_calls + count());
}

void Calls::verify_stream(std::uint64_t replays) const {
  unsigned long long expected = 0;
  for (int call = 0; call < count(); ++call) expected += stream_bytes(stream_job(call));
  require(to_host(bytes_read_, 1)[0] == replays * expected, "the stream did not read every byte");
}

void Calls::check_recorded(int call, const int* ids, const float* weights,
                           const int* counts) const {
  std::vector<int> expected(shape_.experts, 0);
  for (int t = 0; t < tokens_; ++t) {
    const PlannedToken& planned = planned_[call][t];
    std::map<int, float> chosen;
    for (int s = 0; s < shape_.top_k; ++s) {
      chosen[planned.ids[s]] = planned.weights[s];
      ++expected[planned.ids[s]];
    }
    for (int s = 0; s < shape_.top_k; ++s) {
      const auto found = chosen.find(ids[t * shape_.top_k + s]);
      require(found != chosen.end(), "the router chose an expert that was not planted");
      const float off = std::abs(weights[t * shape_.top_k + s] - found->second);
      require(off <= kWeightError * found->second, "a router weight");
      chosen.erase(found);
    }
  }
  require(std::equal(expected.begin(), expected.end(), counts), "rows per expert");
}

void Calls::check_row(int call, int token) const {
  const int H = shape_.hidden;
  const std::size_t offset = (std::size_t{1} * call * tokens_ + token) * H;
  const __nv_bfloat16* x = x_.get() + offset;
  const auto y = device_array<float>(H);
  check(cudaMemset(y.get(), 0, H * sizeof(float)));
  const auto add = [&](int expert, int intermediate, float weight, const __nv_bfloat16* s) {
    SourceExpert source(H, intermediate);
    source.fill(expert, nullptr);
    const auto h = device_array<float>(intermediate);
    swiglu_kernel<<<intermediate, kWarp>>>(source.gate.get(), source.up.get(), x, h.get(), H);
    down_kernel<<<H, kWarp>>>(source.down.get(), h.get(), y.get(), weight, s, x, intermediate, H);
    check(cudaGetLastError());
    check(cudaDeviceSynchronize());
  };
  const PlannedToken& planned = planned_[call][token];
  for (int s = 0; s < shape_.top_k; ++s) {
    add(planned.ids[s], shape_.intermediate, planned.weights[s], nullptr);
  }
  if (shape_.shared_intermediate > 0) {
    add(-1, shape_.shared_intermediate, 1.0f, weights_.shared_gate());
  }
  const std::vector<float> expected = to_host(y, H), out = to_host(out_.get() + offset, H);
  double off = 0, norm = 0;
  for (int i = 0; i < H; ++i) {
    off += std::pow(double{out[i]} - expected[i], 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  const double error = std::sqrt(off / norm);
  require(error <= (dtype_ == DType::kBf16 ? kBf16Error : kFp8Error),
          "a row is off by " + std::to_string(error));
}

void Calls::check_counters(std::uint64_t calls) const {
  moeopt_moe_counters counters{};
  check(cudaMemcpy(&counters, workspace_.get(), sizeof counters, cudaMemcpyDeviceToHost));
  const auto is = [](const char* name, std::uint64_t value, std::uint64_t expected) {
    require(value == expected, std::string("the counter ") + name + " says " +
                                   std::to_string(value) + " of " + std::to_string(expected));
  };
  is("launches", counters.launches, calls * pieces_.size());
  is("tokens", counters.tokens, calls * tokens_);
  is("rows", counters.rows, calls * tokens_ * shape_.top_k);
  is("nan_tokens", counters.nan_tokens, 0);
  is("errors", counters.errors, 0);
}

}  // namespace moeopt::bench
