#include "text/jinja/loop.h"

#include "text/jinja/operators.h"

namespace moeopt::jinja {
namespace {

Value call_cycle(Runtime& runtime, const Value& self, const CallArguments& args) {
  if (args.positional.empty()) runtime.fail("no items for cycling given");
  const auto index = static_cast<std::size_t>(self.object<Loop>().index0());
  return args.positional[index % args.positional.size()];
}

Value call_changed(Runtime& runtime, const Value& self, const CallArguments& args) {
  return Value(self.object<Loop>().changed(runtime, args.positional));
}

}  // namespace

bool Loop::advance() {
  Value next;
  if (!ahead_.empty()) {
    next = std::move(ahead_.front());
    ahead_.pop_front();
  } else if (finished_ || !source_(next)) {
    return false;
  }
  ++index0_;
  previous_ = std::move(current_);
  current_ = std::move(next);
  return true;
}

void Loop::finish() {
  finished_ = true;
  source_ = nullptr;
  ahead_.clear();
  previous_ = Value();
  current_ = Value();
  last_.reset();
  scope.reset();
}

bool Loop::peek() {
  if (!ahead_.empty()) return true;
  Value next;
  if (finished_ || !source_(next)) return false;
  ahead_.push_back(std::move(next));
  return true;
}

std::int64_t Loop::length(Runtime& runtime) {
  if (!length_) {
    Value next;
    while (!finished_ && source_(next)) {
      runtime.step();
      ahead_.push_back(std::move(next));
    }
    length_ = static_cast<std::int64_t>(ahead_.size()) + index0_ + 1;
  }
  return *length_;
}

bool Loop::changed(Runtime& runtime, const Values& values) {
  bool same = last_.has_value() && last_->size() == values.size();
  for (std::size_t i = 0; same && i < values.size(); ++i) {
    same = equal(runtime, (*last_)[i], values[i]);
  }
  if (!same && !finished_) last_ = values;
  return !same;
}

std::optional<Value> Loop::attribute(Runtime& runtime, const Value& self, std::string_view name) {
  if (name == "index") return Value(index0_ + 1);
  if (name == "index0") return Value(index0_);
  if (name == "first") return Value(index0_ == 0);
  if (name == "last") return Value(!peek());
  if (name == "length") return Value(length(runtime));
  if (name == "revindex") return Value(length(runtime) - index0_);
  if (name == "revindex0") return Value(length(runtime) - index0_ - 1);
  if (name == "depth") return Value(depth());
  if (name == "depth0") return Value(depth0_);
  if (name == "previtem") {
    return index0_ == 0 ? make_undefined(runtime, "there is no previous item") : previous_;
  }
  if (name == "nextitem") {
    return peek() ? ahead_.front() : make_undefined(runtime, "there is no next item");
  }
  if (name == "cycle") return make_function(runtime, "cycle", self, call_cycle);
  if (name == "changed") return make_function(runtime, "changed", self, call_changed);
  return std::nullopt;
}

Loop::Source make_source(Runtime& runtime, const Value& iterable) {
  if (iterable.is(Kind::kIterator)) {
    return [&runtime, iterable](Value& out) {
      auto item = iterable.iterator().take(runtime);
      if (!item) return false;
      out = *std::move(item);
      return true;
    };
  }
  if (iterable.is(Kind::kRange)) {
    return [&runtime, iterable, next = std::int64_t{0}](Value& out) mutable {
      runtime.step();
      const Range& range = iterable.range();
      if (next >= range.size) return false;
      out = Value(range.start + next++ * range.step);
      return true;
    };
  }
  // NOTE: a list is walked in place; texts, dicts and views are spelled out first.
  const Value list = iterable.is(Kind::kList) || iterable.is(Kind::kTuple)
                         ? iterable
                         : make_list(runtime, to_values(runtime, iterable));
  return [&runtime, list, next = std::size_t{0}](Value& out) mutable {
    runtime.step();
    if (next >= list.sequence().items.size()) return false;
    out = list.sequence().items[next++];
    return true;
  };
}

}  // namespace moeopt::jinja
