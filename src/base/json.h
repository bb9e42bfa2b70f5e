// The one JSON parser for outside data: bounded in bytes, depth and nodes, strict on duplicate keys
// and UTF-8. Everything that reads a file or a body goes through here.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

namespace moeopt {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // objects keep the order of the text

struct JsonLimits {
  std::size_t bytes = std::size_t{64} << 20;
  int depth = 64;
  std::size_t nodes = 8'000'000;
};

// Parses `text`; `where` (a file or field name) opens every message.
// Throws Error(kInvalidData) on anything that is not exactly one JSON value within the limits, on a
// duplicate key, on a number out of range and on NaN or Infinity.
Json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits = {});

// The same, keeping the order of an object's keys: for what a template will show.
OrderedJson parse_ordered_json(std::string_view text, std::string_view where,
                               const JsonLimits& limits = {});

// Receives a document piece by piece. A member says what it refuses by throwing, never by false.
using JsonEvents = nlohmann::json_sax<Json>;

// As parse_json, for documents too large to hold as a tree. It cannot see duplicate keys: `events`
// must. parse_error and binary are never called.
void stream_json(std::string_view text, std::string_view where, JsonEvents& events,
                 const JsonLimits& limits = {});

// Reads and parses a whole file; Error(kNotFound) or Error(kIo) when it cannot be read.
Json parse_json_file(const std::filesystem::path& file, const JsonLimits& limits = {});

}  // namespace moeopt
