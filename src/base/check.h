// MOEOPT_CHECK(a == b): a programmer's mistake ends the program and prints both operands.
// Always on. Never reachable by user input: that throws Error instead.
#pragma once

#include <fmt/format.h>

#include <string>
#include <type_traits>

namespace moeopt::detail {

[[noreturn]] void check_failed(const char* file, int line, const char* expression,
                               const std::string& operands);

template <typename T>
std::string operand_text(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return fmt::format("{}", static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (std::is_pointer_v<T>) {
    return fmt::format("{}", static_cast<const void*>(value));
  } else if constexpr (fmt::is_formattable<T>::value) {
    return fmt::format("{}", value);
  } else {
    return "?";
  }
}

struct CheckResult {
  bool ok;
  std::string operands;
};

template <typename L>
class CheckLeft {
 public:
  explicit CheckLeft(const L& left) : left_(left) {}

#define MOEOPT_CHECK_OPERATOR(op)                                                           \
  template <typename R>                                                                     \
  CheckResult operator op(const R& right) const {                                           \
    if (left_ op right) return {true, {}};                                                  \
    return {false, fmt::format("{} " #op " {}", operand_text(left_), operand_text(right))}; \
  }
  MOEOPT_CHECK_OPERATOR(==)
  MOEOPT_CHECK_OPERATOR(!=)
  MOEOPT_CHECK_OPERATOR(<)
  MOEOPT_CHECK_OPERATOR(<=)
  MOEOPT_CHECK_OPERATOR(>)
  MOEOPT_CHECK_OPERATOR(>=)
#undef MOEOPT_CHECK_OPERATOR

  operator CheckResult() const {  // NOLINT(google-explicit-constructor): a plain boolean condition
    return {static_cast<bool>(left_), operand_text(left_)};
  }

 private:
  const L& left_;
};

struct CheckDecomposer {
  template <typename L>
  CheckLeft<L> operator<<(const L& left) const {
    return CheckLeft<L>(left);
  }
};

}  // namespace moeopt::detail

// NOLINTBEGIN(bugprone-macro-parentheses): parentheses would hide the operands
#define MOEOPT_CHECK(expression)                                                       \
  do {                                                                                 \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wparentheses\"") \
        const ::moeopt::detail::CheckResult moeopt_check_result =                      \
            ::moeopt::detail::CheckDecomposer{} << expression;                         \
    _Pragma("GCC diagnostic pop") if (!moeopt_check_result.ok) {                       \
      ::moeopt::detail::check_failed(__FILE__, __LINE__, #expression,                  \
                                     moeopt_check_result.operands);                    \
    }                                                                                  \
  } while (false)
// NOLINTEND(bugprone-macro-parentheses)
