#include "routing/jsonl_reader.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/strings.h"
#include "routing/log_format.h"
#include "tensor/dtype.h"

namespace moeopt {
namespace {

constexpr std::size_t kMaxLineBytes = std::size_t{1} << 20;
constexpr JsonLimits kLineLimits{kMaxLineBytes, 8, 100'000};
// A request larger than this is handed out in parts.
constexpr std::size_t kMaxGroupSlots = std::size_t{1} << 25;

std::string type_of(const Json& json) {
  if (!json.is_object() || !json.contains("type") || !json["type"].is_string()) return {};
  return json["type"].get<std::string>();
}

}  // namespace

JsonlReader::JsonlReader(LogInput input) : input_(std::move(input)) {
  read_header();
}

std::string JsonlReader::where() const {
  return fmt::format("{}:{}", input_.name(), input_.line_number());
}

void JsonlReader::read_header() {
  std::string_view text;
  bool ended = false;
  if (!input_.line(text, ended, kMaxLineBytes)) {
    throw_error(ErrorCode::kInvalidData, "{}: the file is empty", input_.name());
  }
  RouteLine first;
  if (scan_route_line(text, first)) {  // a log without any header
    header_ = parse_header(Json::object(), where());
    input_.rewind();
  } else {
    const Json json = parse_json(text, where(), kLineLimits);
    const std::string type = type_of(json);
    if (type != "meta" && type != "route") {
      throw_error(ErrorCode::kInvalidData,
                  "{}: not a routing log: \"type\" is \"{}\", not \"meta\"", where(),
                  printable(type, 40));
    }
    if (type == "meta") {
      header_ = parse_header(json, where());
    } else {
      header_ = parse_header(Json::object(), where());
      input_.rewind();
    }
  }
  if (header_.layers.empty() || header_.n_experts == 0 || header_.top_k == 0) infer_header();
  check_header(header_, input_.name() + ": header");
  layer_index_.assign(static_cast<std::size_t>(header_.layers.back()) + 1, -1);
  for (std::size_t i = 0; i < header_.layers.size(); ++i) {
    layer_index_[static_cast<std::size_t>(header_.layers[i])] = static_cast<int>(i);
  }
}

void JsonlReader::infer_header() {
  const std::uint64_t begin = input_.offset();
  std::set<int> layers;
  int experts = 0;
  int top_k = 0;
  bool weights = true;
  inferring_ = true;
  for (Kind kind = read_line(); kind != Kind::kEnd; kind = read_line()) {
    if (kind != Kind::kRoute) continue;
    layers.insert(line_.layer);
    if (layers.size() > kMaxLoggedLayers) {
      throw_error(ErrorCode::kInvalidData, "{}: more than {} layers", where(), kMaxLoggedLayers);
    }
    top_k = std::max(top_k, line_.n_ids);
    for (int i = 0; i < line_.n_ids; ++i) {
      experts = std::max(experts, line_.ids[static_cast<std::size_t>(i)] + 1);
    }
    weights = weights && line_.n_weights >= 0;
  }
  inferring_ = false;
  if (layers.empty()) {
    throw_error(ErrorCode::kInvalidData, "{}: no routes, and the header lacks {}", input_.name(),
                fmt::join(header_.missing, ", "));
  }
  if (header_.layers.empty()) header_.layers.assign(layers.begin(), layers.end());
  if (header_.n_experts == 0) header_.n_experts = experts;
  if (header_.top_k == 0) header_.top_k = top_k;
  header_.has_weights = header_.has_weights && weights;
  input_.rewind();
  std::string_view skipped;
  bool ended = false;
  if (begin > 0) input_.line(skipped, ended, kMaxLineBytes);
  truncated_ = false;
}

JsonlReader::Kind JsonlReader::read_line() {
  std::string_view text;
  bool ended = false;
  do {
    if (!input_.line(text, ended, kMaxLineBytes)) return Kind::kEnd;
  } while (text.find_first_not_of(" \t\r") == std::string_view::npos);
  if (scan_route_line(text, line_)) {
    if (!inferring_) check_line();
    return Kind::kRoute;
  }
  return read_other(text, ended);
}

JsonlReader::Kind JsonlReader::read_other(std::string_view text, bool ended) {
  try {
    json_ = parse_json(text, where(), kLineLimits);
  } catch (const Error&) {
    if (ended) throw;
    truncated_ = true;  // the writer was stopped within its last line
    return Kind::kEnd;
  }
  const std::string type = type_of(json_);
  if (type == "route") {
    read_route(json_, where(), line_);
    if (!inferring_) check_line();
    return Kind::kRoute;
  }
  if (type == "request") return Kind::kRequest;
  if (type == "totals") {
    stated_ = parse_totals(json_, where());
  } else if (type == "meta") {
    if (!inferring_) check_same_header(json_);
  } else {
    throw_error(ErrorCode::kInvalidData,
                "{}: \"type\" is \"{}\", it must be meta, request, route or totals", where(),
                printable(type, 40));
  }
  return Kind::kOther;
}

// Logs that were put together by `cat` are fine as long as they speak of the same model.
void JsonlReader::check_same_header(const Json& json) const {
  const RoutingHeader other = parse_header(json, where());
  const auto differs = [](const auto& a, const auto& b, const auto& absent) {
    return a != b && a != absent && b != absent;
  };
  const char* field = nullptr;
  if (differs(other.layers, header_.layers, std::vector<int>{})) field = "layers_logged";
  if (differs(other.n_experts, header_.n_experts, 0)) field = "n_experts";
  if (differs(other.top_k, header_.top_k, 0)) field = "top_k";
  if (differs(other.model, header_.model, std::string())) field = "model_id";
  if (field == nullptr) return;
  throw_error(ErrorCode::kInvalidData, "{}: a second header with another \"{}\"", where(), field);
}

void JsonlReader::check_line() {
  const auto refuse = [this](const char* field, const std::string& why) {
    throw_error(ErrorCode::kInvalidData, "{}: \"{}\" {}", where(), field, why);
  };
  if (static_cast<std::size_t>(line_.layer) >= layer_index_.size() ||
      layer_index_[static_cast<std::size_t>(line_.layer)] < 0) {
    refuse("layer", fmt::format("is {}, which the header does not list", line_.layer));
  }
  if (line_.n_ids > header_.top_k) {
    refuse("topk_ids", fmt::format("has {} entries, top_k is {}", line_.n_ids, header_.top_k));
  }
  for (int i = 0; i < line_.n_ids; ++i) {
    const int id = line_.ids[static_cast<std::size_t>(i)];
    if (id >= header_.n_experts) {
      refuse("topk_ids", fmt::format("names expert {} of {}", id, header_.n_experts));
    }
  }
  if (header_.has_weights && line_.n_weights < 0) refuse("topk_weights", "is missing");
  for (int i = 0; header_.has_weights && i < line_.n_weights; ++i) {
    if ((to_f16(line_.weights[static_cast<std::size_t>(i)]).bits & 0x7c00u) == 0x7c00u) {
      refuse("topk_weights", "holds a weight that fp16 cannot");
    }
  }
}

void JsonlReader::start_request() {
  const std::string place = where();
  const auto count = [&](const char* name) -> std::uint64_t {
    if (!json_.contains(name)) return 0;
    const Json& value = json_[name];
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > 0x7fffffffu) {
      throw_error(ErrorCode::kInvalidData, "{}: \"{}\" must be a whole number", place, name);
    }
    return value.get<std::uint64_t>();
  };
  if (!json_.contains("req_id") || !json_["req_id"].is_string() ||
      json_["req_id"].get_ref<const std::string&>().size() > kMaxRequestIdBytes) {
    throw_error(ErrorCode::kInvalidData, "{}: \"req_id\" must be a text of at most {} bytes", place,
                kMaxRequestIdBytes);
  }
  group_.id = json_["req_id"].get<std::string>();
  group_.prompt_tokens = static_cast<std::uint32_t>(count("prompt_tokens"));
  group_.cached_tokens = static_cast<std::uint32_t>(count("cached_tokens"));
  announced_ = !(json_.contains("partial") && json_["partial"] == true);
  announced_tokens_ = count("tokens");
  group_open_ = true;
}

std::size_t JsonlReader::row_of(bool fresh) {
  const std::uint64_t key = (std::uint64_t{line_.token} << 1) | (line_.replayed ? 1 : 0);
  if (rows_ > 0 && !fresh && last_token_ == line_.token && last_replayed_ == line_.replayed) {
    return rows_ - 1;
  }
  if (!fresh) {
    if (const auto known = row_of_token_.find(key); known != row_of_token_.end()) {
      return known->second;
    }
  }
  RouteSpan* last = group_.spans.empty() ? nullptr : &group_.spans.back();
  if (last != nullptr && last->first_token + last->n_tokens == line_.token &&
      last->phase == line_.phase && last->replayed == line_.replayed) {
    last->n_tokens += 1;
  } else {
    group_.spans.push_back({line_.token, 1, line_.phase, line_.replayed});
  }
  const std::size_t cells = header_.layers.size() * static_cast<std::size_t>(header_.top_k);
  group_.ids.resize(group_.ids.size() + cells, kNoExpert);
  if (header_.has_weights) group_.weights.resize(group_.ids.size(), 0);
  last_token_ = line_.token;
  last_replayed_ = line_.replayed;
  row_of_token_[key] = rows_;
  return rows_++;
}

void JsonlReader::add_route() {
  if (!group_open_) {
    group_.id = line_.request;
    group_open_ = true;
  }
  const auto layer = static_cast<std::size_t>(layer_index_[static_cast<std::size_t>(line_.layer)]);
  const auto top_k = static_cast<std::size_t>(header_.top_k);
  const auto slot_of = [&](std::size_t row) {
    return (row * header_.layers.size() + layer) * top_k;
  };
  std::size_t first = slot_of(row_of(false));
  // The same token and layer once more: computed again, so a row of its own.
  if (group_.ids[first] != kNoExpert) first = slot_of(row_of(true));
  for (std::size_t i = 0; i < static_cast<std::size_t>(line_.n_ids); ++i) {
    group_.ids[first + i] = line_.ids[i];
    if (header_.has_weights) group_.weights[first + i] = to_f16(line_.weights[i]).bits;
  }
  ++filled_cells_;
  ++records_;
}

bool JsonlReader::flush(RequestRoutes& routes) {
  if (!group_open_) return false;
  group_.complete = announced_ && announced_tokens_ == rows_ && filled_cells_ > 0 &&
                    filled_cells_ == rows_ * header_.layers.size();
  routes = std::move(group_);
  group_ = {};
  group_open_ = announced_ = false;
  announced_tokens_ = 0;
  filled_cells_ = rows_ = 0;
  row_of_token_.clear();
  return true;
}

bool JsonlReader::next(RequestRoutes& routes) {
  if (pending_request_) start_request();
  if (pending_route_) add_route();
  pending_request_ = pending_route_ = false;
  if (truncated_) return flush(routes);
  while (true) {
    const Kind kind = read_line();
    if (kind == Kind::kEnd) {
      const std::uint64_t cells = announced_ ? announced_tokens_ * header_.layers.size() : 0;
      if (rows_ < announced_tokens_ || filled_cells_ < cells) truncated_ = true;
      return flush(routes);
    }
    if (kind == Kind::kRequest) {
      if (group_open_) {
        pending_request_ = true;
        return flush(routes);
      }
      start_request();
    } else if (kind == Kind::kRoute) {
      const bool full = group_.ids.size() >= kMaxGroupSlots;
      if (group_open_ && (full || line_.request != group_.id)) {
        pending_route_ = true;
        return flush(routes);
      }
      add_route();
    }
  }
}

}  // namespace moeopt
