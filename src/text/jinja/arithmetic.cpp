#include <cmath>
#include <limits>

#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

// + - * / // % ** and the signs, with Python's results and refusals. An int that would leave 64
// bits is an error here: Python would go on with more digits, which no chat template needs.
namespace moeopt::jinja {
namespace {

constexpr std::string_view symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "+";
    case BinaryOp::kSubtract:
      return "-";
    case BinaryOp::kMultiply:
      return "*";
    case BinaryOp::kDivide:
      return "/";
    case BinaryOp::kFloorDivide:
      return "//";
    case BinaryOp::kModulo:
      return "%";
    case BinaryOp::kPower:
      return "** or pow()";
  }
  return "?";
}

[[noreturn]] void fail_overflow(Runtime& runtime) {
  runtime.fail("an integer does not fit 64 bits");
}

std::int64_t floor_divide(Runtime& runtime, std::int64_t left, std::int64_t right) {
  if (right == 0) runtime.fail("integer division or modulo by zero");
  if (right == -1) {
    if (left == std::numeric_limits<std::int64_t>::min()) fail_overflow(runtime);
    return -left;
  }
  const std::int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

std::int64_t modulo(Runtime& runtime, std::int64_t left, std::int64_t right) {
  if (right == 0) runtime.fail("integer modulo by zero");
  if (right == -1) return 0;
  const std::int64_t rest = left % right;
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

Value integer_power(Runtime& runtime, std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) runtime.fail("0.0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value(exponent == 0 ? std::int64_t{1} : base);
  if (base == -1) return Value(std::int64_t{exponent % 2 == 0 ? 1 : -1});
  std::int64_t result = 1;
  for (; exponent > 0; --exponent) {  // at most 63 rounds before it overflows
    if (__builtin_mul_overflow(result, base, &result)) fail_overflow(runtime);
  }
  return Value(result);
}

Value integer_binary(Runtime& runtime, BinaryOp op, std::int64_t left, std::int64_t right) {
  std::int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case BinaryOp::kAdd:
      overflow = __builtin_add_overflow(left, right, &result);
      break;
    case BinaryOp::kSubtract:
      overflow = __builtin_sub_overflow(left, right, &result);
      break;
    case BinaryOp::kMultiply:
      overflow = __builtin_mul_overflow(left, right, &result);
      break;
    case BinaryOp::kDivide:
      if (right == 0) runtime.fail("division by zero");
      return Value(
          static_cast<double>(static_cast<long double>(left) / static_cast<long double>(right)));
    case BinaryOp::kFloorDivide:
      result = floor_divide(runtime, left, right);
      break;
    case BinaryOp::kModulo:
      result = modulo(runtime, left, right);
      break;
    case BinaryOp::kPower:
      return integer_power(runtime, left, right);
  }
  if (overflow) fail_overflow(runtime);
  return Value(result);
}

// Quotient and remainder as Python defines them: the remainder has the divisor's sign.
std::pair<double, double> float_divmod(double left, double right) {
  double rest = std::fmod(left, right);
  double quotient = (left - rest) / right;
  if (rest != 0) {
    if ((right < 0) != (rest < 0)) {
      rest += right;
      quotient -= 1;
    }
  } else {
    rest = std::copysign(0.0, right);
  }
  if (quotient == 0) return {std::copysign(0.0, left / right), rest};
  const double floored = std::floor(quotient);
  return {quotient - floored > 0.5 ? floored + 1 : floored, rest};
}

double float_power(Runtime& runtime, double base, double exponent) {
  if (base == 0 && exponent < 0) runtime.fail("0.0 cannot be raised to a negative power");
  if (base < 0 && std::isfinite(base) && std::isfinite(exponent) &&
      exponent != std::floor(exponent)) {
    runtime.fail("a complex number is not supported");
  }
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) {
    runtime.fail("(34, 'Numerical result out of range')");
  }
  return result;
}

Value float_binary(Runtime& runtime, BinaryOp op, double left, double right) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value(left + right);
    case BinaryOp::kSubtract:
      return Value(left - right);
    case BinaryOp::kMultiply:
      return Value(left * right);
    case BinaryOp::kDivide:
      if (right == 0) runtime.fail("float division by zero");
      return Value(left / right);
    case BinaryOp::kFloorDivide:
      if (right == 0) runtime.fail("float floor division by zero");
      return Value(float_divmod(left, right).first);
    case BinaryOp::kModulo:
      if (right == 0) runtime.fail("float modulo");
      return Value(float_divmod(left, right).second);
    case BinaryOp::kPower:
      return Value(float_power(runtime, left, right));
  }
  return Value();
}

Value concatenate(Runtime& runtime, const Value& left, const Value& right) {
  runtime.step_bytes(left.view().size() + right.view().size());
  const bool markup = left.text().markup || right.text().markup;
  const auto part = [&](const Value& value) {
    return markup && !value.text().markup ? escape_html(value.view()) : std::string(value.view());
  };
  return make_text(runtime, part(left) + part(right), markup);
}

Value join_sequences(Runtime& runtime, const Value& left, const Value& right) {
  Values items = to_values(runtime, left);
  const Values& more = right.sequence().items;
  runtime.step(1 + more.size() / 4);
  items.insert(items.end(), more.begin(), more.end());
  return left.is(Kind::kList) ? make_list(runtime, std::move(items))
                              : make_tuple(runtime, std::move(items));
}

Value repeat(Runtime& runtime, const Value& value, std::int64_t count) {
  const auto times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  const bool text = value.is_string();
  const std::size_t size = text ? value.view().size() : value.sequence().items.size();
  const std::size_t unit = text ? 1 : sizeof(Value);
  if (size != 0 && times > runtime.limits().memory_bytes / unit / size) {
    runtime.fail("the template holds more than {} bytes of values", runtime.limits().memory_bytes);
  }
  if (text) {
    runtime.step_bytes(size * times);
    std::string out(times == 0 ? std::string_view() : value.view());
    out.reserve(size * times);
    while (out.size() < size * times) {
      out.append(out.data(), std::min(out.size(), size * times - out.size()));
    }
    return text_like(runtime, value, std::move(out));
  }
  runtime.step(size * times);
  Values out;
  out.reserve(size * times);
  const Values& items = value.sequence().items;
  if (size != 0) {
    for (std::size_t i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  }
  return value.is(Kind::kList) ? make_list(runtime, std::move(out))
                               : make_tuple(runtime, std::move(out));
}

bool is_sequence(const Value& value) {
  return value.is_string() || value.is(Kind::kList) || value.is(Kind::kTuple);
}

[[noreturn]] void fail_operands(Runtime& runtime, BinaryOp op, const Value& left,
                                const Value& right) {
  if (left.is_undefined()) fail_undefined(runtime, left);
  if (right.is_undefined()) fail_undefined(runtime, right);
  if (op == BinaryOp::kAdd && is_sequence(left)) {
    const std::string_view name = left.is_string() ? "str" : type_name(left);
    runtime.fail("can only concatenate {} (not \"{}\") to {}", name, type_name(right), name);
  }
  if (op == BinaryOp::kMultiply && (is_sequence(left) || is_sequence(right))) {
    runtime.fail("can't multiply sequence by non-int of type '{}'",
                 type_name(is_sequence(left) ? right : left));
  }
  runtime.fail("unsupported operand type(s) for {}: '{}' and '{}'", symbol(op), type_name(left),
               type_name(right));
}

}  // namespace

Value binary(Runtime& runtime, BinaryOp op, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    return integer_binary(runtime, op, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) {
    return float_binary(runtime, op, left.real(), right.real());
  }
  if (op == BinaryOp::kModulo && left.is_string()) {
    return text_like(runtime, left, format_percent(runtime, left, right));
  }
  if (op == BinaryOp::kAdd && left.kind() == right.kind()) {
    if (left.is_string()) return concatenate(runtime, left, right);
    if (is_sequence(left)) return join_sequences(runtime, left, right);
  }
  if (op == BinaryOp::kMultiply) {
    if (is_sequence(left) && right.is_integral()) return repeat(runtime, left, right.integer());
    if (is_sequence(right) && left.is_integral()) return repeat(runtime, right, left.integer());
  }
  fail_operands(runtime, op, left, right);
}

Value negate(Runtime& runtime, const Value& value) {
  if (value.is_undefined()) fail_undefined(runtime, value);
  if (value.is(Kind::kFloat)) return Value(-value.real());
  if (!value.is_integral()) {
    runtime.fail("bad operand type for unary -: '{}'", type_name(value));
  }
  return integer_binary(runtime, BinaryOp::kSubtract, 0, value.integer());
}

Value posate(Runtime& runtime, const Value& value) {
  if (value.is_undefined()) fail_undefined(runtime, value);
  if (value.is(Kind::kFloat)) return value;
  if (!value.is_integral()) {
    runtime.fail("bad operand type for unary +: '{}'", type_name(value));
  }
  return Value(value.integer());
}

}  // namespace moeopt::jinja
