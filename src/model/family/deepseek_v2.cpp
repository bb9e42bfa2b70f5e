// DeepSeek-V2 and V2-Lite: latent attention, softmax router, greedy or limited to the best groups,
// shared experts without a gate.
#include "base/strings.h"
#include "model/family/deepseek.h"

namespace moeopt {

void parse_deepseek_v2(const ConfigReader& config, ModelSpec& spec) {
  namespace limits = config_limits;
  const AttentionSpec attention = read_mla(config, spec, /*interleaved=*/true);

  MoeSpec moe = read_deepseek_moe(config);
  moe.router.score = RouterScore::kSoftmax;
  moe.router.renormalise = false;
  const std::string method = config.text_or("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    moe.router.n_groups = config.extent("n_group", limits::kExperts);
    moe.router.top_k_groups = config.extent("topk_group", limits::kExperts);
    moe.router.group_score = GroupScore::kMax;
  } else if (method != "greedy") {
    set_not_runnable(spec, fmt::format("topk_method \"{}\" is not built", printable(method, 40)));
  }
  if (const std::string score = config.text_or("scoring_func", "softmax"); score != "softmax") {
    set_not_runnable(spec, fmt::format("scoring_func \"{}\" is not built", printable(score, 40)));
  }
  if (config.flag_or("norm_topk_prob", false)) {
    set_not_runnable(spec,
                     "norm_topk_prob: Transformers ignores it here, DeepSeek's code does not");
  }
  check_mlp(config, spec);
  append_deepseek_layers(config, attention, moe, spec);
}

}  // namespace moeopt
