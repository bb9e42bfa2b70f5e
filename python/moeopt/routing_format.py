"""A routing log (docs/SCHEMA.md) as bytes, in both of its forms.

Used by routing_writer.py. Needs numpy, not torch. Invariant: what encodes here is what the C++ program writes for
the same requests, byte for byte; `moeopt routing convert` reads both.
"""

import dataclasses
import functools
import json
import struct
import zlib
from typing import Any, Protocol

import numpy as np

SCHEMA = "moeopt-routing/1"
MAGIC, VERSION = b"MOEROUTE", 1
PHASES = ("prefill", "decode")
REPLAYED = 0x100
TOTALS = ("requests", "tokens", "replayed_tokens", "cached_tokens", "dropped_requests", "dropped_tokens",
          "unsampled_requests")


@dataclasses.dataclass(frozen=True)
class Header:
    """The meta object; layers: the numbers of the logged layers, ascending."""

    program: str
    model_id: str
    n_layers: int
    n_experts: int
    top_k: int
    router: str
    layers: tuple[int, ...]
    seed: int
    started: str

    @property
    def id_dtype(self) -> "np.dtype[Any]":
        """Of stored ids; all ones: no expert."""
        return np.dtype("u1" if self.n_experts <= 255 else "<u2")

    def to_json(self) -> str:
        return compact({"type": "meta", "schema": SCHEMA, "program": self.program, "model_id": self.model_id,
                        "n_layers": self.n_layers, "n_experts": self.n_experts, "top_k": self.top_k,
                        "router": self.router, "layers_logged": list(self.layers), "seed": self.seed,
                        "started": self.started, "sampled": 1.0, "part": 0, "weights": True})


@dataclasses.dataclass(frozen=True)
class Span:
    """Consecutive tokens of one phase (0: prefill, 1: decode)."""

    first: int
    count: int
    phase: int
    replayed: bool


@dataclasses.dataclass(frozen=True)
class Request:
    """ids [tokens, layers, k] of the header's id_dtype, weights [tokens, layers, k] float16, in the spans' order."""

    req_id: str
    prompt_tokens: int
    cached_tokens: int
    partial: bool
    spans: tuple[Span, ...]
    ids: "np.ndarray[Any, Any]"
    weights: "np.ndarray[Any, Any]"

    @property
    def tokens(self) -> int:
        return sum(span.count for span in self.spans)

    @property
    def replayed_tokens(self) -> int:
        return sum(span.count for span in self.spans if span.replayed)


class Encoder(Protocol):
    def header(self, header: Header) -> bytes: ...

    def request(self, header: Header, request: Request) -> bytes: ...

    def totals(self, totals: dict[str, int]) -> bytes: ...


def encoder(path: str) -> Encoder:
    """Binary for FILE.moer and FILE.bin, JSON lines otherwise: the program's own rule."""
    return Binary() if path.endswith((".moer", ".bin")) else JsonLines()


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def totals_json(totals: dict[str, int]) -> str:
    return compact({"type": "totals", **{name: totals.get(name, 0) for name in TOTALS}})


@functools.lru_cache(maxsize=65536)
def weight_text(bits: int) -> str:
    """The shortest decimal that reads back as the same fp16."""
    value = float(np.uint16(bits).view(np.float16))
    with np.errstate(over="ignore"):
        for digits in range(1, 5):
            text = f"{value:.{digits}g}"
            if np.float16(float(text)) == value:
                return text
    return f"{value:.5g}"


class JsonLines:
    def header(self, header: Header) -> bytes:
        return (header.to_json() + "\n").encode()

    def totals(self, totals: dict[str, int]) -> bytes:
        return (totals_json(totals) + "\n").encode()

    def request(self, header: Header, request: Request) -> bytes:
        about = {"type": "request", "req_id": request.req_id, "prompt_tokens": request.prompt_tokens,
                 "tokens": request.tokens, "cached_tokens": request.cached_tokens,
                 "replayed_tokens": request.replayed_tokens}
        if request.partial:
            about["partial"] = True
        lines = [compact(about)]
        start = '{"type":"route","req_id":' + compact(request.req_id) + ',"token_idx":'
        nothing = int(np.iinfo(header.id_dtype).max)
        ids, weights = request.ids.tolist(), request.weights.view(np.uint16).tolist()
        row = 0
        for span in request.spans:
            middle = f',"phase":"{PHASES[span.phase]}"' + (',"replayed":true' if span.replayed else "")
            for token in range(span.first, span.first + span.count):
                for layer, experts, bits in zip(header.layers, ids[row], weights[row]):
                    count = experts.index(nothing) if nothing in experts else len(experts)
                    if count:
                        texts = ",".join(map(weight_text, bits[:count]))
                        lines.append(f'{start}{token}{middle},"layer":{layer},"topk_ids":['
                                     f'{",".join(map(str, experts[:count]))}],"topk_weights":[{texts}]}}')
                row += 1
        lines.append("")
        return "\n".join(lines).encode()


class Binary:
    def header(self, header: Header) -> bytes:
        text = header.to_json().encode()
        return MAGIC + struct.pack("<III", VERSION, len(text), zlib.crc32(text)) + text

    def totals(self, totals: dict[str, int]) -> bytes:
        return self._block(b"RTOT", totals_json(totals).encode())

    def request(self, header: Header, request: Request) -> bytes:
        name = request.req_id.encode()
        spans = b"".join(struct.pack("<III", s.first, s.count, s.phase | (REPLAYED if s.replayed else 0))
                         for s in request.spans)
        return self._block(b"RQST", struct.pack("<IIIII", len(name), request.prompt_tokens, request.cached_tokens,
                                                int(request.partial), len(request.spans))
                           + name + spans + request.ids.tobytes() + request.weights.astype("<f2").tobytes())

    @staticmethod
    def _block(tag: bytes, payload: bytes) -> bytes:
        return tag + struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
