// ModelSpec: a decoder-only language model as data. Everything that a backend, the planner or the
// inspector needs to know about an architecture is here; nothing above model/ asks for a family.
// Invariant: a spec that left parse_model_spec() is consistent (extents positive and bounded,
// heads divisible, top_k <= experts), so readers divide and allocate without checking again.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace moeopt {

enum class Family { kQwen3Moe, kQwen2Moe, kMixtral, kDeepseekV2, kDeepseekV3, kUnknown };

// Rotary embedding with every scaling rule (linear, yarn, llama3) already applied.
struct RopeSpec {
  std::vector<double> inverse_frequencies;  // dim / 2 of them
  double magnitude = 1.0;                   // factor on cos and sin (yarn's attention factor)
  bool interleaved = false;                 // rotate pairs (2i, 2i+1); otherwise (i, i + dim/2)
  int dim() const { return 2 * static_cast<int>(inverse_frequencies.size()); }
};

enum class AttentionKind { kGqa, kMla };

struct AttentionSpec {
  AttentionKind kind = AttentionKind::kGqa;
  int n_heads = 0;
  int n_kv_heads = 0;   // GQA; equals n_heads for MLA
  int qk_head_dim = 0;  // of one query head; MLA: qk_nope_dim + qk_rope_dim
  int v_head_dim = 0;
  double softmax_scale = 0;
  bool qkv_bias = false;
  bool o_bias = false;
  bool qk_norm = false;               // RMSNorm of each head of q and k before rope (Qwen3)
  std::optional<int> sliding_window;  // a token sees itself and the window - 1 before it
  // MLA (DeepSeek-V2, arXiv 2405.04434 section 2.1); the rope part comes last in a query head.
  int q_lora_rank = 0;  // 0: queries are projected directly
  int kv_lora_rank = 0;
  double lora_norm_epsilon = 1e-6;  // of the norms after the two low-rank projections
  int qk_nope_dim = 0;
  int qk_rope_dim = 0;
};

enum class RouterScore { kSoftmax, kSigmoid };
enum class GroupScore { kMax, kTopTwoSum };

struct RouterSpec {
  RouterScore score = RouterScore::kSoftmax;
  bool correction_bias = false;  // added for the selection alone, never to the weights
  int n_groups = 1;              // experts are split in n_groups equal runs ...
  int top_k_groups = 1;          // ... of which the best top_k_groups may be chosen from
  GroupScore group_score = GroupScore::kMax;
  bool renormalise = true;           // divide the k weights by their sum
  double renormalise_epsilon = 0.0;  // added to that sum
  double scale = 1.0;                // times the weights, last
};

struct MoeSpec {
  int n_experts = 0;
  int top_k = 0;
  int intermediate = 0;  // of one routed expert
  RouterSpec router;
  int shared_intermediate = 0;      // all shared experts together; 0: none
  bool shared_expert_gate = false;  // shared output times sigmoid(x . gate)
};

struct LayerSpec {
  AttentionSpec attention;
  std::optional<MoeSpec> moe;  // absent: a dense SwiGLU MLP of
  int dense_intermediate = 0;  // this size
};

enum class Quantisation { kNone, kFp8Block128 };  // e4m3 weights with 128x128 weight_scale_inv

// What a weight is for. Matrices are [out, in] as in torch.nn.Linear.
enum class WeightRole : std::uint8_t {
  kEmbedding,
  kFinalNorm,
  kLmHead,
  kAttentionNorm,
  kQ,
  kK,
  kV,
  kO,
  kQBias,
  kKBias,
  kVBias,
  kOBias,
  kQNorm,
  kKNorm,
  kQA,
  kQANorm,
  kQB,
  kKvA,
  kKvANorm,
  kKvB,  // MLA; kQ is used when q_lora_rank == 0
  kMlpNorm,
  kDenseGate,
  kDenseUp,
  kDenseDown,
  kRouter,
  kRouterBias,
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kSharedGate,
  kSharedUp,
  kSharedDown,
  kSharedExpertGate,
};

struct ModelSpec {
  Family family = Family::kUnknown;
  std::string architecture;  // as in config.json
  std::string model_type;
  std::int64_t vocab = 0;
  int hidden = 0;
  double norm_epsilon = 1e-6;
  bool tied_embeddings = false;
  std::int64_t max_position = 0;
  RopeSpec rope;
  std::vector<LayerSpec> layers;
  DType dtype = DType::kBF16;  // of unquantised weights, as config.json declares it
  Quantisation quantisation = Quantisation::kNone;
  std::vector<std::int32_t> eos_ids;  // config.json's; generation_config.json may say more
  std::optional<std::int32_t> bos_id;
  std::optional<std::string> not_runnable;  // why this program only inspects and plans it
  std::string not_runnable_hint;            // what to do instead; may be empty
  std::set<std::string, std::less<>> unquantised_modules;  // that a quantised checkpoint left alone
  std::map<WeightRole, std::string> weight_names;          // patterns with {layer} and {expert}
};

// One tensor that a checkpoint of `spec` must hold.
struct WeightSpec {
  WeightRole role;
  int layer;   // -1 outside the layers
  int expert;  // -1 outside the routed experts
  std::string name;
  Shape shape;
  bool quantised;  // stored e4m3; its scales are `name` + "_scale_inv", [ceil(out/128),
                   // ceil(in/128)]
};

// Every tensor of a spec, in loading order. Of one that is not runnable, an approximation: shapes
// as far as its config tells, names as most checkpoints spell them.
std::vector<WeightSpec> weights_of(const ModelSpec& spec);

// Name of one weight, such as "model.layers.3.mlp.experts.7.up_proj.weight".
std::string weight_name(const ModelSpec& spec, WeightRole role, int layer = -1, int expert = -1);

}  // namespace moeopt
