#include "cli/routing_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>

#include "base/environment.h"
#include "base/error.h"
#include "base/strings.h"
#include "cli/terminal.h"
#include "cli/version.h"

namespace moeopt::cli {
namespace {

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::vector<int> moe_layers(const ModelSpec& spec) {
  std::vector<int> layers;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    if (spec.layers[i].moe) layers.push_back(static_cast<int>(i));
  }
  return layers;
}

std::uint64_t seed_from(const std::string& text) {
  std::uint64_t seed = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (failed != std::errc() || end != text.data() + text.size()) {
    throw_error(ErrorCode::kUsage, "MOEOPT_LOG_MOE_SEED is \"{}\", it must be a whole number",
                printable(text));
  }
  return seed;
}

LogFormat format_of(const std::string& name, const std::string& file) {
  if (name != "auto") return log_format_from_name(name);
  return file.ends_with(".moer") || file.ends_with(".bin") ? LogFormat::kBinary : LogFormat::kJsonl;
}

}  // namespace

RoutingHeader routing_header(const Session& session, std::string_view layers) {
  const ModelSpec& spec = session.spec();
  RoutingHeader header;
  header.model = session.folder().name;
  header.program = program_name();
  header.started = utc_now();
  header.n_layers = static_cast<int>(spec.layers.size());
  header.layers = moe_layers(spec);
  if (header.layers.empty()) {
    throw_error(ErrorCode::kUsage, "no routing to record: {} has no MoE layers", header.model);
  }
  header.layers = select_layers(layers, header.layers);
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.moe) continue;
    header.n_experts = std::max(header.n_experts, layer.moe->n_experts);
    header.top_k = std::max(header.top_k, layer.moe->top_k);
    header.router = layer.moe->router.score == RouterScore::kSigmoid ? "sigmoid" : "softmax";
  }
  return header;
}

RoutingLog::RoutingLog(Session& session, LogWriterOptions writer, RoutingHeader header,
                       RecorderOptions options)
    : session_(session),
      file_(writer.file.string()),
      recorder_(std::move(writer), std::move(header), moe_layers(session.spec()),
                std::move(options)) {
  session_.set_route_sink(&recorder_);
}

RoutingLog::~RoutingLog() {
  close();
}

void RoutingLog::close() {
  if (closed_) return;
  closed_ = true;
  session_.set_route_sink(nullptr);
  recorder_.close();
}

std::string RoutingLog::finish(nlohmann::ordered_json& out) {
  close();
  const RoutingLogWriter::State state = recorder_.state();
  const RoutingTotals& totals = state.totals;
  nlohmann::ordered_json& log = out["routing_log"];
  log["file"] = file_;
  log["parts"] = state.parts;
  log["bytes"] = state.bytes_written;
  log["requests"] = totals.requests;
  log["tokens"] = totals.tokens;
  log["dropped_requests"] = totals.dropped_requests;
  log["unsampled_requests"] = totals.unsampled_requests;
  log["error"] = state.error;
  std::string line = fmt::format("routing log {}: {} tokens of {} requests, {}", file_,
                                 totals.tokens, totals.requests, format_bytes(state.bytes_written));
  if (totals.dropped_requests > 0) {
    line += fmt::format(", {} requests dropped", totals.dropped_requests);
  }
  if (!state.error.empty()) line += ", ended by an error: " + state.error;
  return line + "\n";
}

void RoutingLog::finish_aloud() {
  nlohmann::ordered_json unused;
  fmt::print(stderr, "{}", finish(unused));
}

int RoutingLog::exit_code() const {
  return recorder_.state().error.empty() ? 0 : moeopt::exit_code(ErrorCode::kIo);
}

void RoutingFlags::add_to(CLI::App& verb) {
  const char* group = "Routing log";
  verb.add_option("--routing-log", file_, "Record which expert each token goes to")
      ->type_name("FILE")
      ->envname("MOEOPT_LOG_MOE")
      ->group(group);
  verb.add_option("--routing-layers", layers_, "Layers to record: all, or a list such as 0,2,5-7")
      ->type_name("LAYERS")
      ->envname("MOEOPT_LOG_MOE_LAYER")
      ->group(group);
  verb.add_option("--routing-sample", sample_, "Share of requests to record, whole ones, in (0, 1]")
      ->type_name("SHARE")
      ->check(CLI::Range(1e-9, 1.0))
      ->group(group);
  verb.add_option("--routing-format", format_, "jsonl, binary, or auto: binary for FILE.moer")
      ->check(CLI::IsMember({"auto", "jsonl", "binary"}))
      ->group(group);
  verb.add_option("--routing-rotate", rotate_mib_, "Start FILE.1, FILE.2, ... at this many MiB")
      ->type_name("MIB")
      ->check(CLI::PositiveNumber)
      ->group(group);
}

std::unique_ptr<RoutingLog> RoutingFlags::start(Session& session) const {
  if (!wanted()) return nullptr;
  RoutingHeader header = routing_header(session, layers_);
  header.sampled = sample_;
  header.model = process_environment("MOEOPT_LOG_MOE_MODEL_ID").value_or(header.model);
  if (const auto seed = process_environment("MOEOPT_LOG_MOE_SEED")) header.seed = seed_from(*seed);

  LogWriterOptions writer;
  writer.file = file_;
  writer.format = format_of(format_, file_);
  writer.rotate_bytes = rotate_mib_ << 20;
  RecorderOptions options;
  options.sampled = sample_;
  options.seed = header.seed;
  options.request_id = process_environment("MOEOPT_LOG_MOE_REQ_ID").value_or("");
  return std::make_unique<RoutingLog>(session, std::move(writer), std::move(header),
                                      std::move(options));
}

}  // namespace moeopt::cli
