"""The golden cases: one tiny config.json per family and variant, spelt as hub checkpoints spell it.

Shapes are odd on purpose (no multiple of a tile), features that families combine are combined.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    name: str
    config: dict
    n_prompt: int = 29
    fp8: bool = False  # store linear weights of the layers as e4m3 with 128x128 block scales
    bf16_scales: bool = False  # and those scales in bf16, else float32
    shards: int = 1
    mtp: bool = False  # add tensors of a multi-token prediction layer, which readers skip


def _qwen3(**changes):
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "attention_bias": False,
        "bos_token_id": 1,
        "decoder_sparse_step": 1,
        "eos_token_id": 2,
        "head_dim": 10,
        "hidden_act": "silu",
        "hidden_size": 44,
        "intermediate_size": 36,
        "max_position_embeddings": 512,
        "max_window_layers": 3,
        "mlp_only_layers": [],
        "moe_intermediate_size": 20,
        "norm_topk_prob": True,
        "num_attention_heads": 6,
        "num_experts": 7,
        "num_experts_per_tok": 3,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "vocab_size": 131,
    } | changes


def _qwen2(**changes):
    return {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "bos_token_id": 1,
        "decoder_sparse_step": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 42,
        "intermediate_size": 50,
        "max_position_embeddings": 512,
        "max_window_layers": 3,
        "moe_intermediate_size": 22,
        "norm_topk_prob": False,
        "num_attention_heads": 3,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "shared_expert_intermediate_size": 38,
        "sliding_window": 64,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "vocab_size": 127,
    } | changes


def _mixtral(**changes):
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 40,
        "intermediate_size": 27,
        "max_position_embeddings": 512,
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "num_local_experts": 5,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "sliding_window": 7,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 113,
    } | changes


def _deepseek(**changes):
    return {
        "attention_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "first_k_dense_replace": 1,
        "hidden_act": "silu",
        "hidden_size": 48,
        "intermediate_size": 52,
        "kv_lora_rank": 18,
        "max_position_embeddings": 640,
        "moe_intermediate_size": 18,
        "moe_layer_freq": 1,
        "n_shared_experts": 2,
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
        "num_key_value_heads": 3,
        "qk_nope_head_dim": 10,
        "qk_rope_head_dim": 6,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "v_head_dim": 14,
        "vocab_size": 109,
    } | changes


def _deepseek_v2(**changes):
    return {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "aux_loss_alpha": 0.001,
        "n_group": 1,
        "n_routed_experts": 9,
        "norm_topk_prob": False,
        "num_experts_per_tok": 4,
        "q_lora_rank": None,
        "routed_scaling_factor": 1.0,
        "scoring_func": "softmax",
        "seq_aux": True,
        "topk_group": 1,
        "topk_method": "greedy",
    } | _deepseek() | changes


def _deepseek_v3(**changes):
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "n_group": 4,
        "n_routed_experts": 12,
        "norm_topk_prob": True,
        "num_experts_per_tok": 3,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 22,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "topk_group": 2,
        "topk_method": "noaux_tc",
    } | _deepseek(n_shared_experts=1, kv_lora_rank=19) | changes


_YARN = {
    "beta_fast": 32,
    "beta_slow": 1,
    "factor": 40,
    "original_max_position_embeddings": 16,
    "type": "yarn",
}

CASES = [
    Case("qwen3", _qwen3()),
    Case(
        "qwen3-dense-layers",
        _qwen3(
            attention_bias=True,
            decoder_sparse_step=2,
            mlp_only_layers=[3],
            norm_topk_prob=False,
            num_hidden_layers=6,
            rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
            tie_word_embeddings=True,
            vocab_size=211,
        ),
    ),
    Case(
        "qwen2",
        _qwen2(rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0}),
        n_prompt=25,
    ),
    Case(
        "qwen2-window",
        _qwen2(
            max_window_layers=2,
            mlp_only_layers=[1],
            norm_topk_prob=True,
            sliding_window=5,
            use_sliding_window=True,
        ),
    ),
    Case(
        "mixtral",
        _mixtral(
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        ),
        n_prompt=37,
        shards=2,
    ),
    Case(
        "deepseek-v2-lite",
        _deepseek_v2(rope_scaling=_YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}),
    ),
    Case(
        "deepseek-v2",
        _deepseek_v2(
            n_group=3,
            q_lora_rank=26,
            rms_norm_eps=1e-5,
            rope_scaling=_YARN | {"mscale": 1.2, "mscale_all_dim": 0.7},
            routed_scaling_factor=3.0,
            topk_group=2,
            topk_method="group_limited_greedy",
        ),
        n_prompt=26,
        shards=3,
    ),
    Case(
        "deepseek-v3",
        _deepseek_v3(rope_scaling=_YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}),
        n_prompt=31,
        mtp=True,
    ),
    Case(
        "deepseek-v3-one-group",
        _deepseek_v3(
            first_k_dense_replace=0,
            n_group=1,
            n_routed_experts=7,
            norm_topk_prob=False,
            num_hidden_layers=2,
            rope_interleave=False,
            routed_scaling_factor=0.8,
            topk_group=1,
        ),
        n_prompt=24,
    ),
    Case(
        "deepseek-v3-fp8",
        _deepseek_v3(
            hidden_size=160,
            intermediate_size=136,
            kv_lora_rank=37,
            moe_intermediate_size=24,
            n_group=2,
            n_routed_experts=6,
            num_hidden_layers=2,
            quantization_config={
                "activation_scheme": "dynamic",
                "fmt": "e4m3",
                "quant_method": "fp8",
                "weight_block_size": [128, 128],
            },
            rope_scaling=_YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
            topk_group=1,
            vocab_size=73,
        ),
        fp8=True,
    ),
    Case(
        "qwen3-fp8",
        _qwen3(
            hidden_size=136,
            moe_intermediate_size=20,
            num_attention_heads=4,
            num_experts=5,
            num_experts_per_tok=2,
            num_hidden_layers=2,
            quantization_config={
                "activation_scheme": "dynamic",
                "modules_to_not_convert": [
                    "lm_head",
                    "model.layers.0.mlp.gate",
                    "model.layers.1.mlp.gate",
                    "model.layers.1.self_attn.o_proj",
                ],
                "quant_method": "fp8",
                "weight_block_size": [128, 128],
            },
            vocab_size=71,
        ),
        fp8=True,
        bf16_scales=True,
    ),
]
