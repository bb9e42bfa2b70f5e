// The groups of cases, each in its own file; main.cpp runs them in this order.
#pragma once

#include "gpu/suite.h"

namespace moeopt::gpu_test {

// The float64 reference on the device equals cpu/reference in double.
void test_reference(Suite& suite, Arena& arena);
// A few small shapes of every kind: also what compute-sanitizer runs.
void test_tiny(Suite& suite, Arena& arena);
// Random shapes and counts.
void test_random(Suite& suite, Arena& arena);
// Random shapes with up to 16384 tokens.
void test_prefill(Suite& suite, Arena& arena);
// The extremes that the library accepts, and what it refuses.
void test_limits(Suite& suite, Arena& arena);
// Layers of real models.
void test_real(Suite& suite, Arena& arena);
// The same bits alone, in batches, again, beside others.
void test_bits(Suite& suite, Arena& arena);
// One kernel node; replays with changing counts.
void test_graph(Suite& suite, Arena& arena);
// The numbers of launches; a control apart from scratch.
void test_workspace(Suite& suite, Arena& arena);
// NaN, ties, broken calls.
void test_faults(Suite& suite, Arena& arena);
// Random cases until the time is over.
void soak(Suite& suite, Arena& arena);

}  // namespace moeopt::gpu_test
