"""Makes models of the tests' own: small ones that say given texts, so that what a program makes of a text can be shown
with no trained model, and hollow ones that take time to load.

Invariant of a scripted model: greedy decoding goes on after a script's special token `<|says:NAME|>` with that script's pieces and then the
end token, whatever came before: the next token depends on the last one alone, as attention and experts add nothing
(their projections are zero). Pieces are all different, and are cut without regard to words, characters of the
script's own markers, or JSON. The logits are known exactly: `ScriptedModel.logprobs`.
"""

import json
import math
import pathlib
import random
import struct

HIDDEN, HEAD, EXPERT, EXPERTS = 128, 64, 64, 4
ONE, MINUS_ONE, ZERO = b"\x80\x3f", b"\x80\xbf", b"\x00\x00"  # bf16
NORM_SCALE, NORM_SCALE_BF16 = 1 / 16, b"\x80\x3d"


def byte_alphabet() -> list[str]:
    """What byte-level BPE spells each byte with."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(others)) for byte in range(256)]


def cut(text: str, seen: set[bytes]) -> list[bytes]:
    """Pieces of two bytes or more that nothing else is cut into, each as short as can be."""
    pieces, piece = [], b""
    for byte in text.encode():
        piece += bytes([byte])
        if len(piece) > 1 and piece not in seen:
            seen.add(piece)
            pieces.append(piece)
            piece = b""
    for byte in piece:  # nothing seen goes on with the last piece, nor with what it becomes
        pieces[-1] += bytes([byte])
        seen.add(pieces[-1])
    return pieces


class ScriptedModel:
    """A folder with a model of these scripts. A script is a list of texts and of names of special tokens in it; each
    special token comes once in all scripts. One that `opens` maps to a script is what the script follows as well."""

    def __init__(self, folder: pathlib.Path, scripts: dict[str, list[str]], *, specials: list[str], end: str,
                 template: str, tokenizer: pathlib.Path, opens: dict[str, str] | None = None):  # fmt: skip
        self.folder = folder
        self.specials = [*specials, *(f"<|says:{name}|>" for name in scripts)]
        seen: set[bytes] = set()
        pieces = {name: [part if part in specials else cut(part, seen) for part in script]
                  for name, script in scripts.items()}  # fmt: skip
        self.tokens: list[str | bytes] = [bytes([byte]) for byte in range(256)]
        self.tokens += [piece for script in pieces.values() for part in script if part not in specials for piece in part]
        self.tokens += self.specials
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        assert len(self.ids) == len(self.tokens)
        self.end_id = self.ids[end]
        self.next = [self.end_id] * len(self.tokens)
        self.scripts: dict[str, list[int]] = {}
        for name, parts in pieces.items():
            flat = [self.ids[token] for part in parts for token in ([part] if isinstance(part, str) else part)]
            self.scripts[name] = [*flat, self.end_id]
            for last, following in zip([self.ids[f"<|says:{name}|>"], *flat], self.scripts[name]):
                assert self.next[last] == self.end_id, "each token goes on in one way"
                self.next[last] = following
        for opener, name in (opens or {}).items():
            self.next[self.ids[opener]] = self.scripts[name][0]
        rng = random.Random(7)
        self.rows = [[rng.choice((-1, 1)) for _ in range(HIDDEN)] for _ in self.tokens]
        folder.mkdir()
        self._write_weights()
        self._write_tokenizer(tokenizer, end)
        (folder / "chat_template.jinja").write_text(template)
        _write_config(folder, len(self.tokens), self.end_id, HIDDEN, EXPERT, EXPERTS)

    def logprobs(self, last: int) -> list[float]:
        """Of every id after the id `last`."""
        hidden = self.rows[self.next[last]]
        logits = [NORM_SCALE * sum(a * b for a, b in zip(hidden, row)) for row in self.rows]
        total = math.log(sum(math.exp(logit) for logit in logits))
        return [logit - total for logit in logits]

    def _write_weights(self) -> None:
        # Row i of the head is what the tokens that i follows are embedded as: their logit of i is the greatest.
        def bytes_of(rows):
            return b"".join(ONE if sign > 0 else MINUS_ONE for row in rows for sign in row)

        known = {
            "model.embed_tokens.weight": bytes_of(self.rows[i] for i in self.next),
            "lm_head.weight": bytes_of(self.rows),
            "model.norm.weight": NORM_SCALE_BF16 * HIDDEN,
        }
        header = _header(shapes := _shapes(len(self.tokens), HIDDEN, EXPERT, EXPERTS))
        with open(self.folder / "model.safetensors", "wb") as file:
            file.write(header)
            for name, shape in shapes.items():
                file.write(known.get(name) or (ONE if "norm" in name else ZERO) * math.prod(shape))

    def _write_tokenizer(self, like: pathlib.Path, end: str) -> None:
        spelt = byte_alphabet()
        tokenizer = json.loads(like.read_text())
        plain = [token for token in self.tokens if isinstance(token, bytes)]
        tokenizer["model"]["vocab"] = {"".join(spelt[byte] for byte in token): i for i, token in enumerate(plain)}
        tokenizer["model"]["merges"] = []
        tokenizer["added_tokens"] = [
            {"id": self.ids[name], "content": name, "special": name != "</think>", "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False} for name in self.specials
        ]  # fmt: skip
        (self.folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (self.folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))


def hollow_model(folder: pathlib.Path, tokenizer: pathlib.Path, n_bytes: int) -> pathlib.Path:
    """A model of about so many bytes, all of them zeros that take no room on a disk: one that takes time to load."""
    hidden, expert, vocab = 1024, 2048, 1536
    experts = max(2, n_bytes // (3 * 2 * hidden * expert))
    folder.mkdir()
    shapes = _shapes(vocab, hidden, expert, experts)
    header = _header(shapes)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * sum(math.prod(shape) for shape in shapes.values()))
    _write_config(folder, vocab, vocab - 1, hidden, expert, experts)
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    return folder


def _write_config(folder: pathlib.Path, vocab: int, end: int, hidden: int, expert: int, experts: int) -> None:
    config = {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu", "hidden_size": hidden,
        "head_dim": HEAD, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1,
        "intermediate_size": 256, "moe_intermediate_size": expert, "num_experts": experts, "num_experts_per_tok": 2,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "vocab_size": vocab, "eos_token_id": end,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, "eos_token_id": end}))


def _shapes(vocab: int, hidden: int, expert: int, experts: int) -> dict[str, list[int]]:
    shapes = {"model.embed_tokens": [vocab, hidden], "lm_head": [vocab, hidden], "model.norm": [hidden]}
    layer = {
        "input_layernorm": [hidden], "post_attention_layernorm": [hidden], "self_attn.q_norm": [HEAD],
        "self_attn.k_norm": [HEAD], "self_attn.q_proj": [2 * HEAD, hidden], "self_attn.k_proj": [HEAD, hidden],
        "self_attn.v_proj": [HEAD, hidden], "self_attn.o_proj": [hidden, 2 * HEAD], "mlp.gate": [experts, hidden],
    }  # fmt: skip
    for i in range(experts):
        layer |= {f"mlp.experts.{i}.{name}": [expert, hidden] for name in ("gate_proj", "up_proj")}
        layer[f"mlp.experts.{i}.down_proj"] = [hidden, expert]
    shapes |= {f"model.layers.0.{name}": shape for name, shape in layer.items()}
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def _header(shapes: dict[str, list[int]]) -> bytes:
    """Of a safetensors file with these tensors one after the other."""
    entries, at = {}, 0
    for name, shape in shapes.items():
        end = at + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
