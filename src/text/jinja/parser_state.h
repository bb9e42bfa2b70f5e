// The parser's inside: one class, whose expressions and statements are parsed in files of their
// own.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace moeopt::jinja {

// Names in one signature or call: each is compared with those before it.
inline constexpr std::size_t kMaxArguments = 1000;

class Parser {
 public:
  Parser(std::vector<Token> tokens, std::string_view where)
      : tokens_(std::move(tokens)), where_(where) {}

  Body run();

 private:
  // One level of recursion for as long as it lives.
  class Nested {
   public:
    explicit Nested(Parser& parser);
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    ~Nested() { --parser_.depth_; }

   private:
    Parser& parser_;
  };

  // Which of its special names the macros around the current token have used.
  struct MacroUses {
    bool caller = false;
    bool kwargs = false;
    bool varargs = false;
  };

  // A filter or test that does not exist: an error at once, but inside an if only when reached.
  struct UnknownName {
    int line;
    std::string message;
  };

  [[noreturn]] void fail(int line, std::string_view message) const;
  [[noreturn]] void fail_here(std::string_view message) const { fail(current().line, message); }
  [[noreturn]] void fail_unexpected(std::string_view expected) const;

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next() {
    const Token& token = tokens_[at_];
    if (token.kind != TokenKind::kEnd) ++at_;
    return token;
  }
  bool at_operator(std::string_view sign) const { return current().is_operator(sign); }
  bool at_name(std::string_view name) const { return current().is_name(name); }
  bool skip_operator(std::string_view sign);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view sign);
  const Token& expect_name();
  void expect(TokenKind kind, std::string_view description);

  // parser_expression.cpp
  template <typename Node>
  ExpressionPtr make(int line, Node node, int depth_below);
  ExpressionPtr expression(bool with_conditional = true);
  // Also "a, b" as a tuple. `end` is a name that ends it, next to the closing tag or bracket.
  ExpressionPtr tuple(bool with_conditional, std::string_view end, bool in_parentheses);
  bool at_tuple_end(std::string_view end) const;
  ExpressionPtr conditional();
  ExpressionPtr logical_or();
  ExpressionPtr logical_and();
  ExpressionPtr logical_not();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concat();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filter = true);
  ExpressionPtr primary();
  ExpressionPtr strings();
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr postfix(ExpressionPtr object);
  ExpressionPtr filters_and_tests(ExpressionPtr input);
  ExpressionPtr subscript(ExpressionPtr object);
  ExpressionPtr subscribed();
  ExpressionPtr call(ExpressionPtr callee);
  ExpressionPtr filter(ExpressionPtr input);
  ExpressionPtr test(ExpressionPtr input);
  CallParts call_parts();
  std::string dotted_name();
  void note_name(std::string_view name);

  // parser.cpp
  using EndNames = std::initializer_list<std::string_view>;
  Body statements(EndNames ends);
  Body inner_statements(EndNames ends);
  void statement(Body& body);
  void add(Body& body, int line, auto node);
  void parse_if(Body& body, int line);
  void parse_for(Body& body, int line);
  void parse_set(Body& body, int line);
  void parse_macro(Body& body, int line);
  void parse_call(Body& body, int line);
  void parse_generation(Body& body, int line);
  void parse_filter(Body& body, int line);
  void parse_with(Body& body, int line);
  void parse_print(Body& body, int line);
  void parse_loop_control(Body& body, int line, bool is_break);
  void parse_signature(MacroStatement& macro);
  // The body of a macro, a call block or a generation block: a function of its own.
  Body function_body(std::string_view end, MacroStatement* macro);
  Target target(std::string_view end, bool with_attribute);
  Target single_target(bool with_attribute);
  std::string assignable_name();
  void refuse_unknown_names(std::size_t from);

  std::vector<Token> tokens_;
  std::string_view where_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // around the current token, within its function
  std::vector<MacroUses> macros_;
  std::vector<UnknownName> unknown_;
};

}  // namespace moeopt::jinja
