// Renders a parsed template: walks the tree with the inputs as its variables.
// Invariant: one Evaluator is one render; every loop and recursion in it is charged to the Runtime.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/loop.h"
#include "text/jinja/macro.h"
#include "text/jinja/scope.h"

namespace moeopt::jinja {

class Evaluator {
 public:
  // `inputs` is a dict of the variables; both arguments and every tree rendered must outlive this.
  Evaluator(Runtime& runtime, const Value& inputs);
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;
  ~Evaluator();

  // Fails (Error) with the template's line.
  std::string render(const Body& body);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  // Restores the scope on the way out.
  class ScopeSwap;
  // Redirects the output to a text of its own.
  class Capture;

  // evaluator.cpp: expressions
  Value evaluate(const Expression& expression);
  Value on(const Literal& node, int line);
  Value on(const Name& node, int line);
  Value on(const TupleLiteral& node, int line);
  Value on(const ListLiteral& node, int line);
  Value on(const DictLiteral& node, int line);
  Value on(const Attribute& node, int line);
  Value on(const Item& node, int line);
  Value on(const Slice& node, int line);
  Value on(const Call& node, int line);
  Value on(const FilterCall& node, int line);
  Value on(const TestCall& node, int line);
  Value on(const Unary& node, int line);
  Value on(const Binary& node, int line);
  Value on(const Concat& node, int line);
  Value on(const Logical& node, int line);
  Value on(const Compare& node, int line);
  Value on(const Conditional& node, int line);
  Values evaluate_all(const Expressions& expressions);
  // `caller` is the call block that calls, or null.
  CallArguments arguments(const CallParts& parts, const Value* caller = nullptr);
  Value lookup(std::string_view name);
  Value call(const Value& callee, CallArguments args);

  // statements.cpp
  Flow run(const Body& body);
  Flow run(const Statement& statement);
  Flow on(const TextStatement& node);
  Flow on(const OutputStatement& node);
  Flow on(const IfStatement& node);
  Flow on(const ForStatement& node);
  Flow on(const SetStatement& node);
  Flow on(const SetBlockStatement& node);
  Flow on(const MacroStatement& node);
  Flow on(const CallStatement& node);
  Flow on(const GenerationStatement& node);
  Flow on(const FilterStatement& node);
  Flow on(const WithStatement& node);
  Flow on(const BreakStatement& node);
  Flow on(const ContinueStatement& node);
  void run_loop(const ForStatement& node, const Value& iterable, std::int64_t depth0);
  Loop::Source filtered(const ForStatement& node, const Value& iterable);
  void assign(const Target& target, Value value);
  // Runs a block of its own scope, which is the current one.
  Flow run_block(const Body& body);
  void write(std::string_view text);
  // What a call or filter block gives: Jinja joins it with the rest unconverted.
  void write_only_text(const Value& value);

  // macro.cpp
  Value define(const MacroStatement& node);
  Value call_macro(const Macro& macro, CallArguments args);
  void bind(const MacroStatement& node, CallArguments& args);
  Value call_loop(Loop& loop, const CallArguments& args);

  Runtime& runtime_;
  const Value& inputs_;
  std::shared_ptr<Scope> scope_;
  Value filter_input_;  // of the filter of a block
  std::string* out_ = nullptr;
  std::size_t written_ = 0;  // in all texts that are being written
  // What may be part of a cycle is held here, and emptied at the end.
  std::vector<std::shared_ptr<Scope>> macro_scopes_;
  std::vector<Value> namespaces_;
};

class Evaluator::ScopeSwap {
 public:
  ScopeSwap(Evaluator& evaluator, std::shared_ptr<Scope> scope)
      : evaluator_(evaluator), outer_(std::exchange(evaluator.scope_, std::move(scope))) {}
  ScopeSwap(const ScopeSwap&) = delete;
  ScopeSwap& operator=(const ScopeSwap&) = delete;
  ~ScopeSwap() { evaluator_.scope_ = std::move(outer_); }

 private:
  Evaluator& evaluator_;
  std::shared_ptr<Scope> outer_;
};

class Evaluator::Capture {
 public:
  explicit Capture(Evaluator& evaluator)
      : evaluator_(evaluator), outer_(std::exchange(evaluator.out_, &text_)) {}
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture() {
    evaluator_.written_ -= text_.size();
    evaluator_.out_ = outer_;
  }

  Value take(Runtime& runtime) { return make_text(runtime, text_); }
  std::string& text() { return text_; }

 private:
  Evaluator& evaluator_;
  std::string text_;
  std::string* outer_;
};

// The variable of that name that every template has, or nothing. Fails for Jinja's that are left
// out.
std::optional<Value> find_global(Runtime& runtime, std::string_view name);

}  // namespace moeopt::jinja
