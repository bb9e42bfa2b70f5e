#include "text/jinja/macro.h"

#include <algorithm>

#include "text/jinja/evaluator.h"
#include "text/jinja/python_text.h"

namespace moeopt::jinja {
namespace {

std::optional<Value> take_keyword(CallArguments& args, std::string_view name) {
  const auto found = std::find_if(args.keyword.begin(), args.keyword.end(),
                                  [&](const auto& pair) { return pair.first == name; });
  if (found == args.keyword.end()) return std::nullopt;
  Value value = std::move(found->second);
  args.keyword.erase(found);
  return value;
}

}  // namespace

std::string Macro::describe() const {
  return definition->name.empty() ? "<Macro anonymous>"
                                  : fmt::format("<Macro {}>", repr_text(definition->name));
}

Value Evaluator::define(const MacroStatement& node) {
  if (macro_scopes_.empty() || macro_scopes_.back() != scope_) macro_scopes_.push_back(scope_);
  return Value(Kind::kMacro, std::make_shared<Macro>(runtime_, node, scope_));
}

// Sets the parameters in the current scope.
void Evaluator::bind(const MacroStatement& node, CallArguments& args) {
  const std::size_t count = node.parameters.size();
  const std::size_t given = std::min(count, args.positional.size());
  std::vector<bool> missing(count, false);
  for (std::size_t i = 0; i < count; ++i) {
    std::optional<Value> value;
    if (i < given) {
      value = args.positional[i];
    } else {
      value = take_keyword(args, node.parameters[i]);
    }
    missing[i] = !value.has_value();
    if (value) scope_->set(runtime_, node.parameters[i], *std::move(value));
  }
  if (node.uses_caller && std::find(node.parameters.begin(), node.parameters.end(), "caller") ==
                              node.parameters.end()) {
    auto caller = take_keyword(args, "caller");
    scope_->set(runtime_, "caller",
                caller ? *std::move(caller) : make_undefined(runtime_, "No caller defined"));
  }
  if (node.uses_kwargs) {
    std::vector<std::pair<Value, Value>> items;
    for (auto& [name, value] : args.keyword) {
      items.emplace_back(make_text(runtime_, name), std::move(value));
    }
    scope_->set(runtime_, "kwargs", make_dict(runtime_, std::move(items)));
  } else if (!args.keyword.empty()) {
    runtime_.fail("macro {} takes no keyword argument {}",
                  node.name.empty() ? "None" : repr_text(node.name),
                  repr_text(shorten(args.keyword.front().first)));
  }
  if (node.uses_varargs) {
    Values more(args.positional.begin() + static_cast<std::ptrdiff_t>(given),
                args.positional.end());
    scope_->set(runtime_, "varargs", make_tuple(runtime_, std::move(more)));
  } else if (args.positional.size() > count) {
    runtime_.fail("macro {} takes not more than {} argument(s)",
                  node.name.empty() ? "None" : repr_text(node.name), count);
  }
  const std::size_t without_default = count - node.defaults.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (!missing[i]) continue;
    Value value = i >= without_default
                      ? evaluate(*node.defaults[i - without_default])
                      : make_undefined(runtime_, fmt::format("parameter '{}' was not provided",
                                                             node.parameters[i]));
    scope_->set(runtime_, node.parameters[i], std::move(value));
  }
}

Value Evaluator::call_macro(const Macro& macro, CallArguments args) {
  const DepthGuard guard(runtime_);
  const int line = runtime_.line;
  const MacroStatement& node = *macro.definition;
  auto scope = std::make_shared<Scope>();
  scope->parent = macro.scope;
  Capture capture(*this);
  const ScopeSwap swap(*this, std::move(scope));
  bind(node, args);
  run_block(node.body);
  runtime_.line = line;
  return capture.take(runtime_);
}

Value Evaluator::call_loop(Loop& loop, const CallArguments& args) {
  if (loop.recursive == nullptr) {
    runtime_.fail("The loop must have the 'recursive' marker to be called recursively.");
  }
  if (args.positional.size() != 1 || !args.keyword.empty()) {
    runtime_.fail("loop() takes exactly one argument");
  }
  if (!loop.scope) runtime_.fail("a loop cannot be called after its end");
  const DepthGuard guard(runtime_);
  const int line = runtime_.line;
  Capture capture(*this);
  const ScopeSwap swap(*this, loop.scope);
  run_loop(*loop.recursive, args.positional.front(), loop.depth());
  runtime_.line = line;
  return capture.take(runtime_);
}

}  // namespace moeopt::jinja
