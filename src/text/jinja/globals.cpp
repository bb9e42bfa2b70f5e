#include <algorithm>
#include <chrono>
#include <ctime>

#include "text/jinja/arguments.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

// The functions that every chat template may call.
namespace moeopt::jinja {
namespace {

using Items = std::vector<std::pair<Value, Value>>;

Value range(Runtime& runtime, const Value&, const CallArguments& args) {
  if (!args.keyword.empty()) runtime.fail("range() takes no keyword arguments");
  const Arguments given(runtime, "range", args, {"", "", ""}, 1);
  // Far enough for any loop, near enough that no later arithmetic leaves 64 bits.
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  for (std::size_t i = 0; i < args.positional.size(); ++i) {
    const std::int64_t bound = given.integer(i, 0);
    if (bound > kFar || bound < -kFar) runtime.fail("a range's bound is beyond 2**40");
  }
  if (args.positional.size() == 1) return make_range(runtime, 0, given.integer(0, 0), 1);
  return make_range(runtime, given.integer(0, 0), given.integer(1, 0), given.integer(2, 1));
}

// The items of dict(...) and namespace(...).
Items dict_items(Runtime& runtime, std::string_view callee, const CallArguments& args) {
  Items items;
  if (args.positional.size() > 1) {
    runtime.fail("{} expected at most 1 argument, got {}", callee, args.positional.size());
  }
  if (args.positional.size() == 1) {
    const Value& from = args.positional.front();
    if (from.is(Kind::kDict)) {
      runtime.step(1 + from.dict().items.size());
      items = from.dict().items;
    } else {
      for_each(runtime, from, [&](const Value& pair) {
        Values two = to_values(runtime, pair);
        if (two.size() != 2) {
          runtime.fail("dictionary update sequence element has length {}; 2 is required",
                       two.size());
        }
        items.emplace_back(std::move(two[0]), std::move(two[1]));
        return true;
      });
    }
  }
  for (const auto& [name, value] : args.keyword) {
    items.emplace_back(make_text(runtime, name), value);
  }
  return items;
}

Value dict(Runtime& runtime, const Value&, const CallArguments& args) {
  return make_dict(runtime, dict_items(runtime, "dict", args));
}

Value name_space(Runtime& runtime, const Value&, const CallArguments& args) {
  const Value attributes = make_dict(runtime, dict_items(runtime, "dict", args));
  auto made = std::make_shared<Namespace>(runtime, sizeof(Namespace));
  for (const auto& [key, value] : attributes.dict().items) {
    if (!key.is_string()) runtime.fail("a namespace's names are strings");
    made->attributes.emplace_back(std::string(key.view()), value);
  }
  return Value(Kind::kNamespace, std::move(made));
}

Value raise_exception(Runtime& runtime, const Value&, const CallArguments& args) {
  const Arguments given(runtime, "raise_exception", args, {"message"}, 1);
  runtime.fail_text(to_text(runtime, given.at(0)));
}

Value strftime_now(Runtime& runtime, const Value&, const CallArguments& args) {
  const Arguments given(runtime, "strftime_now", args, {"format"}, 1);
  const auto now = std::chrono::system_clock::now();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now - seconds).count();
  // The C library does not know Python's %f.
  std::string format;
  const std::string_view pattern = given.text(0);
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const bool pair = pattern[i] == '%' && i + 1 < pattern.size();
    if (pair && pattern[i + 1] == 'f') {
      format += fmt::format("{:06}", micros);
      ++i;
      continue;
    }
    format.push_back(pattern[i]);
    if (pair) format.push_back(pattern[++i]);
  }
  if (format.empty()) return make_text(runtime, {});
  const std::time_t time = std::chrono::system_clock::to_time_t(seconds);
  std::tm local{};
  localtime_r(&time, &local);
  std::string text(4096 + 2 * std::min<std::size_t>(format.size(), 65536), '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &local));
  if (text.empty()) runtime.fail("strftime_now() cannot format '{}'", shorten(pattern));
  return make_text(runtime, std::move(text));
}

struct Global {
  std::string_view name;
  Native call;
};

constexpr Global kGlobals[] = {
    {"range", range},
    {"dict", dict},
    {"namespace", name_space},
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
    {"cycler", nullptr},
    {"joiner", nullptr},
    {"lipsum", nullptr},
};

}  // namespace

std::optional<Value> find_global(Runtime& runtime, std::string_view name) {
  const auto* found = std::find_if(std::begin(kGlobals), std::end(kGlobals),
                                   [&](const Global& global) { return global.name == name; });
  if (found == std::end(kGlobals)) return std::nullopt;
  if (found->call == nullptr) runtime.fail("the function '{}' is not supported", name);
  return make_function(runtime, std::string(name), Value(), found->call);
}

}  // namespace moeopt::jinja
