// The parsed template. Invariant: no tree is deeper than kMaxTreeDepth, so walking it, and freeing
// it, fits the stack whatever the template says.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/predicates.h"
#include "text/jinja/value.h"

namespace moeopt::jinja {

inline constexpr int kMaxTreeDepth = 160;

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;
using Expressions = std::vector<ExpressionPtr>;

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct TupleLiteral {
  Expressions items;
};
struct ListLiteral {
  Expressions items;
};
struct DictLiteral {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};
struct Attribute {
  ExpressionPtr object;
  std::string name;
};
struct Item {
  ExpressionPtr object;
  ExpressionPtr key;
};
// A null bound is None. It stands only as the key of an Item.
struct Slice {
  ExpressionPtr start;
  ExpressionPtr stop;
  ExpressionPtr step;
};
struct CallParts {
  Expressions positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keyword;
  ExpressionPtr more_positional;  // *args
  ExpressionPtr more_keyword;     // **kwargs
};
struct Call {
  ExpressionPtr callee;
  CallParts args;
};
// `input` is null in {% filter %} and {% set x | filter %}: the captured text takes its place.
struct FilterCall {
  ExpressionPtr input;
  std::string name;
  const Filter* filter;  // nullptr: unknown, and an error when reached
  CallParts args;
};
struct TestCall {
  ExpressionPtr input;
  std::string name;
  const Predicate* predicate;  // nullptr: as above
  CallParts args;
};
struct Unary {
  enum class Op { kNot, kMinus, kPlus };
  Op op;
  ExpressionPtr value;
};
struct Binary {
  BinaryOp op;
  ExpressionPtr left;
  ExpressionPtr right;
};
struct Concat {
  Expressions parts;
};
struct Logical {
  bool is_and;
  ExpressionPtr left;
  ExpressionPtr right;
};
struct Compare {
  ExpressionPtr first;
  std::vector<std::pair<CompareOp, ExpressionPtr>> rest;
};
struct Conditional {
  ExpressionPtr condition;
  ExpressionPtr then;
  ExpressionPtr otherwise;  // null: undefined
};

struct Expression {
  int line = 0;
  int depth = 1;
  std::variant<Literal, Name, TupleLiteral, ListLiteral, DictLiteral, Attribute, Item, Slice, Call,
               FilterCall, TestCall, Unary, Binary, Concat, Logical, Compare, Conditional>
      node;
};

struct Statement;
// A block of statements; `hidden` are the names of scope_analysis.h.
struct Body {
  std::vector<std::unique_ptr<Statement>> statements;
  std::vector<std::string> hidden;
};

// What an assignment writes to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  std::string name;
  std::string attribute;        // of the namespace `name`, when not empty
  std::vector<Target> targets;  // when not empty, a tuple
  bool is_tuple = false;
};

struct TextStatement {
  std::string text;
};
struct OutputStatement {
  ExpressionPtr value;
};
struct IfStatement {
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};
struct ForStatement {
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr filter;  // null: every item
  bool recursive = false;
  Body body;
  Body otherwise;
};
struct SetStatement {
  Target target;
  ExpressionPtr value;
};
struct SetBlockStatement {
  Target target;
  ExpressionPtr filter;  // null: none
  Body body;
};
struct MacroStatement {
  std::string name;
  std::vector<std::string> parameters;
  Expressions defaults;  // of the last parameters
  bool uses_caller = false;
  bool uses_kwargs = false;
  bool uses_varargs = false;
  Body body;
};
struct CallStatement {
  MacroStatement caller;
  ExpressionPtr call;  // always a Call
};
// {% generation %}: the body in a scope of its own.
struct GenerationStatement {
  Body body;
};
struct FilterStatement {
  ExpressionPtr filter;
  Body body;
};
struct WithStatement {
  std::vector<std::pair<Target, ExpressionPtr>> values;
  Body body;
};
struct BreakStatement {};
struct ContinueStatement {};

struct Statement {
  int line = 0;
  std::variant<TextStatement, OutputStatement, IfStatement, ForStatement, SetStatement,
               SetBlockStatement, MacroStatement, CallStatement, GenerationStatement,
               FilterStatement, WithStatement, BreakStatement, ContinueStatement>
      node;
};

}  // namespace moeopt::jinja
