#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/number_text.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace moeopt::jinja {
namespace {

// int(value) of a float; nothing for what has no integer.
std::optional<Value> truncate(Runtime& runtime, double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (std::fabs(value) >= 9223372036854775808.0) runtime.fail("an integer does not fit 64 bits");
  return Value(static_cast<std::int64_t>(value));
}

Value to_int(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "int", args, {"default", "base"});
  Value fallback = given.get(0) == nullptr ? Value(std::int64_t{0}) : given.at(0);
  if (self.is_undefined()) fail_undefined(runtime, self);
  if (self.is_integral()) return Value(self.integer());
  if (self.is(Kind::kFloat)) {
    if (std::isinf(self.real())) runtime.fail("cannot convert float infinity to integer");
    return truncate(runtime, self.real()).value_or(fallback);
  }
  if (!self.is_string()) return fallback;
  const std::int64_t base = given.integer(1, 10);
  runtime.step_characters(2 * self.view().size());
  if (base == 0 || (base >= 2 && base <= 36)) {
    if (const auto value = parse_integer(runtime, self.view(), static_cast<int>(base))) {
      return Value(*value);
    }
  }
  const auto real = parse_float(self.view());
  return real ? truncate(runtime, *real).value_or(fallback) : fallback;
}

Value to_float(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "float", args, {"default"});
  Value fallback = given.get(0) == nullptr ? Value(0.0) : given.at(0);
  if (self.is_undefined()) fail_undefined(runtime, self);
  if (self.is_number()) return Value(self.real());
  if (!self.is_string()) return fallback;
  runtime.step_characters(2 * self.view().size());
  const auto real = parse_float(self.view());
  return real ? Value(*real) : fallback;
}

Value absolute(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "abs", args, {});
  if (self.is_undefined()) fail_undefined(runtime, self);
  if (self.is(Kind::kFloat)) return Value(std::fabs(self.real()));
  if (!self.is_integral()) runtime.fail("bad operand type for abs(): '{}'", type_name(self));
  return self.integer() < 0 ? negate(runtime, self) : Value(self.integer());
}

// round(value, digits): halfway cases go to the even digit, decided on the exact binary value.
double round_float(double value, std::int64_t digits) {
  constexpr double kWhole = 4503599627370496.0;  // from here on every double is an integer
  if (!std::isfinite(value) || digits > 320) return value;
  if (digits >= 0 && std::fabs(value) >= kWhole) return value;
  if (digits < -310) return std::copysign(0.0, value);
  if (digits < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(value / scale) * scale;
  }
  return std::strtod(fmt::format("{:.{}f}", value, static_cast<int>(digits)).c_str(), nullptr);
}

Value round_integer(Runtime& runtime, std::int64_t value, std::int64_t digits) {
  if (digits >= 0) return Value(value);
  if (digits < -18) return Value(std::int64_t{0});
  std::int64_t scale = 1;
  for (std::int64_t i = digits; i < 0; ++i) scale *= 10;
  std::int64_t quotient = value / scale;
  const std::int64_t rest = value % scale;
  const std::int64_t twice = rest < 0 ? -rest : rest;
  const bool up = twice > scale - twice || (twice == scale - twice && quotient % 2 != 0);
  if (up) quotient += value < 0 ? -1 : 1;
  return binary(runtime, BinaryOp::kMultiply, Value(quotient), Value(scale));
}

Value round(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "round", args, {"precision", "method"});
  const std::string_view method = given.get(1) == nullptr ? "common" : given.text(1);
  if (method != "common" && method != "ceil" && method != "floor") {
    runtime.fail("method must be common, ceil or floor");
  }
  if (self.is_undefined()) fail_undefined(runtime, self);
  if (!self.is_number()) {
    runtime.fail("type {} doesn't define __round__ method", type_name(self));
  }
  const std::int64_t digits = given.integer(0, 0);
  if (method == "common") {
    runtime.step(1 + static_cast<std::size_t>(std::min<std::int64_t>(std::abs(digits), 320)));
    return self.is(Kind::kFloat) ? Value(round_float(self.real(), digits))
                                 : round_integer(runtime, self.integer(), digits);
  }
  const Value scale = binary(runtime, BinaryOp::kPower, Value(std::int64_t{10}), Value(digits));
  const double scaled = binary(runtime, BinaryOp::kMultiply, self, scale).real();
  if (!std::isfinite(scaled)) runtime.fail("cannot convert float infinity or NaN to integer");
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale.real());
}

Value sum(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "sum", args, {"attribute", "start"});
  const Value path = given.value(0) == nullptr ? Value() : given.at(0);
  Value total = given.get(1) == nullptr ? Value(std::int64_t{0}) : given.at(1);
  if (total.is_string()) runtime.fail("sum() can't sum strings [use ''.join(seq) instead]");
  for_each(runtime, self, [&](const Value& item) {
    total = binary(runtime, BinaryOp::kAdd, total, get_path(runtime, item, path));
    return true;
  });
  return total;
}

constexpr Filter kNumberFilters[] = {
    {"abs", absolute}, {"float", to_float}, {"int", to_int}, {"round", round}, {"sum", sum},
};

}  // namespace

std::span<const Filter> number_filters() {
  return kNumberFilters;
}

}  // namespace moeopt::jinja
