#!/usr/bin/env python3
"""Writes a Qwen3-MoE checkpoint's bf16 weights, unchanged, as GGUF for llama.cpp.

    to_gguf.py FOLDER OUT.gguf [--tokenizer]

Without a tokenizer the benchmark feeds ids; a server wants one: --tokenizer takes FOLDER's tokenizer.json
(byte-level BPE), and fills the vocabulary up with unused tokens. Needs gguf and numpy from PyPI.
"""

import json
import pathlib
import sys

import gguf
import numpy as np

OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight"}
INNER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "mlp.gate": "ffn_gate_inp"}
EXPERT = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


class Checkpoint:
    def __init__(self, folder: pathlib.Path):
        self.tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            data = np.memmap(path, np.uint8, "r")
            n = int.from_bytes(data[:8].tobytes(), "little")
            for name, info in json.loads(data[8:8 + n].tobytes()).items():
                if name != "__metadata__":
                    begin, end = info["data_offsets"]
                    self.tensors[name] = (data[8 + n + begin:8 + n + end], info["shape"])

    def bits(self, name: str) -> np.ndarray:
        data, shape = self.tensors[name]
        return np.frombuffer(data.tobytes(), np.uint16).reshape(shape)


def add(writer: gguf.GGUFWriter, name: str, bits: np.ndarray) -> None:
    # llama.cpp wants vectors and the router in float32: widening bf16 is exact.
    if bits.ndim == 1 or "ffn_gate_inp" in name:
        writer.add_tensor(name, (bits.astype(np.uint32) << 16).view(np.float32))
        return
    writer.add_tensor(name, bits.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)


def add_tokenizer(writer: gguf.GGUFWriter, folder: pathlib.Path, vocab_size: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    texts = [f"[unused{i}]" for i in range(vocab_size)]
    types = [gguf.TokenType.UNUSED] * vocab_size
    for text, i in tokenizer["model"]["vocab"].items():
        texts[i], types[i] = text, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        texts[added["id"]], types[added["id"]] = added["content"], gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(0)


def main() -> None:
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / "config.json").read_text())
    checkpoint = Checkpoint(folder)
    writer = gguf.GGUFWriter(out, "qwen3moe")
    writer.add_name("random")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    if "--tokenizer" in sys.argv[3:]:
        add_tokenizer(writer, folder, config["vocab_size"])
    else:
        writer.add_tokenizer_model("no_vocab")

    for name, gguf_name in OUTER.items():
        add(writer, gguf_name, checkpoint.bits(name))
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, gguf_name in INNER.items():
            add(writer, f"blk.{layer}.{gguf_name}.weight", checkpoint.bits(f"{prefix}{name}.weight"))
        for name, gguf_name in EXPERT.items():
            stacked = np.stack([checkpoint.bits(f"{prefix}mlp.experts.{e}.{name}.weight")
                                for e in range(config["num_experts"])])
            add(writer, f"blk.{layer}.{gguf_name}.weight", stacked)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
