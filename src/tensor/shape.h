// A tensor's extents, row-major, and products that cannot wrap.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

#include "base/check.h"

namespace moeopt {

// a * b, or nullopt when it does not fit 64 bits.
inline std::optional<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

class Shape {
 public:
  static constexpr std::size_t kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents)
      : Shape(std::span(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const std::int64_t> extents) : rank_(extents.size()) {
    MOEOPT_CHECK(extents.size() <= kMaxRank);
    for (std::size_t i = 0; i < rank_; ++i) extents_[i] = extents[i];
  }

  std::size_t rank() const { return rank_; }
  std::int64_t operator[](std::size_t axis) const {
    MOEOPT_CHECK(axis < rank_);
    return extents_[axis];
  }
  std::span<const std::int64_t> extents() const { return {extents_.data(), rank_}; }

  // Number of elements; nullopt when the product does not fit 64 bits. 1 for rank 0.
  std::optional<std::uint64_t> checked_elements() const {
    std::optional<std::uint64_t> product = 1;
    for (std::size_t i = 0; i < rank_ && product; ++i) {
      product = checked_multiply(*product, static_cast<std::uint64_t>(extents_[i]));
    }
    return product;
  }
  // Number of elements of a shape that is known to be sane.
  std::int64_t elements() const {
    const auto product = checked_elements();
    MOEOPT_CHECK(product.has_value());
    return static_cast<std::int64_t>(*product);
  }

  std::string text() const { return fmt::format("[{}]", fmt::join(extents(), ", ")); }

  friend bool operator==(const Shape& a, const Shape& b) {
    return a.rank_ == b.rank_ && a.extents_ == b.extents_;
  }

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  std::size_t rank_ = 0;
};

}  // namespace moeopt
