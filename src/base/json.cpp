#include "base/json.h"

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"

namespace moeopt {
namespace {

// Builds the document and refuses what nlohmann's own builder would let pass.
class BoundedBuilder : public nlohmann::json_sax<Json> {
 public:
  BoundedBuilder(std::string_view where, const JsonLimits& limits)
      : where_(where), limits_(limits) {}

  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr) != nullptr; }
  bool boolean(bool value) override { return put(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return put(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return put(value) != nullptr; }
  bool number_float(number_float_t value, const string_t& text) override {
    if (!std::isfinite(value)) refuse(fmt::format("number {} is out of range", text));
    return put(value) != nullptr;
  }
  bool string(string_t& value) override { return put(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (open_.back()->contains(name)) refuse(fmt::format("duplicate key \"{}\"", printable(name)));
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string_view why = error.what();  // "[json.exception.parse_error.101] parse error at ..."
    if (const auto end = why.find("] "); end != std::string_view::npos) why.remove_prefix(end + 2);
    refuse(fmt::format("not valid JSON at byte {}: {}", position, printable(why)));
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw_error(ErrorCode::kInvalidData, "{}: {}", where_, why);
  }

  Json* put(Json value) {
    if (++nodes_ > limits_.nodes) refuse(fmt::format("more than {} JSON values", limits_.nodes));
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool open(Json value) {
    if (static_cast<int>(open_.size()) >= limits_.depth) {
      refuse(fmt::format("nested deeper than {}", limits_.depth));
    }
    open_.push_back(put(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view where_;
  const JsonLimits& limits_;
  Json root_;
  // NOTE: pointers stay valid: a container grows only after its open children are closed.
  std::vector<Json*> open_;
  std::string key_;
  std::size_t nodes_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    throw_error(ErrorCode::kInvalidData, "{}: {} bytes of JSON, the limit is {}", where,
                text.size(), limits.bytes);
  }
  // nlohmann's lexer takes a NUL byte for the end of the text and would ignore what follows it.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw_error(ErrorCode::kInvalidData, "{}: not valid JSON at byte {}: NUL byte", where, nul + 1);
  }
  BoundedBuilder builder(where, limits);
  Json::sax_parse(text, &builder);
  return builder.take();
}

Json parse_json_file(const std::filesystem::path& file, const JsonLimits& limits) {
  return parse_json(read_file(file, limits.bytes), file.string(), limits);
}

}  // namespace moeopt
