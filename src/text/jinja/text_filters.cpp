#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/json_dump.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/string_search.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

// The value as a str, which keeps Markup.
Value soft_text(Runtime& runtime, const Value& value) {
  return value.is_string() ? value : make_text(runtime, to_text(runtime, value));
}

Value string(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "string", args, {});
  return soft_text(runtime, self);
}

template <std::string (*kMap)(std::string_view)>
Value mapped_filter(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "this filter", args, {});
  const Value text = soft_text(runtime, self);
  runtime.step_characters(text.view().size());
  return text_like(runtime, text, kMap(text.view()));
}

// Not str.title: a word starts after spaces, '-' and opening brackets alone.
std::string title_words(std::string_view text) {
  const auto separates = [](char32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c);
  };
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const bool separator = separates(decode_next(text, at));
    const std::size_t first = at;
    while (at < text.size()) {
      std::size_t next = at;
      if (separates(decode_next(text, next)) != separator) break;
      at = next;
    }
    if (separator) {
      out += text.substr(start, at - start);
    } else {
      out += to_upper(text.substr(start, first - start));
      out += to_lower(text.substr(first, at - first));
    }
  }
  return out;
}

Value trim(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "trim", args, {"chars"});
  const Value text = soft_text(runtime, self);
  std::string_view chars;
  if (given.value(0) != nullptr) chars = given.text(0);
  return text_like(
      runtime, text,
      std::string(strip_set(runtime, text.view(), given.value(0) == nullptr ? nullptr : &chars,
                            true, true)));
}

Value replace_filter(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "replace", args, {"old", "new", "count"}, 2);
  const std::int64_t count = given.value(2) == nullptr ? -1 : given.integer(2, -1);
  return make_text(runtime,
                   replace_text(runtime, to_text(runtime, self), to_text(runtime, given.at(0)),
                                to_text(runtime, given.at(1)), count));
}

Value indent(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "indent", args, {"width", "first", "blank"});
  if (self.is_undefined()) fail_undefined(runtime, self);
  if (!self.is_string()) {
    runtime.fail("the filter 'indent' needs a str, not {}", type_name(self));
  }
  std::string indention = "    ";
  if (given.get(0) != nullptr) {
    const Value spaces = given.at(0).is_string() ? given.at(0)
                                                 : binary(runtime, BinaryOp::kMultiply,
                                                          make_text(runtime, " "), given.at(0));
    indention = spaces.view();
  }
  const bool blank = given.truth(2, false);
  const std::string text = std::string(self.view()) + "\n";
  runtime.step_characters(text.size());
  const auto lines = split_lines(text, false);
  std::string out;
  const auto put = [&](std::string_view piece) {
    runtime.step_bytes(piece.size());
    if (out.size() + piece.size() > runtime.limits().memory_bytes) {
      runtime.fail("the template holds more than {} bytes of values",
                   runtime.limits().memory_bytes);
    }
    out += piece;
  };
  if (given.truth(1, false)) put(indention);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) put("\n");
    if (i > 0 && (blank || !lines[i].empty())) put(indention);
    put(lines[i]);
  }
  return text_like(runtime, self, std::move(out));
}

Value center(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "center", args, {"width"});
  const Value text = soft_text(runtime, self);
  return find_string_method("center")->call(runtime, text, {{Value(given.integer(0, 80))}, {}});
}

Value wordcount(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "wordcount", args, {});
  const std::string text = to_text(runtime, self);
  runtime.step_characters(text.size());
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = decode_next(text, at);
    const bool word = c == '_' || is_alpha(c) || is_numeric(c);
    words += word && !inside ? 1 : 0;
    inside = word;
  }
  return Value(words);
}

Value safe(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "safe", args, {});
  return make_text(runtime, to_text(runtime, self), true);
}

Value escape_filter(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "escape", args, {});
  return escape(runtime, self);
}

Value force_escape(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "forceescape", args, {});
  return make_text(runtime, escape_html(to_text(runtime, self)), true);
}

Value format_filter(Runtime& runtime, const Value& self, const CallArguments& args) {
  if (!args.positional.empty() && !args.keyword.empty()) {
    runtime.fail("can't handle positional and keyword arguments at the same time");
  }
  const Value text = soft_text(runtime, self);
  if (args.keyword.empty()) {
    return text_like(runtime, text,
                     format_percent(runtime, text, make_tuple(runtime, args.positional)));
  }
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [name, value] : args.keyword)
    items.emplace_back(make_text(runtime, name), value);
  return text_like(runtime, text,
                   format_percent(runtime, text, make_dict(runtime, std::move(items))));
}

Value join_filter(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "join", args, {"d", "attribute"});
  const std::string separator = given.get(0) == nullptr ? "" : to_text(runtime, given.at(0));
  const Value path = given.value(1) == nullptr ? Value() : given.at(1);
  std::string out;
  bool first = true;
  for_each(runtime, self, [&](const Value& item) {
    if (!first) out += separator;
    first = false;
    out += to_text(runtime, get_path(runtime, item, path));
    runtime.step_bytes(separator.size());
    if (out.size() > runtime.limits().memory_bytes) {
      runtime.fail("the template holds more than {} bytes of values",
                   runtime.limits().memory_bytes);
    }
    return true;
  });
  return make_text(runtime, std::move(out));
}

Value tojson(Runtime& runtime, const Value& self, const CallArguments& args) {
  const Arguments given(runtime, "tojson", args,
                        {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = given.truth(0, false);
  style.sort_keys = given.truth(3, false);
  if (given.value(1) != nullptr) {
    if (given.at(1).is_string()) {
      style.indent = std::string(given.text(1));
    } else {
      const std::int64_t width = std::max<std::int64_t>(given.integer(1, 0), 0);
      if (width > 1000) runtime.fail("tojson() indents by at most 1000 spaces");
      style.indent = std::string(static_cast<std::size_t>(width), ' ');
    }
    style.item_separator = ",";
  }
  if (given.value(2) != nullptr) {
    const Values pair = to_values(runtime, given.at(2));
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      runtime.fail("tojson() takes two texts as separators");
    }
    style.item_separator = std::string(pair[0].view());
    style.key_separator = std::string(pair[1].view());
  }
  return make_text(runtime, dump_json(runtime, self, style));
}

constexpr Filter kTextFilters[] = {
    {"capitalize", mapped_filter<capitalize>},
    {"center", center},
    {"e", escape_filter},
    {"escape", escape_filter},
    {"forceescape", force_escape},
    {"format", format_filter},
    {"indent", indent},
    {"join", join_filter},
    {"lower", mapped_filter<to_lower>},
    {"replace", replace_filter},
    {"safe", safe},
    {"string", string},
    {"title", mapped_filter<title_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"upper", mapped_filter<to_upper>},
    {"wordcount", wordcount},
};

}  // namespace

std::span<const Filter> text_filters() {
  return kTextFilters;
}

}  // namespace moeopt::jinja
