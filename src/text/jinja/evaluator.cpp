#include "text/jinja/evaluator.h"

#include "text/jinja/access.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace moeopt::jinja {

Evaluator::Evaluator(Runtime& runtime, const Value& inputs)
    : runtime_(runtime), inputs_(inputs), scope_(std::make_shared<Scope>()) {}

Evaluator::~Evaluator() {
  for (const auto& scope : macro_scopes_) scope->variables.clear();
  for (const Value& value : namespaces_) value.name_space().attributes.clear();
}

std::string Evaluator::render(const Body& body) {
  Capture capture(*this);
  run_block(body);
  return std::move(capture.text());
}

Value Evaluator::evaluate(const Expression& expression) {
  runtime_.step();
  runtime_.line = expression.line;
  const DepthGuard guard(runtime_);
  return std::visit([&](const auto& node) { return on(node, expression.line); }, expression.node);
}

Value Evaluator::lookup(std::string_view name) {
  if (const Value* found = scope_->find(runtime_, name)) return *found;
  if (const Value* found = find_item(runtime_, inputs_.dict(), name)) return *found;
  if (auto global = find_global(runtime_, name)) return *std::move(global);
  return make_undefined(runtime_, fmt::format("'{}' is undefined", shorten(name)));
}

Values Evaluator::evaluate_all(const Expressions& expressions) {
  Values values;
  values.reserve(expressions.size());
  for (const auto& expression : expressions) values.push_back(evaluate(*expression));
  return values;
}

Value Evaluator::on(const Literal& node, int) {
  return node.value;
}

Value Evaluator::on(const Name& node, int) {
  return lookup(node.name);
}

Value Evaluator::on(const TupleLiteral& node, int) {
  return make_tuple(runtime_, evaluate_all(node.items));
}

Value Evaluator::on(const ListLiteral& node, int) {
  return make_list(runtime_, evaluate_all(node.items));
}

Value Evaluator::on(const DictLiteral& node, int line) {
  std::vector<std::pair<Value, Value>> items;
  items.reserve(node.items.size());
  for (const auto& [key, value] : node.items) {
    Value name = evaluate(*key);
    items.emplace_back(std::move(name), evaluate(*value));
  }
  runtime_.line = line;
  return make_dict(runtime_, std::move(items));
}

Value Evaluator::on(const Attribute& node, int line) {
  const Value object = evaluate(*node.object);
  runtime_.line = line;
  return get_attribute(runtime_, object, node.name);
}

Value Evaluator::on(const Item& node, int line) {
  const Value object = evaluate(*node.object);
  if (const auto* slice = std::get_if<Slice>(&node.key->node)) {
    const auto bound = [&](const ExpressionPtr& value) {
      return value ? evaluate(*value) : Value();
    };
    const Value start = bound(slice->start);
    const Value stop = bound(slice->stop);
    const Value step = bound(slice->step);
    runtime_.line = line;
    return get_slice(runtime_, object, start, stop, step);
  }
  const Value key = evaluate(*node.key);
  runtime_.line = line;
  return get_item(runtime_, object, key);
}

Value Evaluator::on(const Slice&, int) {
  runtime_.fail("a slice stands only in a subscript");
}

CallArguments Evaluator::arguments(const CallParts& parts, const Value* caller) {
  CallArguments args;
  args.positional = evaluate_all(parts.positional);
  for (const auto& [name, value] : parts.keyword) args.keyword.emplace_back(name, evaluate(*value));
  if (caller != nullptr) args.keyword.emplace_back("caller", *caller);
  if (parts.more_positional) {
    for_each(runtime_, evaluate(*parts.more_positional), [&](const Value& item) {
      args.positional.push_back(item);
      return true;
    });
  }
  if (!parts.more_keyword) return args;
  const Value more = evaluate(*parts.more_keyword);
  if (!more.is(Kind::kDict)) {
    runtime_.fail("argument after ** must be a mapping, not {}", type_name(more));
  }
  for (const auto& [key, value] : more.dict().items) {
    if (!key.is_string()) runtime_.fail("keywords must be strings");
    for (const auto& [name, other] : args.keyword) {
      if (name == key.view()) {
        runtime_.fail("got multiple values for keyword argument '{}'", shorten(name));
      }
    }
    runtime_.step(1 + args.keyword.size());
    args.keyword.emplace_back(std::string(key.view()), value);
  }
  return args;
}

Value Evaluator::on(const Call& node, int line) {
  const Value callee = evaluate(*node.callee);
  CallArguments args = arguments(node.args);
  runtime_.line = line;
  return call(callee, std::move(args));
}

Value Evaluator::call(const Value& callee, CallArguments args) {
  switch (callee.kind()) {
    case Kind::kFunction: {
      const Function& function = callee.function();
      Value result = function.call(runtime_, function.self, args);
      if (result.is(Kind::kNamespace)) namespaces_.push_back(result);
      return result;
    }
    case Kind::kMacro:
      return call_macro(callee.object<Macro>(), std::move(args));
    case Kind::kLoop:
      return call_loop(callee.object<Loop>(), args);
    case Kind::kUndefined:
      fail_undefined(runtime_, callee);
    default:
      runtime_.fail("'{}' object is not callable", type_name(callee));
  }
}

Value Evaluator::on(const FilterCall& node, int line) {
  const Value input = node.input ? evaluate(*node.input) : filter_input_;
  if (node.filter == nullptr) runtime_.fail("No filter named '{}' found.", node.name);
  const CallArguments args = arguments(node.args);
  runtime_.line = line;
  if (node.filter->apply == nullptr) {
    runtime_.fail("the filter '{}' is not supported", node.name);
  }
  return node.filter->apply(runtime_, input, args);
}

Value Evaluator::on(const TestCall& node, int line) {
  const Value input = evaluate(*node.input);
  if (node.predicate == nullptr) runtime_.fail("No test named '{}' found.", node.name);
  const CallArguments args = arguments(node.args);
  runtime_.line = line;
  return Value(node.predicate->holds(runtime_, input, args));
}

Value Evaluator::on(const Unary& node, int line) {
  const Value value = evaluate(*node.value);
  runtime_.line = line;
  switch (node.op) {
    case Unary::Op::kNot:
      return Value(!truth(runtime_, value));
    case Unary::Op::kMinus:
      return negate(runtime_, value);
    case Unary::Op::kPlus:
      break;
  }
  return posate(runtime_, value);
}

Value Evaluator::on(const Binary& node, int line) {
  const Value left = evaluate(*node.left);
  const Value right = evaluate(*node.right);
  runtime_.line = line;
  return binary(runtime_, node.op, left, right);
}

Value Evaluator::on(const Concat& node, int) {
  std::string text;
  const Values parts = evaluate_all(node.parts);
  for (const Value& part : parts) {
    text += to_text(runtime_, part);
    if (text.size() > runtime_.limits().memory_bytes) {
      runtime_.fail("the template holds more than {} bytes of values",
                    runtime_.limits().memory_bytes);
    }
  }
  return make_text(runtime_, std::move(text));
}

Value Evaluator::on(const Logical& node, int) {
  Value left = evaluate(*node.left);
  return truth(runtime_, left) == node.is_and ? evaluate(*node.right) : left;
}

Value Evaluator::on(const Compare& node, int line) {
  Value left = evaluate(*node.first);
  for (const auto& [op, expression] : node.rest) {
    Value right = evaluate(*expression);
    runtime_.line = line;
    if (!compare(runtime_, op, left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Evaluator::on(const Conditional& node, int line) {
  if (truth(runtime_, evaluate(*node.condition))) return evaluate(*node.then);
  if (node.otherwise) return evaluate(*node.otherwise);
  return make_undefined(runtime_,
                        fmt::format("the inline if-expression on line {} evaluated to false and no "
                                    "else section was defined.",
                                    line));
}

}  // namespace moeopt::jinja
