#include "bench/result.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"

namespace moeopt::bench {
namespace {

constexpr std::size_t kMostGaps = 2'000'000;
constexpr JsonLimits kResultLimits = {
    .bytes = std::size_t{256} << 20, .depth = 32, .nodes = 16'000'000};

std::size_t gaps_in(const LoadRun& run) {
  std::size_t gaps = 0;
  for (const RequestRecord& record : run.records) gaps += record.gaps_us.size();
  return gaps;
}

OrderedJson record_json(const RequestRecord& record, bool with_gaps) {
  OrderedJson json = {{"start_us", record.start_us},
                      {"sent_us", record.sent_us},
                      {"first_text_us", record.first_text_us},
                      {"last_text_us", record.last_text_us},
                      {"end_us", record.end_us},
                      {"prompt_tokens", record.prompt_tokens},
                      {"cached_tokens", record.cached_tokens},
                      {"output_tokens", record.output_tokens},
                      {"text_events", record.text_events},
                      {"has_usage", record.has_usage},
                      {"finish_reason", record.finish_reason},
                      {"error", record.error}};
  if (with_gaps) json["gaps_us"] = record.gaps_us;
  return json;
}

// The members of a kept result, checked one by one.
class Fields {
 public:
  Fields(const OrderedJson& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) refuse("", "an object");
  }

  const OrderedJson& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) refuse(key, "there");
    return *found;
  }
  std::string text(const char* key) const {
    const OrderedJson& value = at(key);
    if (!value.is_string()) refuse(key, "text");
    return value.get<std::string>();
  }
  double number(const char* key) const {
    const OrderedJson& value = at(key);
    if (!value.is_number()) refuse(key, "a number");
    return value.get<double>();
  }
  template <typename T>
  T whole(const char* key, std::int64_t least = 0) const {
    return whole_value<T>(at(key), key, least);
  }
  template <typename T>
  T whole_value(const OrderedJson& value, const char* key, std::int64_t least) const {
    constexpr std::int64_t kMost =
        std::is_same_v<T, std::int64_t> ? std::int64_t{1} << 53 : std::numeric_limits<T>::max();
    // Above int64 a number is stored as unsigned, and read here as negative: refused as well.
    if (!value.is_number_integer() || value.get<std::int64_t>() < least ||
        value.get<std::int64_t>() > kMost) {
      refuse(key, fmt::format("a whole number from {} to {}", least, kMost));
    }
    return value.get<T>();
  }
  bool truth(const char* key) const {
    const OrderedJson& value = at(key);
    if (!value.is_boolean()) refuse(key, "true or false");
    return value.get<bool>();
  }
  [[noreturn]] void refuse(std::string_view key, std::string_view wanted) const {
    throw_error(ErrorCode::kInvalidData, "{}: {} is not {}", where_,
                key.empty() ? std::string("it") : fmt::format("\"{}\"", key), wanted);
  }

 private:
  const OrderedJson& object_;
  std::string where_;
};

RequestRecord read_record(const OrderedJson& json, const std::string& where) {
  const Fields fields(json, where);
  RequestRecord record;
  record.start_us = fields.whole<std::int64_t>("start_us");
  record.sent_us = fields.whole<std::int64_t>("sent_us", -1);
  record.first_text_us = fields.whole<std::int64_t>("first_text_us", -1);
  record.last_text_us = fields.whole<std::int64_t>("last_text_us", -1);
  record.end_us = fields.whole<std::int64_t>("end_us");
  record.prompt_tokens = fields.whole<int>("prompt_tokens");
  record.cached_tokens = fields.whole<int>("cached_tokens");
  record.output_tokens = fields.whole<int>("output_tokens");
  record.text_events = fields.whole<int>("text_events");
  record.has_usage = fields.truth("has_usage");
  record.finish_reason = fields.text("finish_reason");
  record.error = fields.text("error");
  if (const auto gaps = json.find("gaps_us"); gaps != json.end()) {
    if (!gaps->is_array()) fields.refuse("gaps_us", "a list");
    for (const OrderedJson& gap : *gaps) {
      record.gaps_us.push_back(fields.whole_value<std::uint32_t>(gap, "gaps_us", 0));
    }
  }
  return record;
}

}  // namespace

std::vector<std::string> warnings_about(const Measurement& measured) {
  std::vector<std::string> warnings;
  const Summary& summary = measured.summary;
  const ClientCost& client = measured.run.client;
  if (measured.run.interrupted) warnings.emplace_back("interrupted: the figures are of a part");
  if (summary.answered < summary.requests) {
    warnings.push_back(fmt::format("{} of {} requests failed; the figures are of the others",
                                   summary.requests - summary.answered, summary.requests));
  }
  if (summary.counted_by_server < summary.answered) {
    warnings.push_back(fmt::format(
        "{} answers came without usage: their output tokens are events, their prompts count as 0",
        summary.answered - summary.counted_by_server));
  }
  if (client.share() > 0.5) {
    warnings.push_back(
        fmt::format("the client was busy for {:.0f}% of the time: it may be the bottleneck itself",
                    client.share() * 100));
  }
  if (client.lag_p99_ms > 5) {
    warnings.push_back(
        fmt::format("the client's events were up to {:.1f} ms late (p99): so are the latencies",
                    client.lag_p99_ms));
  }
  // Failed requests make the server count tokens that the client leaves out.
  if (measured.counters && summary.answered == summary.requests &&
      summary.counted_by_server == summary.answered) {
    const auto check = [&](std::string_view ending, std::int64_t own, std::string_view what) {
      const auto theirs = counter_ending(*measured.counters, ending);
      if (theirs && static_cast<std::int64_t>(std::llround(*theirs)) != own) {
        warnings.push_back(
            fmt::format("the server counted {:.0f} {} tokens, the client {}: was "
                        "someone else served too?",
                        *theirs, what, own));
      }
    };
    check("generation_tokens_total", summary.output_tokens, "output");
    check("prompt_tokens_total", summary.prompt_tokens, "prompt");
  }
  return warnings;
}

OrderedJson result_json(const ResultParts& parts) {
  const Measurement& measured = *parts.measured;
  const MeasurementPlan& plan = *parts.plan;
  const LoadRun& run = measured.run;
  OrderedJson optimisations = OrderedJson::array();
  for (const ServerOptimisation& state : optimisations_in_run(measured)) {
    optimisations.push_back({{"name", state.name},
                             {"asked", state.asked},
                             {"state", state.state},
                             {"reason", state.reason},
                             {"layers", state.layers},
                             {"launches_in_run", state.launches}});
  }
  OrderedJson counters = nullptr;
  if (measured.counters) counters = *measured.counters;
  OrderedJson json = {
      {"schema", kResultSchema},
      {"started", measured.started},
      {"tool", parts.tool},
      {"machine", parts.machine},
      {"server",
       {{"url", plan.url.text()},
        {"host", plan.url.is_loopback() ? "this machine" : plan.url.authority()},
        {"model", measured.server.model},
        {"version", measured.server.version},
        {"health", measured.health_after},
        {"optimisations", std::move(optimisations)},
        {"counters_moved", std::move(counters)}}},
      {"workload", workload_json(plan.workload, measured.server.prompts, measured.workload)},
      {"summary", summary_json(measured.summary, plan.slo)},
      {"client",
       {{"cpu_s", run.client.cpu_s},
        {"wall_s", run.client.wall_s},
        {"events", run.client.events},
        {"lag_p99_ms", run.client.lag_p99_ms},
        {"lag_max_ms", run.client.lag_max_ms}}},
      {"warnings", warnings_about(measured)},
      {"duration_s", run.duration_s},
      {"interrupted", run.interrupted}};
  const bool with_gaps = gaps_in(run) <= kMostGaps;
  OrderedJson requests = OrderedJson::array();
  for (const RequestRecord& record : run.records) {
    requests.push_back(record_json(record, with_gaps));
  }
  json["requests"] = std::move(requests);
  return json;
}

KeptResult read_result(const OrderedJson& json, std::string_view name) {
  KeptResult kept;
  kept.name = name;
  const Fields fields(json, kept.name);
  if (fields.text("schema") != kResultSchema) {
    fields.refuse("schema", fmt::format("\"{}\"", kResultSchema));
  }
  kept.machine = fields.at("machine");
  kept.workload = fields.at("workload");
  if (!kept.workload.is_object()) fields.refuse("workload", "an object");
  kept.run.duration_s = fields.number("duration_s");
  kept.run.interrupted = fields.truth("interrupted");
  const Fields server(fields.at("server"), kept.name + ": server");
  kept.model = server.text("model");
  kept.host = server.text("host");
  kept.version = server.at("version");
  kept.health = server.at("health");
  const OrderedJson& optimisations = server.at("optimisations");
  if (!optimisations.is_array()) server.refuse("optimisations", "a list");
  for (const OrderedJson& entry : optimisations) {
    const Fields optimisation(entry, kept.name + ": server: optimisations");
    kept.optimisations.push_back({optimisation.text("name"), optimisation.text("asked"),
                                  optimisation.text("state"), optimisation.text("reason"),
                                  optimisation.whole<std::int64_t>("layers"),
                                  optimisation.whole<std::int64_t>("launches_in_run")});
  }
  const OrderedJson& requests = fields.at("requests");
  if (!requests.is_array()) fields.refuse("requests", "a list");
  for (const OrderedJson& request : requests) {
    kept.run.records.push_back(
        read_record(request, fmt::format("{}: requests[{}]", kept.name, kept.run.records.size())));
  }
  return kept;
}

KeptResult read_result_file(const std::filesystem::path& file) {
  const std::string text = read_file(file, kResultLimits.bytes);
  return read_result(parse_ordered_json(text, file.string(), kResultLimits), file.string());
}

}  // namespace moeopt::bench
