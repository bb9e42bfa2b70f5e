// DeepSeek-V3 and R1: latent attention, sigmoid scores with a correction bias for the choice alone,
// groups ranked by their two best scores, weights renormalised and scaled. The multi-token
// prediction layers behind num_hidden_layers are not part of the model (arXiv 2412.19437).
#include "base/strings.h"
#include "model/family/deepseek.h"

namespace moeopt {

void parse_deepseek_v3(const ConfigReader& config, ModelSpec& spec) {
  namespace limits = config_limits;
  const AttentionSpec attention = read_mla(config, spec, config.flag_or("rope_interleave", true));

  MoeSpec moe = read_deepseek_moe(config);
  moe.router.score = RouterScore::kSigmoid;
  moe.router.correction_bias = true;
  moe.router.n_groups = config.extent_or("n_group", 1, limits::kExperts);
  moe.router.top_k_groups = config.extent_or("topk_group", moe.router.n_groups, limits::kExperts);
  moe.router.group_score = GroupScore::kTopTwoSum;
  moe.router.renormalise = config.flag_or("norm_topk_prob", true);
  moe.router.renormalise_epsilon = 1e-20;
  if (const std::string method = config.text_or("topk_method", "noaux_tc"); method != "noaux_tc") {
    set_not_runnable(spec, fmt::format("topk_method \"{}\" is not built", printable(method, 40)));
  }
  if (const std::string score = config.text_or("scoring_func", "sigmoid"); score != "sigmoid") {
    set_not_runnable(spec, fmt::format("scoring_func \"{}\" is not built", printable(score, 40)));
  }
  check_mlp(config, spec);
  append_deepseek_layers(config, attention, moe, spec);
}

}  // namespace moeopt
