// The packed layout again, in plain C++ and straight from the words of cuda/moe/layout.h: what the
// device packing must equal byte for byte. Shares no code with it, and none with the layout's own
// functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "moeopt.h"

namespace moeopt::cuda::moe::test {

// value in e4m3, to nearest even, saturating at 448; a NaN is 0x7f whatever its sign, as the GPU
// has it.
std::uint8_t e4m3(float value);

// `source` with host pointers; hidden, intermediate as in the layer's description; fp8: the layer's
// dtype.
std::vector<std::byte> pack_reference(int hidden, int intermediate, bool fp8,
                                      const moeopt_expert_source& source);

}  // namespace moeopt::cuda::moe::test
