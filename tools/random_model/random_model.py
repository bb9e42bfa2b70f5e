#!/usr/bin/env python3
"""Makes a random Qwen3-MoE checkpoint for benchmarks: real shapes, meaningless weights.

    tools/random_model/random_model.py OUT [--shape NAME] [--seed N] [--context N] [--tokenizer FOLDER]

OUT gets config.json, generation_config.json and bf16 safetensors shards with their index, as a
Hugging Face folder has them. Weights are drawn from one pool of normal deviates at random places,
scaled by 1/sqrt(inputs) so that activations keep their size. Needs numpy alone.
"""

import argparse
import json
import math
import pathlib
import shutil
import sys

import numpy as np

SHAPES = {
    # Qwen3-30B-A3B's layers, with half the experts and 4 of the 48 layers: 2.8 GB.
    "qwen3-3g": dict(hidden=2048, layers=4, experts=64, top_k=8, intermediate=768, heads=32,
                     kv_heads=4, head=128, vocab=32768),
    # For trying the script and the benchmark out: 60 MB.
    "small": dict(hidden=512, layers=2, experts=16, top_k=4, intermediate=256, heads=8,
                  kv_heads=2, head=64, vocab=8192),
}
SHARD_BYTES = 1 << 30


def config_of(shape: dict, context: int) -> dict:
    return {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
        "hidden_size": shape["hidden"], "num_hidden_layers": shape["layers"],
        "num_experts": shape["experts"], "num_experts_per_tok": shape["top_k"],
        "moe_intermediate_size": shape["intermediate"], "intermediate_size": shape["intermediate"],
        "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv_heads"],
        "head_dim": shape["head"], "vocab_size": shape["vocab"], "hidden_act": "silu",
        "max_position_embeddings": context, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "attention_bias": False, "tie_word_embeddings": False, "use_sliding_window": False,
        "sliding_window": None, "rope_scaling": None, "torch_dtype": "bfloat16",
        "bos_token_id": None, "eos_token_id": 0,
    }


def tensors_of(shape: dict) -> list[tuple[str, tuple[int, ...]]]:
    h, q, kv = shape["hidden"], shape["heads"] * shape["head"], shape["kv_heads"] * shape["head"]
    tensors = [("model.embed_tokens.weight", (shape["vocab"], h))]
    for layer in range(shape["layers"]):
        p = f"model.layers.{layer}."
        tensors += [
            (p + "input_layernorm.weight", (h,)), (p + "post_attention_layernorm.weight", (h,)),
            (p + "self_attn.q_proj.weight", (q, h)), (p + "self_attn.k_proj.weight", (kv, h)),
            (p + "self_attn.v_proj.weight", (kv, h)), (p + "self_attn.o_proj.weight", (h, q)),
            (p + "self_attn.q_norm.weight", (shape["head"],)),
            (p + "self_attn.k_norm.weight", (shape["head"],)),
            (p + "mlp.gate.weight", (shape["experts"], h)),
        ]
        for expert in range(shape["experts"]):
            e = f"{p}mlp.experts.{expert}."
            tensors += [(e + "gate_proj.weight", (shape["intermediate"], h)),
                        (e + "up_proj.weight", (shape["intermediate"], h)),
                        (e + "down_proj.weight", (h, shape["intermediate"]))]
    return tensors + [("model.norm.weight", (h,)), ("lm_head.weight", (shape["vocab"], h))]


def to_bf16(values: np.ndarray) -> np.ndarray:
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


class Weights:
    """Slices of one pool of normal deviates per scale, at random places."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.normal = self.random.standard_normal((1 << 22) + 4099, dtype=np.float32)
        self.pools: dict[int, np.ndarray] = {}

    def make(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        n = math.prod(shape)
        if len(shape) == 1:  # a norm
            return to_bf16(1.0 + 0.1 * self.normal[:n])
        inputs = 1 if name.startswith("model.embed") else shape[1]
        if inputs not in self.pools:
            self.pools[inputs] = to_bf16(self.normal / math.sqrt(inputs))
        pool = np.roll(self.pools[inputs], int(self.random.integers(self.normal.size)))
        return np.resize(pool, n)


def shards_of(tensors: list[tuple[str, tuple[int, ...]]]) -> list[list[tuple[str, tuple[int, ...]]]]:
    shards, size = [[]], 0
    for name, shape in tensors:
        if shards[-1] and size + 2 * math.prod(shape) > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += 2 * math.prod(shape)
    return shards


def write_shard(path: pathlib.Path, tensors: list[tuple[str, tuple[int, ...]]], weights: Weights):
    header, offset = {}, 0
    for name, shape in tensors:
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors:
            file.write(weights.make(name, shape).tobytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-3g")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--context", type=int, default=8192, help="longest sequence that the config allows")
    parser.add_argument("--tokenizer", type=pathlib.Path,
                        help="folder whose tokenizer files are copied (its ids must fit)")
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(config_of(shape, args.context), indent=2) + "\n")
    (args.out / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}) + "\n")
    if args.tokenizer:
        for file in sorted(args.tokenizer.glob("tokenizer*")):
            shutil.copy(file, args.out / file.name)

    weights, shards, total, index = Weights(args.seed), shards_of(tensors_of(shape)), 0, {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_shard(args.out / name, tensors, weights)
        index |= {tensor: name for tensor, _ in tensors}
        total += sum(2 * math.prod(extents) for _, extents in tensors)
    (args.out / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1) + "\n")
    print(f"{args.out}: {len(index)} tensors in {len(shards)} shards, {total / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
