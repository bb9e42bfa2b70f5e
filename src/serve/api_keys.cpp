#include "serve/api_keys.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"
#include "serve/http/message.h"

namespace moeopt::serve {
namespace {

constexpr std::size_t kMostFileBytes = std::size_t{1} << 20;

// Reads every byte of both, whatever they hold.
bool equal_in_constant_time(std::string_view given, std::string_view key) {
  unsigned difference = given.size() == key.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto a = static_cast<unsigned char>(given[i]);
    const auto b = static_cast<unsigned char>(key[i % key.size()]);
    difference |= static_cast<unsigned>(a ^ b);
  }
  return difference == 0;
}

}  // namespace

ApiKeys ApiKeys::from_file(const std::filesystem::path& file) {
  std::vector<std::string> keys;
  int number = 0;
  for (std::string line : split(read_file(file, kMostFileBytes), '\n')) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    if (!std::ranges::all_of(line, [](char c) { return c > ' ' && c < 0x7f; })) {
      throw_error(ErrorCode::kInvalidData, "{}:{}: a key is printable ASCII without spaces",
                  file.string(), number);
    }
    keys.push_back(std::move(line));
  }
  if (keys.empty()) throw_error(ErrorCode::kInvalidData, "{}: no keys in it", file.string());
  return ApiKeys(std::move(keys));
}

bool ApiKeys::allow(std::string_view authorization) const {
  if (keys_.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.size() < kScheme.size() ||
      !same_header(authorization.substr(0, kScheme.size()), kScheme)) {
    return false;
  }
  authorization.remove_prefix(kScheme.size());
  bool allowed = false;
  for (const std::string& key : keys_) {
    const bool same = equal_in_constant_time(authorization, key);
    allowed = allowed || same;
  }
  return allowed;
}

}  // namespace moeopt::serve
