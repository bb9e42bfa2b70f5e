// How fast this machine's multiprocessors can read weights, and how fast one of them can.
#pragma once

namespace moeopt::bench {

// Prints a table; throws std::runtime_error when a stream did not read what it was given.
void run_probe(int reps);

}  // namespace moeopt::bench
