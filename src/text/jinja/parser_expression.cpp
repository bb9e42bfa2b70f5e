#include <algorithm>

#include "text/jinja/parser_state.h"

// Expressions, by falling precedence: conditional, or, and, not, comparison, + -, ~, * / // %, **,
// sign, then filters and tests, which bind tightest (and so `-1|abs` is -(1|abs)... of the sign's
// operand without its filter: Jinja applies filters after the sign).
namespace moeopt::jinja {
namespace {

int depth_of(const ExpressionPtr& expression) {
  return expression ? expression->depth : 0;
}

int depth_of(const Expressions& expressions) {
  int depth = 0;
  for (const auto& expression : expressions) depth = std::max(depth, depth_of(expression));
  return depth;
}

int depth_of(const CallParts& parts) {
  int depth = std::max(
      {depth_of(parts.positional), depth_of(parts.more_positional), depth_of(parts.more_keyword)});
  for (const auto& [name, value] : parts.keyword) depth = std::max(depth, depth_of(value));
  return depth;
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText:
      return "template data / text";
    case TokenKind::kBlockBegin:
      return "begin of statement block";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kOutputBegin:
      return "begin of print statement";
    case TokenKind::kOutputEnd:
      return "end of print statement";
    case TokenKind::kEnd:
      return "end of template";
    default:
      return token.text;
  }
}

}  // namespace

void Parser::fail_unexpected(std::string_view expected) const {
  if (current().kind == TokenKind::kEnd) {
    fail_here(fmt::format("unexpected end of template, expected '{}'.", expected));
  }
  fail_here(fmt::format("expected token '{}', got '{}'", expected, describe(current())));
}

template <typename Node>
ExpressionPtr Parser::make(int line, Node node, int depth_below) {
  if (depth_below >= kMaxTreeDepth) {
    fail(line, fmt::format("an expression is nested deeper than {}", kMaxTreeDepth));
  }
  auto made = std::make_unique<Expression>();
  made->line = line;
  made->depth = depth_below + 1;
  made->node = std::move(node);
  return made;
}

ExpressionPtr Parser::expression(bool with_conditional) {
  const Nested nested(*this);
  return with_conditional ? conditional() : logical_or();
}

bool Parser::at_tuple_end(std::string_view end) const {
  return current().kind == TokenKind::kOutputEnd || current().kind == TokenKind::kBlockEnd ||
         at_operator(")") || (!end.empty() && at_name(end));
}

ExpressionPtr Parser::tuple(bool with_conditional, std::string_view end, bool in_parentheses) {
  const int line = current().line;
  Expressions items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) expect_operator(",");
    if (at_tuple_end(end)) break;
    items.push_back(expression(with_conditional));
    if (!at_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items.front());
    if (!in_parentheses) {
      fail_here(fmt::format("Expected an expression, got '{}'", describe(current())));
    }
  }
  const int depth = depth_of(items);
  return make(line, TupleLiteral{std::move(items)}, depth);
}

ExpressionPtr Parser::conditional() {
  const int line = current().line;
  const std::size_t known = unknown_.size();
  ExpressionPtr then = logical_or();
  while (skip_name("if")) {
    ExpressionPtr condition = logical_or();
    ExpressionPtr otherwise;
    if (skip_name("else")) otherwise = expression();
    unknown_.resize(known);
    const int depth = std::max({depth_of(condition), depth_of(then), depth_of(otherwise)});
    then =
        make(line, Conditional{std::move(condition), std::move(then), std::move(otherwise)}, depth);
  }
  return then;
}

ExpressionPtr Parser::logical_or() {
  ExpressionPtr left = logical_and();
  while (at_name("or")) {
    const int line = next().line;
    ExpressionPtr right = logical_and();
    const int depth = std::max(depth_of(left), depth_of(right));
    left = make(line, Logical{false, std::move(left), std::move(right)}, depth);
  }
  return left;
}

ExpressionPtr Parser::logical_and() {
  ExpressionPtr left = logical_not();
  while (at_name("and")) {
    const int line = next().line;
    ExpressionPtr right = logical_not();
    const int depth = std::max(depth_of(left), depth_of(right));
    left = make(line, Logical{true, std::move(left), std::move(right)}, depth);
  }
  return left;
}

ExpressionPtr Parser::logical_not() {
  if (!at_name("not")) return comparison();
  const Nested nested(*this);
  const int line = next().line;
  ExpressionPtr value = logical_not();
  const int depth = depth_of(value);
  return make(line, Unary{Unary::Op::kNot, std::move(value)}, depth);
}

ExpressionPtr Parser::comparison() {
  struct Sign {
    std::string_view sign;
    CompareOp op;
  };
  static constexpr Sign kSigns[] = {{"==", CompareOp::kEqual},  {"!=", CompareOp::kNotEqual},
                                    {"<", CompareOp::kLess},    {"<=", CompareOp::kLessEqual},
                                    {">", CompareOp::kGreater}, {">=", CompareOp::kGreaterEqual}};
  const int line = current().line;
  ExpressionPtr first = sum();
  Compare compare;
  int depth = depth_of(first);
  while (true) {
    CompareOp op = CompareOp::kIn;
    const auto* sign = std::find_if(std::begin(kSigns), std::end(kSigns),
                                    [&](const Sign& s) { return at_operator(s.sign); });
    if (sign != std::end(kSigns)) {
      next();
      op = sign->op;
    } else if (at_name("not") && ahead().is_name("in")) {
      next();
      next();
      op = CompareOp::kNotIn;
    } else if (!skip_name("in")) {
      break;
    }
    compare.rest.emplace_back(op, sum());
    depth = std::max(depth, depth_of(compare.rest.back().second));
  }
  if (compare.rest.empty()) return first;
  compare.first = std::move(first);
  return make(line, std::move(compare), depth);
}

ExpressionPtr Parser::sum() {
  ExpressionPtr left = concat();
  while (at_operator("+") || at_operator("-")) {
    const Token& sign = next();
    const BinaryOp op = sign.text == "+" ? BinaryOp::kAdd : BinaryOp::kSubtract;
    const int line = sign.line;
    ExpressionPtr right = concat();
    const int depth = std::max(depth_of(left), depth_of(right));
    left = make(line, Binary{op, std::move(left), std::move(right)}, depth);
  }
  return left;
}

ExpressionPtr Parser::concat() {
  const int line = current().line;
  Expressions parts;
  parts.push_back(product());
  while (skip_operator("~")) parts.push_back(product());
  if (parts.size() == 1) return std::move(parts.front());
  const int depth = depth_of(parts);
  return make(line, Concat{std::move(parts)}, depth);
}

ExpressionPtr Parser::product() {
  ExpressionPtr left = power();
  while (true) {
    BinaryOp op = BinaryOp::kMultiply;
    if (at_operator("/")) {
      op = BinaryOp::kDivide;
    } else if (at_operator("//")) {
      op = BinaryOp::kFloorDivide;
    } else if (at_operator("%")) {
      op = BinaryOp::kModulo;
    } else if (!at_operator("*")) {
      return left;
    }
    const int line = next().line;
    ExpressionPtr right = power();
    const int depth = std::max(depth_of(left), depth_of(right));
    left = make(line, Binary{op, std::move(left), std::move(right)}, depth);
  }
}

ExpressionPtr Parser::power() {
  ExpressionPtr left = unary();
  while (at_operator("**")) {  // from the left, unlike Python
    const int line = next().line;
    ExpressionPtr right = unary();
    const int depth = std::max(depth_of(left), depth_of(right));
    left = make(line, Binary{BinaryOp::kPower, std::move(left), std::move(right)}, depth);
  }
  return left;
}

ExpressionPtr Parser::unary(bool with_filter) {
  ExpressionPtr value;
  if (at_operator("-") || at_operator("+")) {
    const Nested nested(*this);
    const Token& sign = next();
    const auto op = sign.text == "-" ? Unary::Op::kMinus : Unary::Op::kPlus;
    const int line = sign.line;
    value = unary(false);
    const int depth = depth_of(value);
    value = make(line, Unary{op, std::move(value)}, depth);
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filter ? filters_and_tests(std::move(value)) : std::move(value);
}

ExpressionPtr Parser::primary() {
  const Token& token = current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::kString:
      return strings();
    case TokenKind::kInteger:
      return make(line, Literal{Value(next().integer)}, 0);
    case TokenKind::kFloat:
      return make(line, Literal{Value(next().real)}, 0);
    case TokenKind::kName: {
      const std::string name = next().text;
      if (name == "true" || name == "True") return make(line, Literal{Value(true)}, 0);
      if (name == "false" || name == "False") return make(line, Literal{Value(false)}, 0);
      if (name == "none" || name == "None") return make(line, Literal{Value()}, 0);
      note_name(name);
      return make(line, Name{name}, 0);
    }
    default:
      break;
  }
  if (skip_operator("(")) {
    const Nested nested(*this);
    ExpressionPtr inner = tuple(true, {}, true);
    expect_operator(")");
    return inner;
  }
  if (at_operator("[")) return list();
  if (at_operator("{")) return dict();
  fail(line, fmt::format("unexpected '{}'", describe(token)));
}

// Strings that stand side by side are one.
ExpressionPtr Parser::strings() {
  const int line = current().line;
  std::string text;
  while (current().kind == TokenKind::kString) text += next().text;
  return make(line, Literal{make_literal(std::move(text))}, 0);
}

ExpressionPtr Parser::list() {
  const Nested nested(*this);
  const int line = next().line;
  Expressions items;
  while (!at_operator("]")) {
    if (!items.empty()) expect_operator(",");
    if (at_operator("]")) break;
    items.push_back(expression());
  }
  expect_operator("]");
  const int depth = depth_of(items);
  return make(line, ListLiteral{std::move(items)}, depth);
}

ExpressionPtr Parser::dict() {
  const Nested nested(*this);
  const int line = next().line;
  DictLiteral dict;
  int depth = 0;
  while (!at_operator("}")) {
    if (!dict.items.empty()) expect_operator(",");
    if (at_operator("}")) break;
    ExpressionPtr key = expression();
    expect_operator(":");
    ExpressionPtr value = expression();
    depth = std::max({depth, depth_of(key), depth_of(value)});
    dict.items.emplace_back(std::move(key), std::move(value));
  }
  expect_operator("}");
  return make(line, std::move(dict), depth);
}

ExpressionPtr Parser::postfix(ExpressionPtr object) {
  while (true) {
    if (at_operator(".") || at_operator("[")) {
      object = subscript(std::move(object));
    } else if (at_operator("(")) {
      object = call(std::move(object));
    } else {
      return object;
    }
  }
}

ExpressionPtr Parser::filters_and_tests(ExpressionPtr input) {
  while (true) {
    if (at_operator("|")) {
      next();
      input = filter(std::move(input));
    } else if (at_name("is")) {
      input = test(std::move(input));
    } else if (at_operator("(")) {
      input = call(std::move(input));
    } else {
      return input;
    }
  }
}

ExpressionPtr Parser::subscript(ExpressionPtr object) {
  const Token& sign = next();
  const int line = sign.line;
  if (sign.text == ".") {
    const Token& key = next();
    const int depth = depth_of(object);
    if (key.kind == TokenKind::kName)
      return make(line, Attribute{std::move(object), key.text}, depth);
    if (key.kind != TokenKind::kInteger) fail(key.line, "expected name or number");
    ExpressionPtr index = make(key.line, Literal{Value(key.integer)}, 0);
    return make(line, Item{std::move(object), std::move(index)}, std::max(depth, 1));
  }
  Expressions keys;
  while (!at_operator("]")) {
    if (!keys.empty()) expect_operator(",");
    keys.push_back(subscribed());
  }
  expect_operator("]");
  const bool sliced = std::any_of(keys.begin(), keys.end(), [](const ExpressionPtr& key) {
    return std::holds_alternative<Slice>(key->node);
  });
  if (sliced && keys.size() != 1) fail(line, "a slice among several subscripts is not supported");
  ExpressionPtr key;
  if (keys.size() == 1) {
    key = std::move(keys.front());
  } else {
    const int depth = depth_of(keys);
    key = make(line, TupleLiteral{std::move(keys)}, depth);
  }
  const int depth = std::max(depth_of(object), depth_of(key));
  return make(line, Item{std::move(object), std::move(key)}, depth);
}

ExpressionPtr Parser::subscribed() {
  const int line = current().line;
  Slice slice;
  if (!at_operator(":")) {
    ExpressionPtr start = expression();
    if (!at_operator(":")) return start;
    slice.start = std::move(start);
  }
  next();
  const auto at_end = [&] { return at_operator("]") || at_operator(",") || at_operator(":"); };
  if (!at_end()) slice.stop = expression();
  if (skip_operator(":") && !at_operator("]") && !at_operator(",")) slice.step = expression();
  const int depth = std::max({depth_of(slice.start), depth_of(slice.stop), depth_of(slice.step)});
  return make(line, std::move(slice), depth);
}

CallParts Parser::call_parts() {
  const Nested nested(*this);
  const int line = current().line;
  CallParts parts;
  const auto ensure = [&](bool well) {
    if (!well) fail(line, "invalid syntax for function call expression");
  };
  expect_operator("(");
  for (bool first = true; !at_operator(")"); first = false) {
    if (!first) expect_operator(",");
    if (!first && at_operator(")")) break;
    if (skip_operator("*")) {
      ensure(!parts.more_positional && !parts.more_keyword);
      parts.more_positional = expression();
    } else if (skip_operator("**")) {
      ensure(!parts.more_keyword);
      parts.more_keyword = expression();
    } else if (current().kind == TokenKind::kName && ahead().is_operator("=")) {
      ensure(!parts.more_keyword);
      std::string name = next().text;
      next();
      for (const auto& [other, value] : parts.keyword) {
        if (other == name) fail(line, fmt::format("keyword argument repeated: {}", name));
      }
      parts.keyword.emplace_back(std::move(name), expression());
      if (parts.keyword.size() > kMaxArguments) fail_here("too many keyword arguments");
    } else {
      ensure(!parts.more_positional && !parts.more_keyword && parts.keyword.empty());
      parts.positional.push_back(expression());
    }
  }
  expect_operator(")");
  return parts;
}

ExpressionPtr Parser::call(ExpressionPtr callee) {
  const int line = current().line;
  CallParts parts = call_parts();
  const int depth = std::max(depth_of(callee), depth_of(parts));
  return make(line, Call{std::move(callee), std::move(parts)}, depth);
}

std::string Parser::dotted_name() {
  std::string name = expect_name().text;
  while (skip_operator(".")) name += "." + expect_name().text;
  return name;
}

ExpressionPtr Parser::filter(ExpressionPtr input) {
  const int line = current().line;
  std::string name = dotted_name();
  const Filter* known = find_filter(name);
  if (known == nullptr) unknown_.push_back({line, fmt::format("No filter named '{}'.", name)});
  CallParts parts;
  if (at_operator("(")) parts = call_parts();
  const int depth = std::max(depth_of(input), depth_of(parts));
  return make(line, FilterCall{std::move(input), std::move(name), known, std::move(parts)}, depth);
}

ExpressionPtr Parser::test(ExpressionPtr input) {
  const Nested nested(*this);
  const int line = next().line;
  const bool negated = skip_name("not");
  std::string name = dotted_name();
  const Predicate* known = find_predicate(name);
  if (known == nullptr) unknown_.push_back({line, fmt::format("No test named '{}'.", name)});
  CallParts parts;
  const TokenKind kind = current().kind;
  const bool starts_value = kind == TokenKind::kName || kind == TokenKind::kString ||
                            kind == TokenKind::kInteger || kind == TokenKind::kFloat ||
                            at_operator("[") || at_operator("{");
  if (at_operator("(")) {
    parts = call_parts();
  } else if (starts_value && !at_name("else") && !at_name("or") && !at_name("and")) {
    if (at_name("is")) fail_here("You cannot chain multiple tests with is");
    parts.positional.push_back(postfix(primary()));
  }
  const int depth = std::max(depth_of(input), depth_of(parts));
  ExpressionPtr made =
      make(line, TestCall{std::move(input), std::move(name), known, std::move(parts)}, depth);
  if (!negated) return made;
  return make(line, Unary{Unary::Op::kNot, std::move(made)}, depth + 1);
}

// A macro takes its caller, kwargs and varargs only when its body names them.
void Parser::note_name(std::string_view name) {
  for (MacroUses& uses : macros_) {
    uses.caller |= name == "caller";
    uses.kwargs |= name == "kwargs";
    uses.varargs |= name == "varargs";
  }
}

}  // namespace moeopt::jinja
