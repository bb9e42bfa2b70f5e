// What one render may cost. Invariant: every loop, copy and call of the interpreter is charged here
// first, so a hostile template ends with an Error and never with an exhausted machine.
#pragma once

#include <cstddef>

namespace moeopt {

struct RenderLimits {
  // Nodes evaluated, items visited and 64-byte pieces of text copied.
  std::size_t steps = 20'000'000;
  std::size_t output_bytes = std::size_t{64} << 20;
  // Live bytes of the values the template holds, its inputs included.
  std::size_t memory_bytes = std::size_t{256} << 20;
  // Nesting of evaluation: statements, expressions and macro calls together.
  int depth = 600;
};

}  // namespace moeopt
