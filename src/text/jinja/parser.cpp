#include "text/jinja/parser.h"

#include <algorithm>

#include "base/error.h"
#include "text/jinja/parser_state.h"
#include "text/jinja/scope_analysis.h"

namespace moeopt::jinja {

Parser::Nested::Nested(Parser& parser) : parser_(parser) {
  if (parser.depth_ >= kMaxTreeDepth) {
    parser.fail_here(fmt::format("the template is nested deeper than {}", kMaxTreeDepth));
  }
  ++parser.depth_;
}

void Parser::fail(int line, std::string_view message) const {
  throw_error(ErrorCode::kInvalidData, "{}:{}: {}", where_, line, message);
}

bool Parser::skip_operator(std::string_view sign) {
  const bool there = at_operator(sign);
  if (there) next();
  return there;
}

bool Parser::skip_name(std::string_view name) {
  const bool there = at_name(name);
  if (there) next();
  return there;
}

void Parser::expect_operator(std::string_view sign) {
  if (!skip_operator(sign)) fail_unexpected(sign);
}

const Token& Parser::expect_name() {
  if (current().kind != TokenKind::kName) fail_unexpected("name");
  return next();
}

void Parser::expect(TokenKind kind, std::string_view description) {
  if (current().kind != kind) fail_unexpected(description);
  next();
}

Body Parser::run() {
  Body body = statements({});
  refuse_unknown_names(0);
  return body;
}

void Parser::refuse_unknown_names(std::size_t from) {
  if (unknown_.size() > from) fail(unknown_[from].line, unknown_[from].message);
}

void Parser::add(Body& body, int line, auto node) {
  auto statement = std::make_unique<Statement>();
  statement->line = line;
  statement->node = std::move(node);
  body.statements.push_back(std::move(statement));
}

// Up to the tag that one of `ends` opens, which stays the current token; without ends, to the end.
Body Parser::statements(EndNames ends) {
  const Nested nested(*this);
  Body body;
  while (current().kind != TokenKind::kEnd) {
    const Token& token = next();
    const int line = token.line;
    if (token.kind == TokenKind::kText) {
      add(body, line, TextStatement{token.text});
    } else if (token.kind == TokenKind::kOutputBegin) {
      add(body, line, OutputStatement{tuple(true, {}, false)});
      expect(TokenKind::kOutputEnd, "end of print statement");
    } else {
      const bool ended =
          std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return at_name(end); });
      if (ended) return body;
      statement(body);
      expect(TokenKind::kBlockEnd, "end of statement block");
    }
  }
  if (ends.size() != 0) {
    std::string names;
    for (const std::string_view end : ends) {
      names += fmt::format("{}'{}'", names.empty() ? "" : " or ", end);
    }
    fail_here("Unexpected end of template. Jinja was looking for the following tags: " + names +
              ".");
  }
  return body;
}

// The body of the tag that ends here.
Body Parser::inner_statements(EndNames ends) {
  skip_operator(":");
  expect(TokenKind::kBlockEnd, "end of statement block");
  return statements(ends);
}

void Parser::statement(Body& body) {
  if (current().kind != TokenKind::kName) fail_here("tag name expected");
  const Token& tag = next();
  const int line = tag.line;
  const std::string_view name = tag.text;
  if (name == "if") return parse_if(body, line);
  if (name == "for") return parse_for(body, line);
  if (name == "set") return parse_set(body, line);
  if (name == "macro") return parse_macro(body, line);
  if (name == "call") return parse_call(body, line);
  if (name == "generation") return parse_generation(body, line);
  if (name == "filter") return parse_filter(body, line);
  if (name == "with") return parse_with(body, line);
  if (name == "print") return parse_print(body, line);
  if (name == "break") return parse_loop_control(body, line, true);
  if (name == "continue") return parse_loop_control(body, line, false);
  static constexpr std::string_view kLeftOut[] = {"include", "import", "from",
                                                  "extends", "block",  "autoescape"};
  if (std::find(std::begin(kLeftOut), std::end(kLeftOut), name) != std::end(kLeftOut)) {
    fail(line, fmt::format("the tag '{}' is not supported", name));
  }
  fail(line, fmt::format("Encountered unknown tag '{}'.", name));
}

void Parser::parse_if(Body& body, int line) {
  const std::size_t known = unknown_.size();
  IfStatement made;
  while (true) {
    ExpressionPtr condition = tuple(false, {}, false);
    made.branches.emplace_back(std::move(condition), inner_statements({"elif", "else", "endif"}));
    const Token& end = next();
    if (end.text == "elif") continue;
    if (end.text == "else") {
      made.otherwise = inner_statements({"endif"});
      next();
    }
    break;
  }
  unknown_.resize(known);
  add(body, line, std::move(made));
}

void Parser::parse_for(Body& body, int line) {
  ForStatement made;
  made.target = target("in", false);
  if (made.target.name == "loop") {
    fail(line, "Can't assign to special loop variable in for-loop target");
  }
  if (!skip_name("in")) fail_unexpected("in");
  made.iterable = tuple(false, "recursive", false);
  const std::size_t known = unknown_.size();
  if (skip_name("if")) made.filter = expression();
  made.recursive = skip_name("recursive");
  ++loops_;
  made.body = inner_statements({"endfor", "else"});
  --loops_;
  if (next().text == "else") {
    made.otherwise = inner_statements({"endfor"});
    next();
  }
  refuse_unknown_names(known);
  add(body, line, std::move(made));
}

void Parser::parse_set(Body& body, int line) {
  Target name = target({}, true);
  if (skip_operator("=")) {
    return add(body, line, SetStatement{std::move(name), tuple(true, {}, false)});
  }
  SetBlockStatement made;
  made.target = std::move(name);
  while (skip_operator("|")) made.filter = filter(std::move(made.filter));
  const std::size_t known = unknown_.size();
  made.body = inner_statements({"endset"});
  next();
  refuse_unknown_names(known);
  add(body, line, std::move(made));
}

Body Parser::function_body(std::string_view end, MacroStatement* macro) {
  const std::size_t known = unknown_.size();
  const int loops = std::exchange(loops_, 0);
  macros_.emplace_back();
  Body body = inner_statements({end});
  next();
  if (macro != nullptr) {
    macro->uses_caller = macros_.back().caller;
    macro->uses_kwargs = macros_.back().kwargs;
    macro->uses_varargs = macros_.back().varargs;
  }
  macros_.pop_back();
  loops_ = loops;
  refuse_unknown_names(known);
  return body;
}

void Parser::parse_signature(MacroStatement& macro) {
  expect_operator("(");
  while (!at_operator(")")) {
    if (!macro.parameters.empty()) expect_operator(",");
    std::string name = assignable_name();
    if (std::find(macro.parameters.begin(), macro.parameters.end(), name) !=
        macro.parameters.end()) {
      fail_here(fmt::format("duplicate argument '{}' in function definition", name));
    }
    if (skip_operator("=")) {
      macro.defaults.push_back(expression());
    } else if (!macro.defaults.empty()) {
      fail_here("non-default argument follows default argument");
    }
    macro.parameters.push_back(std::move(name));
    if (macro.parameters.size() > kMaxArguments) fail_here("too many parameters");
  }
  expect_operator(")");
}

void Parser::parse_macro(Body& body, int line) {
  MacroStatement made;
  made.name = assignable_name();
  const std::size_t known = unknown_.size();
  parse_signature(made);
  made.body = function_body("endmacro", &made);
  refuse_unknown_names(known);
  add(body, line, std::move(made));
}

void Parser::parse_call(Body& body, int line) {
  CallStatement made;
  const std::size_t known = unknown_.size();
  if (at_operator("(")) parse_signature(made.caller);
  made.call = expression();
  if (!std::holds_alternative<Call>(made.call->node)) fail(line, "expected call");
  made.caller.body = function_body("endcall", &made.caller);
  refuse_unknown_names(known);
  add(body, line, std::move(made));
}

void Parser::parse_generation(Body& body, int line) {
  add(body, line, GenerationStatement{function_body("endgeneration", nullptr)});
}

void Parser::parse_filter(Body& body, int line) {
  FilterStatement made;
  do {
    made.filter = filter(std::move(made.filter));
  } while (skip_operator("|"));
  const std::size_t known = unknown_.size();
  made.body = inner_statements({"endfilter"});
  next();
  refuse_unknown_names(known);
  add(body, line, std::move(made));
}

void Parser::parse_with(Body& body, int line) {
  WithStatement made;
  const std::size_t known = unknown_.size();
  while (current().kind != TokenKind::kBlockEnd) {
    if (!made.values.empty()) expect_operator(",");
    Target name = target({}, false);
    expect_operator("=");
    made.values.emplace_back(std::move(name), expression());
  }
  made.body = inner_statements({"endwith"});
  next();
  refuse_unknown_names(known);
  add(body, line, std::move(made));
}

void Parser::parse_print(Body& body, int line) {
  bool first = true;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!first) expect_operator(",");
    first = false;
    add(body, line, OutputStatement{expression()});
  }
}

void Parser::parse_loop_control(Body& body, int line, bool is_break) {
  if (loops_ == 0) {
    fail(line, is_break ? "'break' outside loop" : "'continue' not properly in loop");
  }
  if (is_break) {
    add(body, line, BreakStatement{});
  } else {
    add(body, line, ContinueStatement{});
  }
}

std::string Parser::assignable_name() {
  const Token& token = expect_name();
  static constexpr std::string_view kReserved[] = {"true", "false", "none",
                                                   "True", "False", "None"};
  if (std::find(std::begin(kReserved), std::end(kReserved), token.text) != std::end(kReserved)) {
    fail(token.line, fmt::format("can't assign to '{}'", token.text));
  }
  return token.text;
}

Target Parser::single_target(bool with_attribute) {
  const Nested nested(*this);
  if (skip_operator("(")) {
    Target inner = target(")", false);
    expect_operator(")");
    return inner;
  }
  Target made;
  made.name = assignable_name();
  if (with_attribute && skip_operator(".")) made.attribute = expect_name().text;
  return made;
}

Target Parser::target(std::string_view end, bool with_attribute) {
  Target first = single_target(with_attribute);
  if (!at_operator(",")) return first;
  Target made;
  made.is_tuple = true;
  made.targets.push_back(std::move(first));
  while (skip_operator(",")) {
    if (at_tuple_end(end) || at_operator("=")) break;
    made.targets.push_back(single_target(with_attribute));
  }
  return made;
}

Body parse_template(std::string_view source, std::string_view where) {
  if (source.size() > kMaxTemplateBytes) {
    throw_error(ErrorCode::kInvalidData, "{}: {} bytes of template, the limit is {}", where,
                source.size(), kMaxTemplateBytes);
  }
  Body body = Parser(tokenize(source, where), where).run();
  find_hidden_names(body);
  return body;
}

}  // namespace moeopt::jinja
