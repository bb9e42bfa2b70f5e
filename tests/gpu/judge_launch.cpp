#include "gpu/judge_launch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "gpu/judge.h"
#include "gpu/kernel_h.h"

namespace moeopt::gpu_test {
namespace {

std::size_t count(int rows, int cols) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
}

bool close(double got, double wanted, double tolerance) {
  if (std::isnan(wanted)) return std::isnan(got);
  return std::fabs(got - wanted) <= tolerance * std::fabs(wanted) + 1e-30;
}

// Given routes come back as they are, bit for bit.
void check_given(Case& c, const Inputs& inputs, const std::vector<std::int32_t>& ids,
                 const std::vector<float>& weights) {
  c.expect(std::equal(ids.begin(), ids.end(), inputs.ids.begin()), "out_ids are not the given ids");
  c.expect(weights.empty() || std::memcmp(weights.data(), inputs.weights.data(),
                                          weights.size() * sizeof(float)) == 0,
           "out_weights are not the given weights");
}

struct Routed {
  Assignment assignment;
  Expected expected;
};

// Checks the recorded routes and turns them into the reference's work.
Routed check_routes(Case& c, Arena& arena, const moeopt_moe_desc& desc, const Inputs& inputs,
                    const Outputs& outputs, int tokens) {
  const auto k = static_cast<std::size_t>(desc.top_k);
  const std::vector<std::int32_t> ids = arena.download(outputs.ids, count(tokens, desc.top_k));
  const std::vector<float> weights = arena.download(outputs.weights, ids.size());
  Routed routed;
  routed.assignment.rows = tokens;
  routed.assignment.top_k = desc.top_k;
  routed.assignment.weights.resize(ids.size());

  std::vector<std::int32_t> used = ids;
  if (inputs.router == nullptr) {
    check_given(c, inputs, ids, weights);
    std::copy_n(inputs.ids.begin(), used.size(), used.begin());
    for (std::size_t row = 0; row < static_cast<std::size_t>(tokens); ++row) {
      const auto first = inputs.weights.begin() + static_cast<std::ptrdiff_t>(row * k);
      const auto last = first + static_cast<std::ptrdiff_t>(k);
      std::copy(first, last,
                routed.assignment.weights.begin() + static_cast<std::ptrdiff_t>(row * k));
      if (std::any_of(first, last, [](float w) { return std::isnan(w); })) {
        ++routed.expected.nan_tokens;
      }
    }
  } else if (tokens > 0) {
    const std::vector<double> logits = reference_logits(arena, inputs.x, inputs.x_stride, tokens,
                                                        desc.hidden, inputs.router, desc.experts);
    const Router router(desc, inputs.bias);
    for (std::size_t row = 0; row < static_cast<std::size_t>(tokens); ++row) {
      const auto e = static_cast<std::size_t>(desc.experts);
      const auto row_logits = std::span(logits).subspan(row * e, e);
      const auto row_ids = std::span(used).subspan(row * k, k);
      if (std::ranges::any_of(row_logits, [](double l) { return std::isnan(l); })) {
        ++routed.expected.nan_tokens;
      }
      if (const auto fault = router.fault_of(row_logits, row_ids)) {
        c.fail(fmt::format("routing of row {}: {}", row, *fault));
        std::ranges::copy(router.decide(row_logits).ids, row_ids.begin());
      }
      const std::vector<double> wanted = router.weights_of(row_logits, row_ids);
      const double tolerance = kWeightTolerance * tolerance_factor(row_logits);
      for (std::size_t s = 0; s < k; ++s) {
        const float got = weights[row * k + s];
        c.expect(
            close(static_cast<double>(got), wanted[s], tolerance),
            fmt::format("router weight of row {} slot {} is {}, not {}", row, s, got, wanted[s]));
        routed.assignment.weights[row * k + s] = wanted[s];
      }
    }
  }
  for (const std::int32_t id : used) routed.assignment.slots.push_back(inputs.slot_of(id));
  routed.expected.rows = rows_of_ids(inputs, used, desc.top_k);
  return routed;
}

void check_counts(Case& c, Arena& arena, const Experts& experts, const Outputs& outputs,
                  const Assignment& assignment, std::uint64_t rows) {
  std::vector<std::int32_t> wanted(static_cast<std::size_t>(experts.plan().slots));
  const auto k = static_cast<std::size_t>(assignment.top_k);
  for (std::size_t place = 0; place < assignment.slots.size(); ++place) {
    const auto row = assignment.slots.begin() + static_cast<std::ptrdiff_t>(place - place % k);
    const auto here = assignment.slots.begin() + static_cast<std::ptrdiff_t>(place);
    if (*here >= 0 && std::find(row, here, *here) == here)
      ++wanted[static_cast<std::size_t>(*here)];
  }
  const std::vector<std::int32_t> got = arena.download(outputs.counts, wanted.size());
  std::uint64_t sum = 0;
  for (std::size_t slot = 0; slot < wanted.size(); ++slot) {
    c.expect(got[slot] == wanted[slot],
             fmt::format("out_counts[{}] is {}, not {}", slot, got[slot], wanted[slot]));
    sum += static_cast<std::uint64_t>(std::max(got[slot], 0));
  }
  c.expect(sum == rows, fmt::format("out_counts sum to {}, not {}", sum, rows));
}

// fp8, both stages. Returns the errors to note.
Errors judge_fp8(Case& c, Arena& arena, const moeopt_moe_desc& desc, const ReferenceLayer& layer,
                 const Inputs& inputs, const Outputs& outputs, const Assignment& assignment,
                 const ReferenceRun& wanted, const std::vector<bool>& empty_rows,
                 const void* workspace) {
  const int rows = assignment.rows;
  const KernelH kernel = find_kernel_h(arena, desc, workspace, assignment);
  if (kernel.fault) {
    c.fail(*kernel.fault);
    return {};
  }
  Errors errors;
  const auto judge = [&](const char* which, const Fp8Bits* h, const float* scale,
                         const std::vector<std::int32_t>& kernel_rows, const double* reference_h,
                         const float* reference_scale, int cols) {
    const HVerdict verdict = judge_h(arena, h, scale, arena.upload(kernel_rows), reference_h,
                                     reference_scale, static_cast<int>(kernel_rows.size()), cols);
    if (verdict.fault) c.fail(std::string(which) + *verdict.fault);
    errors.differing_h = std::max(errors.differing_h, verdict.differing);
  };
  std::vector<std::int32_t> row_of_pair;
  for (const std::int32_t place : wanted.place_of_pair) {
    row_of_pair.push_back(kernel.row_of_place[static_cast<std::size_t>(place)]);
  }
  judge("", kernel.h, kernel.scale, row_of_pair, wanted.h, wanted.h_scale, desc.intermediate);
  GivenH given;
  auto* const routed = arena.take<float>(count(rows * desc.top_k, desc.intermediate));
  dequantise_rows(arena, kernel.h, kernel.scale, arena.upload(kernel.row_of_place),
                  rows * desc.top_k, desc.intermediate, routed);
  given.routed = routed;
  if (layer.shared.present()) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(rows));
    for (int r = 0; r < rows; ++r) all[static_cast<std::size_t>(r)] = r;
    judge("shared expert: ", kernel.shared_h, kernel.shared_scale, all, wanted.shared_h,
          wanted.shared_h_scale, desc.shared_intermediate);
    auto* const shared = arena.take<float>(count(rows, desc.shared_intermediate));
    dequantise_rows(arena, kernel.shared_h, kernel.shared_scale, arena.upload(all), rows,
                    desc.shared_intermediate, shared);
    given.shared = shared;
  }
  const ReferenceRun fed =
      run_reference(arena, layer, inputs.x, inputs.x_stride, assignment, given);
  const Verdict verdict = judge_output(arena, outputs.out, outputs.out_stride, rows, desc.hidden,
                                       fed, empty_rows, kFp8Bounds);
  if (verdict.fault) c.fail("fed the kernel's h: " + *verdict.fault);
  errors.frobenius = verdict.frobenius;
  errors.worst_row = verdict.worst_row;
  return errors;
}

}  // namespace

std::uint64_t rows_of_ids(const Inputs& inputs, const std::vector<std::int32_t>& ids, int top_k) {
  std::uint64_t rows = 0;
  const auto k = static_cast<std::size_t>(top_k);
  for (std::size_t place = 0; place < ids.size(); ++place) {
    const std::int32_t slot = inputs.slot_of(ids[place]);
    if (slot < 0) continue;
    bool first = true;
    for (std::size_t before = place - place % k; before < place; ++before) {
      first = first && inputs.slot_of(ids[before]) != slot;
    }
    rows += first ? 1 : 0;
  }
  return rows;
}

Expected judge_launch(Case& c, Arena& arena, const moeopt_moe_desc& desc, const Experts& experts,
                      const Inputs& inputs, const Outputs& outputs, int tokens,
                      const void* workspace) {
  const Arena::Scope scope(arena);
  const Routed routed = check_routes(c, arena, desc, inputs, outputs, tokens);
  const Assignment& assignment = routed.assignment;
  check_counts(c, arena, experts, outputs, assignment, routed.expected.rows);

  ReferenceLayer layer = experts.reference();
  layer.shared_gate = inputs.shared_gate;
  const ReferenceRun wanted = run_reference(arena, layer, inputs.x, inputs.x_stride, assignment);
  std::vector<bool> empty_rows(static_cast<std::size_t>(tokens), !layer.shared.present());
  for (std::size_t place = 0; place < assignment.slots.size(); ++place) {
    if (assignment.slots[place] >= 0) {
      empty_rows[place / static_cast<std::size_t>(desc.top_k)] = false;
    }
  }

  Errors errors;
  if (layer.fp8) {
    errors = judge_fp8(c, arena, desc, layer, inputs, outputs, assignment, wanted, empty_rows,
                       workspace);
  } else {
    const Verdict verdict = judge_output(arena, outputs.out, outputs.out_stride, tokens,
                                         desc.hidden, wanted, empty_rows, kBf16Bounds);
    if (verdict.fault) c.fail(*verdict.fault);
    errors = {verdict.frobenius, verdict.worst_row, 0};
  }
  c.measured(layer.fp8, errors);
  return routed.expected;
}

}  // namespace moeopt::gpu_test
