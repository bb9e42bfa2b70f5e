// NumPy's .npy format, version 1.0, as far as float32 matrices need it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

namespace moeopt::cli {

// The file of a [rows, columns] float32 matrix in C order.
std::vector<std::byte> npy_bytes(std::span<const float> values, std::size_t rows,
                                 std::size_t columns);

}  // namespace moeopt::cli
