#include "cli/session.h"

#include <utility>

#include "backend/faulty_backend.h"
#include "base/environment.h"
#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"
#include "cli/terminal.h"
#include "cpu/cpu_backend.h"
#include "cpu/ops.h"
#include "engine/scoring.h"
#include "model/check_weights.h"
#include "model/parse.h"

namespace moeopt::cli {
namespace {

std::unique_ptr<cpu::CpuOps> make_ops(const SessionOptions& options, const Hardware& hardware) {
  if (options.backend == "reference") return cpu::make_reference_ops();
  if (options.backend == "cpu") {
    const int threads =
        options.settings.threads.value > 0 ? options.settings.threads.value : hardware.threads;
    return cpu::make_fast_ops(threads, options.settings.isa.value);
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("backend \"{}\" is not in this version", options.backend),
              "cpu and reference are");
}

}  // namespace

Session::Session(SessionOptions options) : options_(std::move(options)) {
  folder_ = resolve_model(options_.model);
  spec_ = parse_model_spec(read_config(folder_), (folder_.folder / "config.json").string());
  require_runnable(spec_, folder_.name);
  defaults_ = generation_defaults(read_generation_config(folder_), spec_);
  tensors_ = open_tensors(folder_);
  check_weights(spec_, *tensors_);

  const Hardware hardware = parse_hardware(options_.settings.hardware.value, probe_host());
  if (hardware.kind != HardwareKind::kCpu) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("running on {} is not in this version", hardware.label),
                "use --hardware cpu, or `moeopt plan` for what it would need");
  }
  ops_ = make_ops(options_, hardware);
  if (options_.settings.kv_dtype.value == KvDtype::kAuto) {
    options_.settings.kv_dtype.value =
        ops_->kv_dtype() == DType::kF32 ? KvDtype::kF32 : KvDtype::kBf16;
  }
  PlanInput input;
  input.spec = &spec_;
  input.settings = &options_.settings;
  input.hardware = &hardware;
  input.tensors = tensors_.get();
  input.scratch = [this](const ModelSpec& spec, int max_rows, std::int64_t max_context) {
    return ops_->scratch_bytes(spec, max_rows, static_cast<int>(max_context));
  };
  input.record_routes = options_.record_routes;
  plan_ = plan_memory(input);

  if (!options_.with_text) return;
  if (const auto file = find_file(folder_, "tokenizer.json")) {
    tokenizer_.emplace(Tokenizer::from_file(*file));
    chat_template_ = load_chat_template(folder_.folder);
  }
}

Session::~Session() = default;

void Session::read_weights() {
  const auto weights = weights_of(spec_);
  const std::uint64_t total_bytes = plan_.per_rank.front().weight_bytes();
  std::uint64_t done_bytes = 0;
  Progress progress("reading weights");
  for (const WeightSpec& weight : weights) {
    const auto bytes = tensors_->view(weight.name).bytes();
    read_ahead(bytes);
    done_bytes += bytes.size();
    const double fraction = static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
    if (options_.on_progress) options_.on_progress("reading weights", fraction);
    progress.update(fraction,
                    fmt::format("{} of {}", format_bytes(done_bytes), format_bytes(total_bytes)));
  }
}

void Session::start() {
  read_weights();
  if (options_.on_progress) options_.on_progress("the start-up step", 1.0);
  backend_ = std::make_unique<cpu::CpuBackend>(spec_, *tensors_, plan_, std::move(ops_));
  if (options_.record_routes) backend_->set_record_routes(true);
#ifdef MOEOPT_FAULTS
  if (const auto faults = process_environment("MOEOPT_FAULTS")) {
    backend_ = std::make_unique<FaultyBackend>(std::move(backend_), parse_faults(*faults));
  }
#endif
  ledger_.emplace(plan_.optimisations);
  EngineOptions options;
  options.max_model_len = static_cast<int>(plan_.limits.max_model_len);
  options.max_step_tokens = plan_.limits.max_step_tokens;
  options.max_step_ms = options_.settings.max_step_ms.value;
  options.prefix_cache = ledger_->is_wanted("prefix-cache");
  options.chunked_prefill = ledger_->is_wanted("chunked-prefill");
  engine_ = std::make_unique<Engine>(*backend_, tokenizer(), options);

  const Engine::Counters counted = engine_->start_up_step();
  if (ledger_->is_wanted("chunked-prefill")) {
    ledger_->confirm("chunked-prefill", static_cast<int>(spec_.layers.size()),
                     counted.prefill_chunks, [this] { return engine_counters().prefill_chunks; });
  }
  if (ledger_->is_wanted("prefix-cache")) {
    ledger_->confirm("prefix-cache", static_cast<int>(spec_.layers.size()),
                     counted.prefix_hits_tokens,
                     [this] { return engine_counters().prefix_hits_tokens; });
  }
  if (ledger_->is_wanted("fp8")) {
    ledger_->confirm("fp8", static_cast<int>(spec_.layers.size()),
                     backend_->counters().fp8_matrix_products,
                     [this] { return backend_counters().fp8_matrix_products; });
  }
  ledger_->finish_startup();
}

EngineService& Session::serve(const EngineService::Options& options) {
  service_ = std::make_unique<EngineService>(std::move(engine_), options);
  return *service_;
}

EngineCounters Session::engine_counters() const {
  return service_ ? service_->snapshot().counters : engine_->counters();
}

Backend::Counters Session::backend_counters() const {
  return service_ ? service_->snapshot().backend : engine_->backend_counters();
}

void Session::set_route_sink(RouteSink* sink) {
  route_sink_ = sink;
  if (!engine_) return service_.reset();  // the service's engine calls its sink until it ends
  engine_->set_route_sink(sink);
}

void Session::score(std::span<const std::int32_t> ids,
                    const std::function<void(int, std::span<const float>)>& on_row) {
  constexpr std::uint64_t kScored = std::uint64_t{1} << 63;  // beside the engine's requests
  moeopt::score(*backend_, ids, plan_.limits.max_logit_rows, on_row, route_sink_,
                kScored + n_scored_++);
  engine_->forget_prefixes();  // their blocks were written over
}

const Tokenizer& Session::require_tokenizer() const {
  if (tokenizer_) return *tokenizer_;
  throw Error(ErrorCode::kNotFound, fmt::format("{}: no tokenizer.json", folder_.folder.string()),
              "`moeopt eval --ids` works without one");
}

std::vector<std::int32_t> Session::encode_chat(const nlohmann::ordered_json& messages) const {
  const Tokenizer& tokenizer = require_tokenizer();
  if (!chat_template_) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no chat template", folder_.folder.string()),
                "use --prompt for plain completion");
  }
  const nlohmann::ordered_json inputs = {{"messages", messages}, {"add_generation_prompt", true}};
  return tokenizer.encode(chat_template_->render(inputs), /*add_special_tokens=*/false);
}

std::vector<std::int32_t> Session::encode_prompt(const std::string& text) const {
  return require_tokenizer().encode(text, /*add_special_tokens=*/true);
}

}  // namespace moeopt::cli
