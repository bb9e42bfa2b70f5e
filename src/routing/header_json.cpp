#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/strings.h"
#include "routing/log_format.h"

namespace moeopt {
namespace {

// One field of an object: absent, or of the right kind and range.
class Fields {
 public:
  Fields(const Json& json, std::string_view where) : json_(json), where_(where) {
    if (!json.is_object()) throw_error(ErrorCode::kInvalidData, "{}: not a JSON object", where);
  }

  bool has(const char* name) const { return json_.contains(name) && !json_[name].is_null(); }

  template <typename T>
  bool integer(const char* name, T& into) const {
    if (!has(name)) return false;
    const Json& value = json_[name];
    if (!value.is_number_integer() ||
        (!value.is_number_unsigned() && value.get<std::int64_t>() < 0) ||
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<T>::max())) {
      refuse(name, "a whole number from 0");
    }
    into = value.get<T>();
    return true;
  }
  bool text(const char* name, std::string& into) const {
    if (!has(name)) return false;
    if (!json_[name].is_string()) refuse(name, "a text");
    into = json_[name].get<std::string>();
    return true;
  }
  [[noreturn]] void refuse(const char* name, const char* wanted) const {
    throw_error(ErrorCode::kInvalidData, "{}: \"{}\" is {}, it must be {}", where_, name,
                printable(json_[name].dump(-1, ' ', false, Json::error_handler_t::replace), 60),
                wanted);
  }
  const Json& at(const char* name) const { return json_[name]; }

 private:
  const Json& json_;
  std::string_view where_;
};

}  // namespace

std::string header_json(const RoutingHeader& header) {
  OrderedJson json;
  json["type"] = "meta";
  json["schema"] = kRoutingSchema;
  json["program"] = header.program;
  json["model_id"] = header.model;
  if (header.n_layers > 0) json["n_layers"] = header.n_layers;  // another engine's log may lack it
  json["n_experts"] = header.n_experts;
  json["top_k"] = header.top_k;
  json["router"] = header.router;
  json["layers_logged"] = header.layers;
  json["seed"] = header.seed;
  json["started"] = header.started;
  json["sampled"] = header.sampled;
  json["part"] = header.part;
  json["weights"] = header.has_weights;
  if (!header.missing.empty()) json["missing"] = header.missing;
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

RoutingHeader parse_header(const Json& json, std::string_view where) {
  const Fields fields(json, where);
  RoutingHeader header;
  std::string schema;
  if (fields.text("schema", schema) && schema != kRoutingSchema) {
    throw Error(ErrorCode::kInvalidData,
                fmt::format("{}: \"schema\" is \"{}\", this program reads \"{}\"", where,
                            printable(schema), kRoutingSchema));
  }
  const auto note = [&header](bool present, const char* name) {
    if (!present) header.missing.emplace_back(name);
  };
  note(!schema.empty(), "schema");
  note(fields.text("program", header.program), "program");
  note(fields.text("model_id", header.model), "model_id");
  note(fields.integer("n_layers", header.n_layers), "n_layers");
  note(fields.integer("n_experts", header.n_experts), "n_experts");
  note(fields.integer("top_k", header.top_k), "top_k");
  note(fields.text("router", header.router), "router");
  if (fields.has("layers_logged")) {
    const Json& layers = fields.at("layers_logged");
    if (!layers.is_array()) fields.refuse("layers_logged", "a list of layer numbers");
    for (const Json& layer : layers) {
      if (!layer.is_number_unsigned() || layer.get<std::uint64_t>() > 1'000'000) {
        fields.refuse("layers_logged", "a list of layer numbers");
      }
      header.layers.push_back(layer.get<int>());
    }
  } else {
    note(false, "layers_logged");
  }
  note(fields.integer("seed", header.seed), "seed");
  note(fields.text("started", header.started), "started");
  if (fields.has("sampled")) {
    const Json& sampled = fields.at("sampled");
    if (!sampled.is_number() || !(sampled.get<double>() > 0 && sampled.get<double>() <= 1)) {
      fields.refuse("sampled", "a share within (0, 1]");
    }
    header.sampled = sampled.get<double>();
  }
  fields.integer("part", header.part);
  if (fields.has("missing")) {  // of a log made from another engine's
    const Json& missing = fields.at("missing");
    if (!missing.is_array() || missing.size() > 32) fields.refuse("missing", "a list of fields");
    for (const Json& name : missing) {
      if (!name.is_string()) fields.refuse("missing", "a list of fields");
      const auto& text = name.get_ref<const std::string&>();
      note(std::ranges::find(header.missing, text) != header.missing.end(), text.c_str());
    }
  }
  if (fields.has("weights")) {
    if (!fields.at("weights").is_boolean()) fields.refuse("weights", "true or false");
    header.has_weights = fields.at("weights").get<bool>();
  }
  return header;
}

std::string totals_json(const RoutingTotals& totals) {
  OrderedJson json;
  json["type"] = "totals";
  json["requests"] = totals.requests;
  json["tokens"] = totals.tokens;
  json["replayed_tokens"] = totals.replayed_tokens;
  json["cached_tokens"] = totals.cached_tokens;
  json["dropped_requests"] = totals.dropped_requests;
  json["dropped_tokens"] = totals.dropped_tokens;
  json["unsampled_requests"] = totals.unsampled_requests;
  return json.dump();
}

RoutingTotals parse_totals(const Json& json, std::string_view where) {
  const Fields fields(json, where);
  RoutingTotals totals;
  fields.integer("requests", totals.requests);
  fields.integer("tokens", totals.tokens);
  fields.integer("replayed_tokens", totals.replayed_tokens);
  fields.integer("cached_tokens", totals.cached_tokens);
  fields.integer("dropped_requests", totals.dropped_requests);
  fields.integer("dropped_tokens", totals.dropped_tokens);
  fields.integer("unsampled_requests", totals.unsampled_requests);
  return totals;
}

}  // namespace moeopt
