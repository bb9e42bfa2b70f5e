"""Writes a trained model as a Qwen3-MoE checkpoint in bf16, and checks it against Transformers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

import chat
from model import Shape, TinyMoe


def write_config(shape: Shape, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes config.json and generation_config.json in the form that Qwen3-MoE checkpoints have."""
    end, end_of_text = tokenizer.token_to_id(chat.END), tokenizer.token_to_id(chat.END_OF_TEXT)
    config = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": end_of_text,
        "decoder_sparse_step": 1,
        "eos_token_id": end,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": 4 * shape.moe_intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "mlp_only_layers": [],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": shape.moe_intermediate_size,
        "norm_topk_prob": True,
        "num_attention_heads": shape.num_attention_heads,
        "num_experts": shape.num_experts,
        "num_experts_per_tok": shape.num_experts_per_tok,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_key_value_heads": shape.num_key_value_heads,
        "output_router_logits": False,
        "pad_token_id": end_of_text,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "router_aux_loss_coef": 0.01,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape.vocab_size,
    }
    generation = {
        "bos_token_id": end_of_text,
        "do_sample": False,
        "eos_token_id": [end, end_of_text],
        "pad_token_id": end_of_text,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def hub_tensors(model: TinyMoe) -> dict[str, Tensor]:
    """The weights in bf16 under Qwen3-MoE's names, one gate, up and down matrix per expert."""
    shape = model.shape
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name.endswith("mlp.gate_up.weight"):
            stem = f"model.{name.removesuffix('gate_up.weight')}experts"
            parts = value.view(shape.num_experts, 2, shape.moe_intermediate_size, shape.hidden_size)
            for expert in range(shape.num_experts):
                tensors[f"{stem}.{expert}.gate_proj.weight"] = parts[expert, 0]
                tensors[f"{stem}.{expert}.up_proj.weight"] = parts[expert, 1]
        elif name.endswith("mlp.down.weight"):
            stem = f"model.{name.removesuffix('down.weight')}experts"
            parts = value.view(shape.hidden_size, shape.num_experts, shape.moe_intermediate_size)
            for expert in range(shape.num_experts):
                tensors[f"{stem}.{expert}.down_proj.weight"] = parts[:, expert]
        else:
            tensors[f"model.{name}"] = value
    return {
        name: value.detach().cpu().to(torch.bfloat16).contiguous()
        for name, value in sorted(tensors.items())
    }


def write_weights(model: TinyMoe, folder: Path) -> None:
    save_file(hub_tensors(model), folder / "model.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def check_export(model: TinyMoe, folder: Path) -> float:
    """Reloads through Transformers on the CPU; returns the largest logit difference, in float32 on bf16 weights."""
    from transformers import AutoModelForCausalLM

    reloaded, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    problems = {key: value for key, value in report.items() if value}
    if problems:
        raise RuntimeError(f"the checkpoint does not load cleanly: {problems}")
    rounded = TinyMoe(model.shape)
    rounded.load_state_dict(
        {k: v.detach().cpu().to(torch.bfloat16).float() for k, v in model.state_dict().items()}
    )
    token = torch.randint(
        model.shape.vocab_size, (4, 200), generator=torch.Generator().manual_seed(1)
    )
    ours = rounded(token, torch.ones_like(token))[0]
    theirs = reloaded(token).logits
    difference = (ours - theirs).abs().max().item()
    if not difference < 1e-3 * theirs.abs().max().item():
        raise RuntimeError(f"Transformers computes other logits: they differ by up to {difference}")
    return difference
