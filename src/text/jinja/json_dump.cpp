#include "text/jinja/json_dump.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  std::string take() { return std::move(out_); }

  void write(const Value& value) {
    runtime_.step();
    const DepthGuard guard(runtime_);
    switch (value.kind()) {
      case Kind::kString:
        return write_text(value.view());
      case Kind::kList:
      case Kind::kTuple:
        return write_list(value.sequence().items);
      case Kind::kDict:
        return write_dict(value.dict());
      default:
        put(scalar(value));
    }
  }

 private:
  void put(std::string_view text) {
    if (out_.size() + text.size() > runtime_.limits().output_bytes) {
      runtime_.fail("the JSON of a value exceeds {} bytes", runtime_.limits().output_bytes);
    }
    out_ += text;
  }

  std::string scalar(const Value& value) const {
    switch (value.kind()) {
      case Kind::kNone:
        return "null";
      case Kind::kBool:
        return value.boolean() ? "true" : "false";
      case Kind::kInt:
        return fmt::format("{}", value.integer());
      case Kind::kFloat:
        if (std::isnan(value.real())) return "NaN";
        if (std::isinf(value.real())) return value.real() > 0 ? "Infinity" : "-Infinity";
        return repr_float(value.real());
      default:
        runtime_.fail("Object of type {} is not JSON serializable", type_name(value));
    }
  }

  void write_text(std::string_view text) {
    runtime_.step_characters(style_.ensure_ascii ? 4 * text.size() : text.size());
    std::string quoted = "\"";
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t start = at;
      const auto c = static_cast<unsigned>(decode_next(text, at));
      static constexpr std::string_view kSpecial = "\"\\\n\r\t\f\b";
      static constexpr std::string_view kLetters = "\"\\nrtfb";
      if (const std::size_t i = c < 0x80 ? kSpecial.find(static_cast<char>(c)) : kSpecial.npos;
          i != kSpecial.npos) {
        quoted.push_back('\\');
        quoted.push_back(kLetters[i]);
      } else if (c < 0x20 || (style_.ensure_ascii && c >= 0x7F && c < 0x10000 && c != 0x7F)) {
        quoted += fmt::format("\\u{:04x}", c);
      } else if (style_.ensure_ascii && c >= 0x10000) {
        quoted += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10),
                              0xDC00 + ((c - 0x10000) & 0x3FF));
      } else {
        quoted += text.substr(start, at - start);
      }
    }
    quoted.push_back('"');
    put(quoted);
  }

  void new_line() {
    if (!style_.indent) return;
    put("\n");
    for (int i = 0; i < level_; ++i) put(*style_.indent);
  }

  void write_list(const Values& items) {
    if (items.empty()) return put("[]");
    put("[");
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) put(style_.item_separator);
      new_line();
      write(items[i]);
    }
    --level_;
    new_line();
    put("]");
  }

  void write_dict(const Dict& dict) {
    if (dict.items.empty()) return put("{}");
    std::vector<const std::pair<Value, Value>*> items;
    items.reserve(dict.items.size());
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(), [&](const auto* left, const auto* right) {
        return less(runtime_, left->first, right->first);
      });
    }
    put("{");
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) put(style_.item_separator);
      new_line();
      write_key(items[i]->first);
      put(style_.key_separator);
      write(items[i]->second);
    }
    --level_;
    new_line();
    put("}");
  }

  void write_key(const Value& key) {
    if (key.is_string()) return write_text(key.view());
    if (!key.is_number() && !key.is_none()) {
      runtime_.fail("keys must be str, int, float, bool or None, not {}", type_name(key));
    }
    put("\"" + scalar(key) + "\"");
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

std::string dump_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  writer.write(value);
  return writer.take();
}

}  // namespace moeopt::jinja
