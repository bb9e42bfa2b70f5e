#include "plan/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/json.h"
#include "base/strings.h"
#include "plan/settings_table.h"

namespace moeopt {
namespace {

// What a setting became in this plan; empty when the plan decides nothing about it.
std::string resolved_text(const MemoryPlan& plan, std::string_view key) {
  const std::map<std::string_view, std::string> resolved = {
      {"hardware", plan.hardware.name},
      {"gpus", plan.hardware.kind == HardwareKind::kGpu ? std::to_string(plan.ranks) : "none"},
      {"max_model_len", std::to_string(plan.limits.max_model_len)},
      {"max_num_seqs", std::to_string(plan.limits.max_sequences)},
      {"max_num_batched_tokens", std::to_string(plan.limits.max_step_tokens)},
      {"kv_dtype", std::string(dtype_name(plan.kv.dtype))},
  };
  const auto at = resolved.find(key);
  return at == resolved.end() ? std::string() : at->second;
}

std::string size_line(int indent, std::string_view name, std::uint64_t bytes,
                      const std::string& remark) {
  std::string line =
      fmt::format("{:{}}{:<{}}{:>11}", "", indent, name, 22 - indent, format_bytes(bytes));
  if (!remark.empty()) line += fmt::format("  {}", remark);
  return line + "\n";
}

std::string memory_text(const MemoryPlan& plan) {
  const RankPlan& rank = plan.per_rank.front();
  const char* rows = plan.estimated ? " (estimated)" : "";
  std::string text = plan.ranks > 1 ? fmt::format("memory of each of {} GPUs{}\n", plan.ranks, rows)
                                    : fmt::format("memory{}\n", rows);
  text += size_line(2, "weights", rank.weight_bytes(), "");
  for (int i = 0; i < kWeightClasses; ++i) {
    const std::uint64_t bytes = rank.weights[static_cast<std::size_t>(i)];
    if (bytes == 0) continue;
    const double share = 100.0 * static_cast<double>(bytes) /
                         static_cast<double>(std::max<std::uint64_t>(1, rank.weight_bytes()));
    text += size_line(4, weight_class_name(static_cast<WeightClass>(i)), bytes,
                      fmt::format("{:>5.1f}%", share));
  }
  text += size_line(2, "KV cache", rank.kv_bytes,
                    fmt::format("{} blocks of {} tokens, {} a token, {}", plan.limits.kv_blocks,
                                plan.limits.block_tokens, format_bytes(plan.kv_token_bytes),
                                dtype_name(plan.kv.dtype)));
  text += size_line(2, "workspace", rank.workspace_bytes, "");
  if (plan.ranks > 1) text += size_line(2, "communication", rank.communication_bytes, "");
  text += size_line(2, "margin", rank.margin_bytes,
                    plan.hardware.kind == HardwareKind::kGpu ? "driver and libraries"
                                                             : "code, libraries, tokenizer");
  text += size_line(2, "total", rank.total_bytes(),
                    fmt::format("of {} ({:.0f}% of {})", format_bytes(plan.budget_bytes),
                                100 * plan.settings.gpu_memory_utilization.value,
                                format_bytes(plan.hardware.memory_bytes)));
  return text;
}

std::string fit_text(const MemoryPlan& plan) {
  const ExecutionLimits& limits = plan.limits;
  return fmt::format(
      "planned   {} sequence{} of up to {} tokens, {} tokens a step\n"
      "would fit context {} for one sequence; batch {} at {} tokens\n",
      limits.max_sequences, limits.max_sequences == 1 ? "" : "s", limits.max_model_len,
      limits.max_step_tokens, plan.largest_context, plan.largest_batch, limits.max_model_len);
}

// "would apply" until a start-up step has counted something.
std::string_view status_text(OptimisationStatus status) {
  return status == OptimisationStatus::kPlanned ? "would apply" : optimisation_status_name(status);
}

std::string state_remark(const OptimisationState& state) {
  switch (state.status) {
    case OptimisationStatus::kDeclined:
      return state.reason;
    case OptimisationStatus::kPlanned:
      return fmt::format("{} layers", state.layers);
    case OptimisationStatus::kApplied: {
      std::string text = fmt::format("{} layers, {} launches", state.layers, state.launches);
      if (state.measured_gain) text += fmt::format(", measured {:.2f}x", *state.measured_gain);
      return text;
    }
    case OptimisationStatus::kOff:
      break;
  }
  return {};
}

std::string settings_text(const MemoryPlan& plan) {
  std::string text = "settings\n";
  for (const SettingRow& row : setting_rows()) {
    std::string value = setting_text(row, plan.settings);
    const std::string resolved = resolved_text(plan, row.info.key());
    if (!resolved.empty() && resolved != value) value = fmt::format("{} -> {}", value, resolved);
    text += fmt::format("  {:<24}{:<20}{}\n", row.info.key(), value,
                        setting_origin(row, plan.settings).text());
  }
  return text;
}

nlohmann::json settings_json(const MemoryPlan& plan) {
  nlohmann::json settings = nlohmann::json::object();
  for (const SettingRow& row : setting_rows()) {
    nlohmann::json& setting = settings[row.info.key()];
    setting["value"] = setting_text(row, plan.settings);
    setting["origin"] = setting_origin(row, plan.settings).text();
    if (const std::string resolved = resolved_text(plan, row.info.key()); !resolved.empty()) {
      setting["planned"] = resolved;
    }
  }
  return settings;
}

nlohmann::json rank_json(const RankPlan& rank, int index) {
  nlohmann::json weights = nlohmann::json::object();
  for (int i = 0; i < kWeightClasses; ++i) {
    std::string name(weight_class_name(static_cast<WeightClass>(i)));
    std::ranges::transform(name, name.begin(), [](char c) {
      return c == ' ' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    weights[name] = rank.weights[static_cast<std::size_t>(i)];
  }
  return {{"rank", index},
          {"weights", std::move(weights)},
          {"weight_bytes", rank.weight_bytes()},
          {"kv_bytes", rank.kv_bytes},
          {"workspace_bytes", rank.workspace_bytes},
          {"communication_bytes", rank.communication_bytes},
          {"margin_bytes", rank.margin_bytes},
          {"total_bytes", rank.total_bytes()}};
}

// Of rank 0; the others differ in which experts they hold alone.
nlohmann::json buffers_json(const MemoryPlan& plan) {
  nlohmann::json buffers = nlohmann::json::array();
  for (const PlannedBuffer& buffer : plan.buffers) {
    if (buffer.rank != 0) continue;
    nlohmann::json row = {{"name", buffer.name},
                          {"kind", buffer_kind_name(buffer.kind)},
                          {"bytes", buffer.bytes},
                          {"transform", buffer.transform}};
    if (buffer.weight_class) row["class"] = weight_class_name(*buffer.weight_class);
    if (!buffer.sources.empty()) row["sources"] = buffer.sources;
    buffers.push_back(std::move(row));
  }
  return buffers;
}

}  // namespace

std::string optimisations_text(const std::vector<OptimisationState>& states) {
  std::string text;
  for (const OptimisationStatus status :
       {OptimisationStatus::kApplied, OptimisationStatus::kPlanned, OptimisationStatus::kDeclined,
        OptimisationStatus::kOff}) {
    for (const OptimisationState& state : states) {
      if (state.status != status) continue;
      std::string line =
          fmt::format("  {:<13}{:<20}{}", status_text(status), state.name, state_remark(state));
      if (!state.asked_by.where.empty() && state.asked_by.kind > OriginKind::kProfile) {
        line += fmt::format(" [{}]", state.asked_by.text());
      }
      line.erase(line.find_last_not_of(' ') + 1);
      line += '\n';
      text += line;
    }
  }
  return text;
}

nlohmann::json optimisations_json(const std::vector<OptimisationState>& states) {
  nlohmann::json rows = nlohmann::json::array();
  for (const OptimisationState& state : states) {
    nlohmann::json row = {{"name", state.name},
                          {"asked", ask_name(state.asked)},
                          {"origin", state.asked_by.text()},
                          {"state", optimisation_status_name(state.status)},
                          {"reason", state.reason},
                          {"layers", state.layers},
                          {"launches", state.launches}};
    row["measured_gain"] = nullptr;
    if (state.measured_gain) row["measured_gain"] = *state.measured_gain;
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string plan_text(const MemoryPlan& plan, const ModelSpec& spec, std::string_view model_name) {
  std::string text =
      fmt::format("{} ({}, {} layers) on {}\n\n", printable(model_name),
                  printable(spec.architecture), spec.layers.size(), plan.hardware.label);
  text += fmt::format("{}\n{}\noptimisations\n{}\n{}", memory_text(plan), fit_text(plan),
                      optimisations_text(plan.optimisations), settings_text(plan));
  if (plan.notes.empty()) return text;
  text += "\nnotes\n";
  for (const PlanNote& note : plan.notes) {
    text += fmt::format("  {}{}\n", note.kind == PlanNote::Kind::kWarning ? "warning: " : "",
                        note.text);
  }
  return text;
}

nlohmann::json plan_json(const MemoryPlan& plan, const ModelSpec& spec,
                         std::string_view model_name) {
  nlohmann::json json;
  json["model"] = {{"name", printable(model_name)},
                   {"architecture", printable(spec.architecture)},
                   {"layers", spec.layers.size()},
                   {"runs", !spec.not_runnable.has_value()}};
  json["hardware"] = {{"name", plan.hardware.name},
                      {"label", plan.hardware.label},
                      {"devices", plan.hardware.devices},
                      {"memory_bytes", plan.hardware.memory_bytes}};
  json["estimated"] = plan.estimated;
  json["ranks"] = plan.ranks;
  json["budget_bytes"] = plan.budget_bytes;
  json["limits"] = {{"max_model_len", plan.limits.max_model_len},
                    {"max_sequences", plan.limits.max_sequences},
                    {"max_step_tokens", plan.limits.max_step_tokens},
                    {"max_logit_rows", plan.limits.max_logit_rows}};
  json["kv"] = {{"dtype", dtype_name(plan.kv.dtype)},
                {"block_tokens", plan.limits.block_tokens},
                {"blocks", plan.limits.kv_blocks},
                {"bytes_per_token", plan.kv_token_bytes}};
  json["largest_context"] = plan.largest_context;
  json["largest_batch"] = plan.largest_batch;
  json["per_rank"] = nlohmann::json::array();
  for (std::size_t i = 0; i < plan.per_rank.size(); ++i) {
    json["per_rank"].push_back(rank_json(plan.per_rank[i], static_cast<int>(i)));
  }
  json["buffers"] = buffers_json(plan);
  json["optimisations"] = optimisations_json(plan.optimisations);
  json["settings"] = settings_json(plan);
  json["notes"] = nlohmann::json::array();
  for (const PlanNote& note : plan.notes) {
    json["notes"].push_back({{"kind", note.kind == PlanNote::Kind::kWarning ? "warning" : "info"},
                             {"text", note.text}});
  }
  return json;
}

}  // namespace moeopt
