#include "text/jinja/python_text.h"

#include <charconv>
#include <cmath>

#include "text/jinja/loop.h"
#include "text/jinja/macro.h"
#include "text/jinja/unicode.h"

namespace moeopt::jinja {
namespace {

class ReprWriter {
 public:
  explicit ReprWriter(Runtime& runtime) : runtime_(runtime) {}

  std::string take() { return std::move(out_); }

  void write(const Value& value) {
    runtime_.step();
    const DepthGuard guard(runtime_);
    switch (value.kind()) {
      case Kind::kUndefined:
        return put("Undefined");
      case Kind::kNone:
        return put("None");
      case Kind::kBool:
        return put(value.boolean() ? "True" : "False");
      case Kind::kInt:
        return put(fmt::format("{}", value.integer()));
      case Kind::kFloat:
        return put(repr_float(value.real()));
      case Kind::kString:
        runtime_.step_characters(value.view().size());
        return put(value.text().markup ? "Markup(" + repr_text(value.view()) + ")"
                                       : repr_text(value.view()));
      case Kind::kList:
        put("[");
        write_items(value.sequence().items);
        return put("]");
      case Kind::kTuple:
        put("(");
        write_items(value.sequence().items);
        return put(value.sequence().items.size() == 1 ? ",)" : ")");
      case Kind::kDict:
        return write_dict(value.dict());
      case Kind::kDictView:
        return write_view(value.dict_view());
      case Kind::kRange:
        return write_range(value.range());
      case Kind::kNamespace:
        return write_namespace(value.name_space());
      case Kind::kMacro:
        return put(value.object<Macro>().describe());
      case Kind::kLoop: {
        auto& loop = value.object<Loop>();
        return put(fmt::format("<LoopContext {}/{}>", loop.index0() + 1, loop.length(runtime_)));
      }
      case Kind::kIterator:
      case Kind::kFunction:
        runtime_.fail("printing a {} is not supported", type_name(value));
    }
  }

 private:
  void put(std::string_view text) {
    if (out_.size() + text.size() > runtime_.limits().output_bytes) {
      runtime_.fail("the text of a value exceeds {} bytes", runtime_.limits().output_bytes);
    }
    out_ += text;
  }

  void write_items(const Values& items) {
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) put(", ");
      write(items[i]);
    }
  }

  void write_dict(const Dict& dict) {
    put("{");
    for (std::size_t i = 0; i < dict.items.size(); ++i) {
      if (i > 0) put(", ");
      write(dict.items[i].first);
      put(": ");
      write(dict.items[i].second);
    }
    put("}");
  }

  void write_view(const DictView& view) {
    using Part = DictView::Part;
    const auto& items = view.dict.dict().items;
    put(view.part == Part::kKeys     ? "dict_keys(["
        : view.part == Part::kValues ? "dict_values(["
                                     : "dict_items([");
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) put(", ");
      if (view.part == Part::kItems) put("(");
      if (view.part != Part::kValues) write(items[i].first);
      if (view.part == Part::kItems) put(", ");
      if (view.part != Part::kKeys) write(items[i].second);
      if (view.part == Part::kItems) put(")");
    }
    put("])");
  }

  void write_range(const Range& range) {
    put(range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                        : fmt::format("range({}, {}, {})", range.start, range.stop, range.step));
  }

  void write_namespace(const Namespace& name_space) {
    put("<Namespace {");
    for (std::size_t i = 0; i < name_space.attributes.size(); ++i) {
      if (i > 0) put(", ");
      put(repr_text(name_space.attributes[i].first));
      put(": ");
      write(name_space.attributes[i].second);
    }
    put("}>");
  }

  Runtime& runtime_;
  std::string out_;
};

}  // namespace

std::string to_text(Runtime& runtime, const Value& value) {
  if (value.is_string()) {
    runtime.step_bytes(value.view().size());
    return std::string(value.view());
  }
  if (value.is_undefined()) return {};
  return repr(runtime, value);
}

std::string repr(Runtime& runtime, const Value& value) {
  ReprWriter writer(runtime);
  writer.write(value);
  return writer.take();
}

std::string repr_text(std::string_view text) {
  const bool doubled =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = decode_next(text, at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if ((c >= 0x20 && c < 0x7F) || is_printable(c)) {
      append_utf8(out, c);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<unsigned>(c));
    }
  }
  out.push_back(quote);
  return out;
}

std::string repr_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto shortest =
      std::to_chars(std::begin(buffer), std::end(buffer), value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<std::size_t>(shortest.ptr - buffer));
  const std::size_t mark = text.find('e');
  int exponent = 0;
  const char* digits = text.data() + mark + 1;
  std::from_chars(*digits == '+' ? digits + 1 : digits, text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) {
    const char sign = exponent < 0 ? '-' : '+';
    return fmt::format("{}e{}{:02}", text.substr(0, mark), sign, std::abs(exponent));
  }
  const auto plain =
      std::to_chars(std::begin(buffer), std::end(buffer), value, std::chars_format::fixed);
  std::string out(buffer, plain.ptr);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

std::string shorten(std::string_view text) {
  constexpr std::size_t kLength = 200;
  if (text.size() <= kLength) return std::string(text);
  std::size_t end = kLength;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

}  // namespace moeopt::jinja
