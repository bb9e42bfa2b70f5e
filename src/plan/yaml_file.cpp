#include "plan/yaml_file.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <set>
#include <sstream>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

// Turns parser events into entries, or throws at the first one that has no place in the format.
class EntryCollector final : public YAML::EventHandler {
 public:
  EntryCollector(std::string_view where, const YamlLimits& limits)
      : where_(where), limits_(limits) {}

  std::vector<YamlEntry> take() { return std::move(entries_); }

  [[noreturn]] void fail(const YAML::Mark& mark, std::string_view what) const {
    // Marks count from 0; a null mark is -1.
    throw_error(ErrorCode::kInvalidData, "{}:{}: {}", where_, mark.line + 1, what);
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) fail(mark, "a second document; a settings file has one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    if (depth_ == 0) return;  // an empty document
    if (!expects_value_) fail(mark, "a key is missing before ':'");
    fail(mark, fmt::format("{}: no value", printable(key_)));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases (*name) are not read in a settings file; write the value out");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (depth_ == 0) fail(mark, "expected `key: value` lines");
    if (!expects_value_) {
      key_ = value;
      expects_value_ = true;
      if (!seen_.insert({section_, key_}).second) {
        fail(mark, fmt::format("{}: given twice", printable(key_)));
      }
      return;
    }
    if (entries_.size() == limits_.entries) {
      fail(mark, fmt::format("more than {} entries", limits_.entries));
    }
    entries_.push_back({section_, key_, value, mark.line + 1});
    expects_value_ = false;
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    fail(mark, "lists are not used in a settings file; expected `key: value` lines");
  }
  void OnSequenceEnd() override {}

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (depth_ == 2) fail(mark, "nested deeper than two levels");
    if (depth_ == 1) {
      if (!expects_value_) fail(mark, "a mapping cannot be a key");
      section_ = key_;
      expects_value_ = false;
    }
    ++depth_;
  }
  void OnMapEnd() override {
    --depth_;
    section_.clear();
    expects_value_ = false;
  }

 private:
  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) {
      fail(mark, "anchors (&name) are not read in a settings file");
    }
  }
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    // "?" is a plain scalar or collection, "!" a quoted one.
    if (!tag.empty() && tag != "?" && tag != "!") {
      fail(mark, fmt::format("the tag {} is not read in a settings file", printable(tag)));
    }
  }

  std::string_view where_;
  const YamlLimits& limits_;
  std::vector<YamlEntry> entries_;
  std::set<std::pair<std::string, std::string>> seen_;
  std::string section_;
  std::string key_;
  int depth_ = 0;
  int documents_ = 0;
  bool expects_value_ = false;
};

}  // namespace

std::vector<YamlEntry> parse_yaml_settings(std::string_view text, std::string_view where,
                                           const YamlLimits& limits) {
  if (text.size() > limits.bytes) {
    throw_error(ErrorCode::kInvalidData, "{}:1: {} long; a settings file has at most {}", where,
                format_bytes(text.size()), format_bytes(limits.bytes));
  }
  EntryCollector collector(where, limits);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(collector)) {
    }
  } catch (const YAML::Exception& error) {
    collector.fail(error.mark, error.msg);
  }
  return collector.take();
}

}  // namespace moeopt
