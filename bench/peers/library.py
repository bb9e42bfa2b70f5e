"""libmoeopt for the peers' benchmark: python/moeopt's layer at one capacity, called as the benchmark calls it.

A layer here is timed for exactly max_tokens tokens, so it takes that one configuration; memory for scratch is
its own, as a graph of calls needs it.
"""

import os
import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))
from moeopt import Description, MoELayer  # noqa: E402
from moeopt import _library  # noqa: E402

BF16, FP8 = "bf16", "fp8"


class Library:
    def __init__(self, path):
        os.environ["MOEOPT_LIBRARY"] = str(path)
        self.opened = _library.library()

    def version(self):
        return self.opened.version


class Layer:
    """One layer for up to max_tokens tokens."""

    def __init__(self, library, max_tokens, **desc):
        described = {name: bool(value) if name in ("renormalise", "shared_gate") else value
                     for name, value in desc.items()}
        self.layer = MoELayer(Description(**described), "cuda", max_tokens=max_tokens)
        self.config = self.layer.config(max_tokens)
        self.scratch = torch.empty(self.layer.scratch_bytes(max_tokens), dtype=torch.uint8, device="cuda")

    def pack_experts(self, w1, w2, s1=None, s2=None):
        """w1 [E, 2I, H] with the gate's rows first, w2 [E, H, I]; e4m3 with block scales s1, s2."""
        self.layer.packed = None
        self.layer.pack_experts(w1, w2, s1, s2)
        return self.layer.packed

    def pack_shared(self, gate, up, down):
        self.layer.pack_shared(gate, up, down)
        return self.layer.packed_shared

    def forward(self, x, out, experts, router=None, ids=None, weights=None, shared=None, shared_gate=None):
        return self.layer.forward(x, out, experts=experts, router=router, ids=ids, weights=weights, shared=shared,
                                  shared_gate=shared_gate, scratch=self.scratch)

    def counters(self):
        return self.layer.counters()
