#include "bench/server_info.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/strings.h"
#include "bench/fetch.h"

namespace moeopt::bench {
namespace {

constexpr JsonLimits kPageLimits = {
    .bytes = std::size_t{64} << 20, .depth = 32, .nodes = 4'000'000};

// The JSON of a page; null when it is not there or something else.
OrderedJson page(const Url& url, std::string_view path, std::string_view api_key) {
  const HttpAnswer answer = fetch(url, path, {}, api_key);
  if (answer.status != 200 && answer.status != 503) return nullptr;
  try {
    return parse_ordered_json(answer.body, path, kPageLimits);
  } catch (const Error&) {
    return nullptr;  // vLLM's /health is an empty 200
  }
}

std::string text_of(const OrderedJson& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

std::int64_t count_of(const OrderedJson& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_number_integer() ? at->get<std::int64_t>() : 0;
}

// The entry of `model` in /v1/models, or the first one when no model is asked for.
OrderedJson model_entry(const OrderedJson& models, std::string_view model) {
  if (!models.is_object() || !models.contains("data") || !models["data"].is_array()) return nullptr;
  for (const OrderedJson& entry : models["data"]) {
    if (!entry.is_object() || text_of(entry, "id").empty()) continue;
    if (model.empty() || text_of(entry, "id") == model) return entry;
  }
  return nullptr;
}

// The ids of ordinary words, each once; empty when the server has no /tokenize that is understood.
std::vector<std::int32_t> word_ids(const Url& url, std::string_view api_key,
                                   std::string_view model) {
  // "prompt" is vLLM's name for the text and this project's, "content" is llama.cpp's.
  const std::string text = word_text();
  const OrderedJson body = {
      {"model", model}, {"prompt", text}, {"content", text}, {"add_special_tokens", false}};
  const HttpAnswer answer = fetch(url, "/tokenize", body.dump(), api_key);
  if (answer.status != 200) return {};
  std::vector<std::int32_t> ids;
  try {
    const OrderedJson json = parse_ordered_json(answer.body, "/tokenize", kPageLimits);
    if (!json.is_object() || !json.contains("tokens") || !json["tokens"].is_array()) return {};
    for (const OrderedJson& id : json["tokens"]) {
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() > INT32_MAX) return {};
      ids.push_back(id.get<std::int32_t>());
    }
  } catch (const Error&) {
    return {};
  }
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

PromptSource prompt_source(const Url& url, std::string_view api_key, std::string_view model,
                           const OrderedJson& entry, int vocab_size) {
  constexpr std::size_t kFewestIds = 16;
  PromptSource source;
  if (vocab_size == 0) {
    source.ids = word_ids(url, api_key, model);
    if (source.ids.size() >= kFewestIds) {
      source.description = fmt::format("{} token ids of words, by /tokenize", source.ids.size());
      return source;
    }
    source.ids.clear();
    std::int64_t said = count_of(entry, "vocab_size");
    if (entry.contains("meta") && entry["meta"].is_object()) {
      said = std::max(said, count_of(entry["meta"], "n_vocab"));
    }
    if (said > 0 && said <= INT32_MAX) vocab_size = static_cast<int>(said);
  }
  source.vocab_size = vocab_size;
  source.description = vocab_size > 0 ? fmt::format("token ids below {}", vocab_size)
                                      : "words of text, one for each token asked for";
  return source;
}

}  // namespace

OrderedJson ask_health(const Url& url, std::string_view api_key) {
  return page(url, "/health", api_key);
}

ServerInfo ask_server(const Url& url, std::string_view api_key, std::string_view model,
                      int vocab_size) {
  ServerInfo info;
  const HttpAnswer answer = fetch(url, "/v1/models", {}, api_key);
  if (answer.status == 401 || answer.status == 403) {
    throw Error(ErrorCode::kIo, fmt::format("{}: HTTP {}", url.text(), answer.status),
                "the server wants a key: --api-key-file");
  }
  OrderedJson entry = nullptr;
  if (answer.status == 200) {
    entry = model_entry(parse_ordered_json(answer.body, "/v1/models", kPageLimits), model);
  }
  info.model = model.empty() && entry.is_object() ? text_of(entry, "id") : std::string(model);
  if (info.model.empty()) {
    throw Error(ErrorCode::kInvalidData,
                fmt::format("{}/v1/models names no model (HTTP {})", url.text(), answer.status),
                "--model NAME");
  }
  if (!entry.is_object()) entry = OrderedJson::object();
  info.prompts = prompt_source(url, api_key, info.model, entry, vocab_size);
  info.health = ask_health(url, api_key);
  info.version = page(url, "/version", api_key);
  return info;
}

std::vector<ServerOptimisation> server_optimisations(const OrderedJson& health) {
  std::vector<ServerOptimisation> all;
  if (!health.is_object() || !health.contains("optimisations")) return all;
  for (const OrderedJson& entry : health["optimisations"]) {
    if (!entry.is_object()) continue;
    all.push_back({text_of(entry, "name"), text_of(entry, "asked"), text_of(entry, "state"),
                   text_of(entry, "reason"), count_of(entry, "layers"),
                   count_of(entry, "launches")});
  }
  return all;
}

Counters parse_counters(std::string_view metrics) {
  Counters counters;
  for (std::size_t begin = 0; begin < metrics.size();) {
    const std::size_t end = std::min(metrics.find('\n', begin), metrics.size());
    const std::string_view line = metrics.substr(begin, end - begin);
    begin = end + 1;
    if (line.empty() || line.front() == '#') continue;
    const std::string_view name = line.substr(0, line.find_first_of("{ \t"));
    if (!name.ends_with("_total") && !name.ends_with("_sum") && !name.ends_with("_count")) continue;
    // A label's value may hold any character, '}' and ' ' too: the value comes after the last '}'.
    std::string_view rest = line.substr(name.size());
    if (const auto brace = rest.rfind('}'); brace != rest.npos) rest.remove_prefix(brace + 1);
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    double value = 0;
    const auto [last, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (failed == std::errc{} && std::isfinite(value)) counters[std::string(name)] += value;
  }
  return counters;
}

std::optional<Counters> ask_counters(const Url& url, std::string_view api_key) {
  const HttpAnswer answer = fetch(url, "/metrics", {}, api_key);
  if (answer.status != 200) return std::nullopt;
  return parse_counters(answer.body);
}

Counters counters_moved(const Counters& before, const Counters& after) {
  Counters moved;
  for (const auto& [name, value] : after) {
    const auto at = before.find(name);
    const double from = at == before.end() ? 0 : at->second;
    if (value != from) moved[name] = value - from;
  }
  return moved;
}

std::optional<double> counter_ending(const Counters& counters, std::string_view ending) {
  for (const auto& [name, value] : counters) {
    if (name.ends_with(ending)) return value;
  }
  return std::nullopt;
}

}  // namespace moeopt::bench
