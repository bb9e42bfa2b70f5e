#include <charconv>

#include "text/jinja/access.h"
#include "text/jinja/format.h"
#include "text/jinja/format_spec.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"

namespace moeopt::jinja {
namespace {

std::optional<std::int64_t> parse_index(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  std::int64_t index = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), index);
  return parsed.ec == std::errc() ? std::optional<std::int64_t>(index) : std::nullopt;
}

class FieldFormatter {
 public:
  FieldFormatter(Runtime& runtime, std::string_view pattern, const CallArguments& args)
      : runtime_(runtime), pattern_(pattern), args_(args) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_++];
      if (c != '{' && c != '}') {
        out_.push_back(c);
      } else if (at_ < pattern_.size() && pattern_[at_] == c) {
        out_.push_back(c);
        ++at_;
      } else if (c == '}') {
        runtime_.fail("Single '}}' encountered in format string");
      } else {
        field();
      }
      runtime_.step();
    }
    return std::move(out_);
  }

 private:
  void field() {
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) runtime_.fail("expected '}}' before end of string");
    std::string_view text = pattern_.substr(at_, end - at_);
    at_ = end + 1;
    if (text.find('{') != std::string_view::npos) {
      runtime_.fail("a field inside a format's field is not supported");
    }
    const std::size_t colon = text.find(':');
    const std::string_view spec =
        colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
    text = text.substr(0, colon);
    char conversion = '\0';
    if (const std::size_t mark = text.find('!'); mark != std::string_view::npos) {
      if (text.size() != mark + 2)
        runtime_.fail("end of string while looking for conversion specifier");
      conversion = text[mark + 1];
      text = text.substr(0, mark);
    }
    Value value = resolve(text);
    if (conversion == 's') {
      value = make_text(runtime_, to_text(runtime_, value));
    } else if (conversion == 'r') {
      value = make_text(runtime_, repr(runtime_, value));
    } else if (conversion != '\0') {
      runtime_.fail("Unknown conversion specifier {}", std::string(1, conversion));
    }
    const std::string formatted = format_value(runtime_, value, spec);
    runtime_.step_bytes(formatted.size());
    if (out_.size() + formatted.size() > runtime_.limits().memory_bytes) {
      runtime_.fail("the template holds more than {} bytes of values",
                    runtime_.limits().memory_bytes);
    }
    out_ += formatted;
  }

  Value resolve(std::string_view path) {
    const std::size_t end = std::min(path.find_first_of(".["), path.size());
    Value at = first(path.substr(0, end));
    path.remove_prefix(end);
    while (!path.empty()) {
      if (path[0] == '.') {
        const std::size_t stop = std::min(path.find_first_of(".[", 1), path.size());
        const std::string_view name = path.substr(1, stop - 1);
        if (name.empty()) runtime_.fail("Empty attribute in format string");
        at = get_attribute(runtime_, at, name);
        path.remove_prefix(stop);
      } else {
        const std::size_t close = path.find(']');
        if (path[0] != '[' || close == std::string_view::npos) {
          runtime_.fail("Missing ']' in format string");
        }
        const std::string_view key = path.substr(1, close - 1);
        if (key.empty()) runtime_.fail("Empty attribute in format string");
        const auto index = parse_index(key);
        at = get_item(runtime_, at, index ? Value(*index) : make_text(runtime_, std::string(key)));
        path.remove_prefix(close + 1);
      }
    }
    return at;
  }

  Value first(std::string_view name) {
    const auto index = parse_index(name);
    if (name.empty() || index) {
      const bool automatic = name.empty();
      if (numbered_ && *numbered_ == automatic) {
        runtime_.fail("cannot mix automatic and manual field numbering");
      }
      numbered_ = !automatic;
      const std::int64_t position = automatic ? next_++ : *index;
      if (position >= static_cast<std::int64_t>(args_.positional.size())) {
        runtime_.fail("Replacement index {} out of range for positional args tuple", position);
      }
      return args_.positional[static_cast<std::size_t>(position)];
    }
    for (const auto& [key, value] : args_.keyword) {
      if (key == name) return value;
    }
    runtime_.fail("{}", repr_text(shorten(name)));
  }

  Runtime& runtime_;
  std::string_view pattern_;
  const CallArguments& args_;
  std::size_t at_ = 0;
  std::int64_t next_ = 0;
  std::optional<bool> numbered_;
  std::string out_;
};

}  // namespace

std::string format_fields(Runtime& runtime, std::string_view pattern, const CallArguments& args) {
  return FieldFormatter(runtime, pattern, args).run();
}

}  // namespace moeopt::jinja
