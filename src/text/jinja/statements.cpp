#include "text/jinja/evaluator.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace moeopt::jinja {
namespace {

// Empties a loop when its statement ends, however it ends.
class LoopEnd {
 public:
  explicit LoopEnd(Loop& loop) : loop_(loop) {}
  LoopEnd(const LoopEnd&) = delete;
  LoopEnd& operator=(const LoopEnd&) = delete;
  ~LoopEnd() { loop_.finish(); }

 private:
  Loop& loop_;
};

std::shared_ptr<Scope> inside(const std::shared_ptr<Scope>& parent) {
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  return scope;
}

}  // namespace

void Evaluator::write(std::string_view text) {
  if (text.size() > runtime_.limits().output_bytes - written_) {
    runtime_.fail("the output exceeds {} bytes", runtime_.limits().output_bytes);
  }
  runtime_.step_bytes(text.size());
  out_->append(text);
  written_ += text.size();
}

void Evaluator::write_only_text(const Value& value) {
  if (!value.is_string()) {
    runtime_.fail("a block gives a str to the output, not {}", type_name(value));
  }
  write(value.view());
}

Evaluator::Flow Evaluator::run(const Body& body) {
  const DepthGuard guard(runtime_);
  for (const auto& statement : body.statements) {
    runtime_.step();
    runtime_.line = statement->line;
    if (const Flow flow = run(*statement); flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::run_block(const Body& body) {
  for (const std::string& name : body.hidden) {
    // Only what would be found elsewhere needs hiding.
    const bool set = scope_->find(runtime_, name) != nullptr;
    if (set || find_item(runtime_, inputs_.dict(), name) == nullptr) continue;
    scope_->set(runtime_, name, make_undefined(runtime_, fmt::format("'{}' is undefined", name)));
  }
  return run(body);
}

Evaluator::Flow Evaluator::run(const Statement& statement) {
  return std::visit([&](const auto& node) { return on(node); }, statement.node);
}

Evaluator::Flow Evaluator::on(const TextStatement& node) {
  write(node.text);
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::on(const OutputStatement& node) {
  const Value value = evaluate(*node.value);
  if (value.is_string()) {
    write(value.view());
  } else {
    write(to_text(runtime_, value));
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::on(const IfStatement& node) {
  for (const auto& [condition, body] : node.branches) {
    if (truth(runtime_, evaluate(*condition))) return run(body);
  }
  return run(node.otherwise);
}

Evaluator::Flow Evaluator::on(const ForStatement& node) {
  const Value iterable = evaluate(*node.iterable);
  run_loop(node, iterable, 0);
  return Flow::kNormal;
}

Loop::Source Evaluator::filtered(const ForStatement& node, const Value& iterable) {
  Loop::Source source = make_source(runtime_, iterable);
  if (!node.filter) return source;
  return [this, &node, source = std::move(source), around = scope_](Value& out) {
    while (source(out)) {
      const ScopeSwap swap(*this, inside(around));
      assign(node.target, out);
      if (truth(runtime_, evaluate(*node.filter))) return true;
    }
    return false;
  };
}

void Evaluator::run_loop(const ForStatement& node, const Value& iterable, std::int64_t depth0) {
  const auto length = node.filter ? std::nullopt : length_of(iterable);
  const auto loop = std::make_shared<Loop>(runtime_, filtered(node, iterable), length, depth0);
  const LoopEnd end(*loop);
  if (node.recursive) {
    loop->recursive = &node;
    loop->scope = scope_;
  }
  const Value loop_value(Kind::kLoop, loop);
  const std::shared_ptr<Scope> around = scope_;
  std::shared_ptr<Scope> scope;
  // NOTE: an iteration that ends by break or continue does not keep Jinja from running the else.
  bool completed = false;
  while (loop->advance()) {
    if (scope && scope.use_count() == 1) {
      scope->variables.clear();
    } else {
      scope = inside(around);
    }
    const ScopeSwap swap(*this, scope);
    assign(node.target, loop->current());
    scope->set(runtime_, "loop", loop_value);
    if (const Flow flow = run_block(node.body); flow == Flow::kBreak) {
      break;
    } else if (flow == Flow::kNormal) {
      completed = true;
    }
  }
  if (completed) return;
  const ScopeSwap swap(*this, inside(around));
  run_block(node.otherwise);
}

Evaluator::Flow Evaluator::on(const SetStatement& node) {
  assign(node.target, evaluate(*node.value));
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::on(const SetBlockStatement& node) {
  Value text;
  {
    Capture capture(*this);
    const ScopeSwap swap(*this, inside(scope_));
    if (const Flow flow = run_block(node.body); flow != Flow::kNormal) return flow;
    text = capture.take(runtime_);
    if (node.filter) {
      filter_input_ = std::move(text);
      text = evaluate(*node.filter);
    }
  }
  assign(node.target, std::move(text));
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::on(const MacroStatement& node) {
  scope_->set(runtime_, node.name, define(node));
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::on(const CallStatement& node) {
  const auto& target = std::get<Call>(node.call->node);
  const Value caller = define(node.caller);
  const Value callee = evaluate(*target.callee);
  CallArguments args = arguments(target.args, &caller);
  write_only_text(call(callee, std::move(args)));
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::on(const GenerationStatement& node) {
  const ScopeSwap swap(*this, inside(scope_));
  return run_block(node.body);
}

Evaluator::Flow Evaluator::on(const FilterStatement& node) {
  Value text;
  {
    Capture capture(*this);
    const ScopeSwap swap(*this, inside(scope_));
    if (const Flow flow = run_block(node.body); flow != Flow::kNormal) return flow;
    filter_input_ = capture.take(runtime_);
    text = evaluate(*node.filter);
  }
  write_only_text(text);
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::on(const WithStatement& node) {
  const auto scope = inside(scope_);
  for (const auto& [target, expression] : node.values) {
    Value value = evaluate(*expression);
    const ScopeSwap swap(*this, scope);
    assign(target, std::move(value));
  }
  const ScopeSwap swap(*this, scope);
  return run_block(node.body);
}

Evaluator::Flow Evaluator::on(const BreakStatement&) {
  return Flow::kBreak;
}

Evaluator::Flow Evaluator::on(const ContinueStatement&) {
  return Flow::kContinue;
}

void Evaluator::assign(const Target& target, Value value) {
  runtime_.step();
  if (target.is_tuple) {
    if (!is_iterable(value)) {
      runtime_.fail("cannot unpack non-iterable {} object", type_name(value));
    }
    Values items = to_values(runtime_, value);
    const std::size_t expected = target.targets.size();
    if (items.size() < expected) {
      runtime_.fail("not enough values to unpack (expected {}, got {})", expected, items.size());
    }
    if (items.size() > expected) {
      runtime_.fail("too many values to unpack (expected {})", expected);
    }
    for (std::size_t i = 0; i < expected; ++i) assign(target.targets[i], std::move(items[i]));
    return;
  }
  if (target.attribute.empty()) return scope_->set(runtime_, target.name, std::move(value));
  const Value owner = lookup(target.name);
  if (!owner.is(Kind::kNamespace)) {
    runtime_.fail("cannot assign attribute on non-namespace object");
  }
  auto& attributes = owner.name_space().attributes;
  runtime_.step(1 + attributes.size() / 8);
  for (auto& [name, old] : attributes) {
    if (name == target.attribute) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(target.attribute, std::move(value));
}

}  // namespace moeopt::jinja
