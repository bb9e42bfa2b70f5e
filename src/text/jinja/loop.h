// The `loop` variable: an iteration that looks no further ahead than it is asked to, so that a loop
// filter sees the namespaces as the body left them.
#pragma once

#include <deque>
#include <functional>
#include <optional>

#include "text/jinja/value.h"

namespace moeopt::jinja {

struct ForStatement;
struct Scope;

class Loop : public Object {
 public:
  // Sets the next item and returns true, or returns false at the end.
  using Source = std::function<bool(Value&)>;

  Loop(Runtime& runtime, Source source, std::optional<std::int64_t> length, std::int64_t depth0)
      : Object(runtime, sizeof(Loop)),
        source_(std::move(source)),
        length_(length),
        depth0_(depth0) {}

  bool advance();
  // Lets go of all items: a loop kept in a namespace must not keep them alive.
  void finish();

  const Value& current() const { return current_; }
  std::int64_t index0() const { return index0_; }
  std::int64_t depth() const { return depth0_ + 1; }
  std::int64_t length(Runtime& runtime);
  // loop.changed(...): remembers the values of the last call.
  bool changed(Runtime& runtime, const Values& values);

  // loop.NAME, with `self` the Value that holds this loop.
  std::optional<Value> attribute(Runtime& runtime, const Value& self, std::string_view name);

  // Set for `recursive` loops: what loop(items) renders, and where.
  const ForStatement* recursive = nullptr;
  std::shared_ptr<Scope> scope;

 private:
  bool peek();

  Source source_;
  std::deque<Value> ahead_;
  std::optional<std::int64_t> length_;
  std::int64_t depth0_;
  std::int64_t index0_ = -1;
  Value previous_;
  Value current_;
  std::optional<Values> last_;
  bool finished_ = false;
};

// What a `for` walks over: each item of `iterable` in turn. Fails when it is not iterable.
Loop::Source make_source(Runtime& runtime, const Value& iterable);

}  // namespace moeopt::jinja
