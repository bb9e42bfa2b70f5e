#include "model/quantisation.h"

#include <array>

#include "base/strings.h"
#include "model/family/family.h"

namespace moeopt {
namespace {

struct ForeignFormat {
  std::string_view method;  // as quant_method spells it
  std::string_view name;
};

constexpr std::array<ForeignFormat, 18> kForeignFormats = {{
    {"gguf", "GGUF"},
    {"awq", "AWQ"},
    {"gptq", "GPTQ"},
    {"gptq_marlin", "GPTQ (Marlin)"},
    {"compressed-tensors", "compressed-tensors"},
    {"compressed_tensors", "compressed-tensors"},
    {"bitsandbytes", "bitsandbytes"},
    {"mxfp4", "MXFP4"},
    {"fbgemm_fp8", "FBGEMM fp8 (one scale a row)"},
    {"modelopt", "NVIDIA ModelOpt"},
    {"torchao", "torchao"},
    {"hqq", "HQQ"},
    {"aqlm", "AQLM"},
    {"quanto", "Quanto"},
    {"eetq", "EETQ"},
    {"quark", "Quark"},
    {"auto-round", "AutoRound"},
    {"exl2", "EXL2"},
}};

constexpr std::string_view kHint =
    "use the model's bf16 checkpoint, or one in fp8 with 128x128 blocks (quant_method \"fp8\")";

void refuse_format(ModelSpec& spec, std::string_view format) {
  set_not_runnable(spec, fmt::format("{} weights are not read", format), std::string(kHint));
}

// Why an fp8 checkpoint is not the one layout that is read; empty when it is.
std::string why_other_fp8(const ConfigReader& quantisation) {
  const auto blocks = quantisation.integers("weight_block_size", 1, 1 << 20, 8);
  if (blocks.empty()) return "fp8 without weight blocks";
  if (blocks != std::vector<std::int64_t>{128, 128}) {
    return fmt::format("fp8 in blocks of {}", fmt::join(blocks, "x"));
  }
  if (const std::string format = quantisation.text_or("fmt", "e4m3"); format != "e4m3") {
    return fmt::format("fp8 format \"{}\"", printable(format, 40));
  }
  if (const std::string scheme = quantisation.text_or("activation_scheme", "dynamic");
      scheme != "dynamic") {
    return fmt::format("fp8 with activation_scheme \"{}\"", printable(scheme, 40));
  }
  return {};
}

void read_unquantised(const ConfigReader& quantisation, ModelSpec& spec) {
  constexpr std::size_t kMaxModules = 65536;
  for (const std::string_view field : {"modules_to_not_convert", "ignored_layers"}) {
    for (std::string& module : quantisation.texts(field, kMaxModules)) {
      spec.unquantised_modules.insert(std::move(module));
    }
  }
}

}  // namespace

void read_quantisation(const ConfigReader& config, ModelSpec& spec) {
  std::optional<ConfigReader> quantisation = config.child("quantization_config");
  if (!quantisation) quantisation = config.child("compression_config");
  if (!quantisation) return;

  std::string method = quantisation->text_or("quant_method", "");
  if (method.empty() && quantisation->flag_or("load_in_4bit", false)) method = "bitsandbytes";
  if (method.empty() && quantisation->flag_or("load_in_8bit", false)) method = "bitsandbytes";
  if (method.empty() && quantisation->has("config_groups")) method = "compressed-tensors";
  if (method == "fp8") {
    const std::string why = why_other_fp8(*quantisation);
    if (!why.empty()) return refuse_format(spec, why);
    spec.quantisation = Quantisation::kFp8Block128;
    return read_unquantised(*quantisation, spec);
  }
  for (const ForeignFormat& format : kForeignFormats) {
    if (method == format.method) return refuse_format(spec, format.name);
  }
  refuse_format(spec, fmt::format("quantisation \"{}\":", printable(method, 40)));
}

}  // namespace moeopt
