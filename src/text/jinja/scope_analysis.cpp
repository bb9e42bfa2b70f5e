#include "text/jinja/scope_analysis.h"

#include <functional>
#include <map>
#include <set>
#include <string_view>

namespace moeopt::jinja {
namespace {

using NameVisitor = std::function<void(std::string_view)>;

// Every name that an expression reads.
class NameWalk {
 public:
  explicit NameWalk(const NameVisitor& visit) : visit_(visit) {}

  void operator()(const ExpressionPtr& expression) const {
    if (expression) std::visit(*this, expression->node);
  }
  void operator()(const Expressions& expressions) const {
    for (const auto& expression : expressions) (*this)(expression);
  }
  void operator()(const CallParts& parts) const {
    (*this)(parts.positional);
    for (const auto& [name, value] : parts.keyword) (*this)(value);
    (*this)(parts.more_positional);
    (*this)(parts.more_keyword);
  }
  void operator()(const Literal&) const {}
  void operator()(const Name& node) const { visit_(node.name); }
  void operator()(const TupleLiteral& node) const { (*this)(node.items); }
  void operator()(const ListLiteral& node) const { (*this)(node.items); }
  void operator()(const DictLiteral& node) const {
    for (const auto& [key, value] : node.items) {
      (*this)(key);
      (*this)(value);
    }
  }
  void operator()(const Attribute& node) const { (*this)(node.object); }
  void operator()(const Item& node) const {
    (*this)(node.object);
    (*this)(node.key);
  }
  void operator()(const Slice& node) const {
    (*this)(node.start);
    (*this)(node.stop);
    (*this)(node.step);
  }
  void operator()(const Call& node) const {
    (*this)(node.callee);
    (*this)(node.args);
  }
  void operator()(const FilterCall& node) const {
    (*this)(node.input);
    (*this)(node.args);
  }
  void operator()(const TestCall& node) const {
    (*this)(node.input);
    (*this)(node.args);
  }
  void operator()(const Unary& node) const { (*this)(node.value); }
  void operator()(const Binary& node) const {
    (*this)(node.left);
    (*this)(node.right);
  }
  void operator()(const Concat& node) const { (*this)(node.parts); }
  void operator()(const Logical& node) const {
    (*this)(node.left);
    (*this)(node.right);
  }
  void operator()(const Compare& node) const {
    (*this)(node.first);
    for (const auto& [op, value] : node.rest) (*this)(value);
  }
  void operator()(const Conditional& node) const {
    (*this)(node.condition);
    (*this)(node.then);
    (*this)(node.otherwise);
  }

 private:
  const NameVisitor& visit_;
};

// What one block knows of its names. A branch of an if starts from all that the block knows
// (`base`) and holds only what it adds.
struct Symbols {
  enum class Origin { kOutside, kOwn, kUndefined };

  const Symbols* parent = nullptr;
  const Symbols* base = nullptr;
  std::map<std::string_view, Origin> origins;
  std::set<std::string_view> stored;

  bool has(std::string_view name) const {
    for (const Symbols* at = this; at != nullptr; at = at->base) {
      if (at->origins.contains(name)) return true;
    }
    return false;
  }
  bool has_stored(std::string_view name) const {
    for (const Symbols* at = this; at != nullptr; at = at->base) {
      if (at->stored.contains(name)) return true;
    }
    return false;
  }
  bool knows(std::string_view name) const {
    for (const Symbols* at = this; at != nullptr; at = at->parent) {
      if (at->has(name)) return true;
    }
    return false;
  }
  void load(std::string_view name) {
    if (!knows(name)) origins.emplace(name, Origin::kOutside);
  }
  void declare(std::string_view name) {
    stored.insert(name);
    origins[name] = Origin::kOwn;
  }
  void store(std::string_view name) {
    stored.insert(name);
    if (has(name)) return;
    const bool outside = parent != nullptr && parent->knows(name);
    origins.emplace(name, outside ? Origin::kOutside : Origin::kUndefined);
  }
  // A name that not every one of the branches of an if stores comes from outside until then.
  void merge(const std::vector<Symbols>& branches, std::size_t total) {
    std::map<std::string_view, std::size_t> counts;
    for (const Symbols& branch : branches) {
      for (const std::string_view name : branch.stored) {
        if (!has_stored(name)) ++counts[name];
      }
    }
    for (const Symbols& branch : branches) {
      for (const auto& [name, origin] : branch.origins) origins[name] = origin;
      stored.insert(branch.stored.begin(), branch.stored.end());
    }
    for (const auto& [name, count] : counts) {
      if (count != total) origins[name] = Origin::kOutside;
    }
  }
};

// Reads one block's statements, in order, without going into the blocks inside.
class BlockWalk {
 public:
  explicit BlockWalk(Symbols& symbols) : symbols_(&symbols) {}

  void read(const ExpressionPtr& expression) const {
    const NameVisitor visit = [this](std::string_view name) { symbols_->load(name); };
    NameWalk{visit}(expression);
  }
  void write(const Target& target) const {
    if (target.is_tuple) {
      for (const Target& inner : target.targets) write(inner);
    } else if (target.attribute.empty()) {
      symbols_->store(target.name);
    } else {
      symbols_->load(target.name);
    }
  }
  void declare(const Target& target) const {
    for (const Target& inner : target.targets) declare(inner);
    if (!target.is_tuple) declare(std::string_view(target.name));
  }
  // `name` outlives the walk: it is the template's, or a literal.
  void declare(std::string_view name) const { symbols_->declare(name); }
  void walk(const Body& body) {
    for (const auto& statement : body.statements) {
      std::visit([this](const auto& node) { on(node); }, statement->node);
    }
  }

 private:
  void on(const TextStatement&) {}
  void on(const OutputStatement& node) { read(node.value); }
  // Three branches, whether there or not: the first body, all the elifs, and the else.
  void on(const IfStatement& node) {
    read(node.branches.front().first);
    std::vector<Symbols> branches;
    branches.push_back(branch([&] { walk(node.branches.front().second); }));
    branches.push_back(branch([&] {
      for (std::size_t i = 1; i < node.branches.size(); ++i) elif (node.branches[i]);
    }));
    branches.push_back(branch([&] { walk(node.otherwise); }));
    symbols_->merge(branches, 3);
  }
  // An elif is an if of its own that has neither elif nor else.
  void elif (const std::pair<ExpressionPtr, Body>& node) {
    read(node.first);
    std::vector<Symbols> branches;
    branches.push_back(branch([&] { walk(node.second); }));
    symbols_->merge(branches, 3);
  }
  Symbols branch(const std::function<void()>& visit) {
    Symbols inner;
    inner.parent = symbols_->parent;
    inner.base = symbols_;
    Symbols* outer = std::exchange(symbols_, &inner);
    visit();
    symbols_ = outer;
    return inner;
  }
  void on(const ForStatement& node) { read(node.iterable); }
  void on(const SetStatement& node) {
    read(node.value);
    write(node.target);
  }
  void on(const SetBlockStatement& node) { write(node.target); }
  void on(const MacroStatement& node) { symbols_->store(node.name); }
  void on(const CallStatement& node) { read(node.call); }
  void on(const GenerationStatement&) {}
  void on(const FilterStatement& node) { read(node.filter); }
  void on(const WithStatement& node) {
    for (const auto& [target, value] : node.values) read(value);
  }
  void on(const BreakStatement&) {}
  void on(const ContinueStatement&) {}

  Symbols* symbols_;
};

// Goes through the blocks, outer before inner: what a block stores later counts inside it.
class Analysis {
 public:
  void block(Body& body, const Symbols* parent, const std::function<void(BlockWalk&)>& before) {
    Symbols symbols;
    symbols.parent = parent;
    BlockWalk walk(symbols);
    before(walk);
    walk.walk(body);
    for (const auto& [name, origin] : symbols.origins) {
      if (origin == Symbols::Origin::kUndefined) body.hidden.emplace_back(name);
    }
    inner(body, symbols);
  }

 private:
  static void nothing(BlockWalk&) {}

  void inner(Body& body, const Symbols& symbols) {
    for (const auto& statement : body.statements) {
      std::visit([&](auto& node) { on(node, symbols); }, statement->node);
    }
  }
  template <typename Node>
  void on(Node&, const Symbols&) {}
  void on(IfStatement& node, const Symbols& symbols) {
    for (auto& [condition, body] : node.branches) inner(body, symbols);
    inner(node.otherwise, symbols);
  }
  void on(ForStatement& node, const Symbols& symbols) {
    block(node.body, &symbols, [&](BlockWalk& walk) {
      walk.declare(std::string_view("loop"));
      walk.declare(node.target);
    });
    block(node.otherwise, &symbols, nothing);
  }
  void on(SetBlockStatement& node, const Symbols& symbols) { block(node.body, &symbols, nothing); }
  void on(GenerationStatement& node, const Symbols& symbols) {
    block(node.body, &symbols, nothing);
  }
  void on(FilterStatement& node, const Symbols& symbols) { block(node.body, &symbols, nothing); }
  void on(MacroStatement& node, const Symbols& symbols) {
    block(node.body, &symbols, [&](BlockWalk& walk) {
      for (const std::string_view name : {"caller", "kwargs", "varargs"}) walk.declare(name);
      for (const std::string& name : node.parameters) walk.declare(std::string_view(name));
      for (const auto& value : node.defaults) walk.read(value);
    });
  }
  void on(CallStatement& node, const Symbols& symbols) { on(node.caller, symbols); }
  void on(WithStatement& node, const Symbols& symbols) {
    block(node.body, &symbols, [&](BlockWalk& walk) {
      for (const auto& [target, value] : node.values) walk.declare(target);
    });
  }
};

}  // namespace

void find_hidden_names(Body& root) {
  Analysis().block(root, nullptr, [](BlockWalk&) {});
}

}  // namespace moeopt::jinja
