#include <algorithm>

#include "gpu/reference.h"
#include "gpu/reference_kernels.cuh"

namespace moeopt::gpu_test {
namespace {

void launched(const char* what) {
  check(cudaGetLastError(), what);
}

unsigned tiles_across(int n) {
  return static_cast<unsigned>((n + kTile - 1) / kTile);
}

// Tiles of pairs that are sorted by expert; count_of[e] of them for expert e.
std::vector<Tile> tiles_of(const std::vector<int>& count_of) {
  std::vector<Tile> tiles;
  int pair = 0;
  for (int expert = 0; expert < static_cast<int>(count_of.size()); ++expert) {
    const int end = pair + count_of[static_cast<std::size_t>(expert)];
    for (; pair < end; pair = std::min(pair + kTile, end)) {
      tiles.push_back({expert, pair, std::min(kTile, end - pair)});
    }
  }
  return tiles;
}

void multiply_tiles(Arena& arena, const Product& p, bool fp8, bool gated,
                    const std::vector<Tile>& tiles) {
  if (tiles.empty()) return;
  const Tile* const table = arena.upload(tiles);
  const dim3 grid(tiles_across(p.n), static_cast<unsigned>(tiles.size()));
  const cudaStream_t stream = arena.stream().get();
  if (fp8 && gated) {
    multiply<true, true><<<grid, kThreads, 0, stream>>>(p, table);
  } else if (fp8) {
    multiply<true, false><<<grid, kThreads, 0, stream>>>(p, table);
  } else if (gated) {
    multiply<false, true><<<grid, kThreads, 0, stream>>>(p, table);
  } else {
    multiply<false, false><<<grid, kThreads, 0, stream>>>(p, table);
  }
  launched("multiply");
}

std::size_t elements(int rows, int cols) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
}

double* widened(Arena& arena, const Bf16Bits* x, std::int64_t stride, int rows, int cols) {
  double* const to = arena.take<double>(elements(rows, cols));
  if (rows > 0) {
    widen_rows<<<static_cast<unsigned>(rows), kThreads, 0, arena.stream().get()>>>(x, stride, cols,
                                                                                   to);
    launched("widen_rows");
  }
  return to;
}

// The rounding point before a matrix product, in place.
void round_input(Arena& arena, double* values, int rows, int cols, bool fp8, float* scales) {
  if (rows == 0) return;
  const auto blocks = static_cast<unsigned>(rows);
  const cudaStream_t stream = arena.stream().get();
  if (fp8) {
    quantise_rows<<<blocks, kThreads, 0, stream>>>(values, cols, scales);
  } else {
    round_rows_to_bf16<<<blocks, kThreads, 0, stream>>>(values, cols);
  }
  launched("round_input");
}

struct Swiglu {
  double* h;
  float* h_scale;
  double* y;
};

// h and y of `pairs` rows; x_row and given_place of each pair, or null when it is the pair's
// number.
Swiglu run_swiglu(Arena& arena, const ReferenceLayer& layer, const ExpertSet& set, const double* x,
                  const std::int32_t* x_row, int pairs, const std::vector<Tile>& tiles,
                  const float* given_h, const std::int32_t* given_place) {
  const int intermediate = set.intermediate();
  Swiglu run{arena.take<double>(elements(pairs, intermediate)), nullptr,
             arena.take<double>(elements(pairs, layer.hidden))};
  if (pairs == 0) return run;
  if (given_h != nullptr) {
    widen_given<<<static_cast<unsigned>(pairs), kThreads, 0, arena.stream().get()>>>(
        given_h, given_place, intermediate, run.h);
    launched("widen_given");
  } else {
    multiply_tiles(arena, {x, x_row, set.gate, set.up, run.h, intermediate, layer.hidden},
                   layer.fp8, true, tiles);
    if (layer.fp8) run.h_scale = arena.take<float>(elements(pairs, intermediate / kFp8Block));
    round_input(arena, run.h, pairs, intermediate, layer.fp8, run.h_scale);
  }
  multiply_tiles(arena, {run.h, nullptr, set.down, {}, run.y, layer.hidden, intermediate},
                 layer.fp8, false, tiles);
  if (layer.round_rows) round_input(arena, run.y, pairs, layer.hidden, false, nullptr);
  return run;
}

}  // namespace

std::vector<double> reference_logits(Arena& arena, const Bf16Bits* x, std::int64_t x_stride,
                                     int rows, int hidden, const Bf16Bits* router, int experts) {
  const Arena::Scope scope(arena);
  const double* const wide = widened(arena, x, x_stride, rows, hidden);
  double* const logits = arena.take<double>(elements(rows, experts));
  const MatrixSet matrix{router, nullptr, experts, hidden, hidden};
  multiply_tiles(arena, {wide, nullptr, matrix, {}, logits, experts, hidden}, false, false,
                 tiles_of({rows}));
  return arena.download(logits, elements(rows, experts));
}

ReferenceRun run_reference(Arena& arena, const ReferenceLayer& layer, const Bf16Bits* x,
                           std::int64_t x_stride, const Assignment& assignment,
                           const GivenH& given) {
  const int rows = assignment.rows;
  const int top_k = assignment.top_k;
  ReferenceRun run;

  // Pairs in the order of their experts, by counting.
  int experts = 0;
  for (const std::int32_t slot : assignment.slots) experts = std::max(experts, slot + 1);
  std::vector<int> count_of(static_cast<std::size_t>(experts));
  for (const std::int32_t slot : assignment.slots) {
    if (slot >= 0) ++count_of[static_cast<std::size_t>(slot)];
  }
  std::vector<int> next(count_of.size());
  for (std::size_t e = 0; e < count_of.size(); ++e) {
    next[e] = run.pairs;
    run.pairs += count_of[e];
  }
  run.pair_of_place.assign(assignment.slots.size(), -1);
  run.place_of_pair.resize(static_cast<std::size_t>(run.pairs));
  std::vector<std::int32_t> row_of_pair(static_cast<std::size_t>(run.pairs));
  for (std::size_t place = 0; place < assignment.slots.size(); ++place) {
    if (assignment.slots[place] < 0) continue;
    const int pair = next[static_cast<std::size_t>(assignment.slots[place])]++;
    run.pair_of_place[place] = pair;
    run.place_of_pair[static_cast<std::size_t>(pair)] = static_cast<std::int32_t>(place);
    row_of_pair[static_cast<std::size_t>(pair)] =
        static_cast<std::int32_t>(place / static_cast<std::size_t>(top_k));
  }

  double* const x_wide = widened(arena, x, x_stride, rows, layer.hidden);
  double* x_input = x_wide;
  if (layer.fp8) {
    x_input = widened(arena, x, x_stride, rows, layer.hidden);
    round_input(arena, x_input, rows, layer.hidden, true, nullptr);
  }

  const Swiglu routed =
      run_swiglu(arena, layer, layer.experts, x_input, arena.upload(row_of_pair), run.pairs,
                 tiles_of(count_of), given.routed, arena.upload(run.place_of_pair));
  run.h = routed.h;
  run.h_scale = routed.h_scale;
  run.y = routed.y;

  Combination combination{};
  if (layer.shared.present()) {
    const Swiglu shared = run_swiglu(arena, layer, layer.shared, x_input, nullptr, rows,
                                     tiles_of({rows}), given.shared, nullptr);
    run.shared_h = shared.h;
    run.shared_h_scale = shared.h_scale;
    combination.shared_y = shared.y;
    if (layer.shared_gate != nullptr && rows > 0) {
      auto* const weights = arena.take<double>(static_cast<std::size_t>(rows));
      shared_weights<<<static_cast<unsigned>(rows), kThreads, 0, arena.stream().get()>>>(
          x_wide, layer.shared_gate, layer.hidden, weights);
      launched("shared_weights");
      combination.shared_weight = weights;
    }
  }

  run.out = arena.take<double>(elements(rows, layer.hidden));
  run.scale = arena.take<double>(static_cast<std::size_t>(rows));
  combination.y = run.y;
  combination.pair_of_place = arena.upload(run.pair_of_place);
  combination.weights = arena.upload(assignment.weights);
  combination.out = run.out;
  combination.scale = run.scale;
  combination.top_k = top_k;
  combination.cols = layer.hidden;
  combination.round = layer.round_rows;
  if (rows > 0) {
    combine<<<static_cast<unsigned>(rows), kThreads, 0, arena.stream().get()>>>(combination);
    launched("combine");
  }
  return run;
}

}  // namespace moeopt::gpu_test
