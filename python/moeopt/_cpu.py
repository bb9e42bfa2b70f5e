"""A layer on the CPU: reference.py on plain copies of the weights, right and slow.

Used by layer.py alone. Invariant: the same errors and the same counting as on a GPU.
"""

import weakref
from typing import TYPE_CHECKING

import torch

from moeopt import reference
from moeopt._call import Call, Counters, align_up, span_of
from moeopt.errors import ArgumentError

if TYPE_CHECKING:
    from moeopt.layer import MoELayer


class CpuBackend:
    """reference.py on plain copies: per expert [gate | up | down | float32 scales]."""

    def __init__(self, layer: "MoELayer"):
        self.layer = weakref.proxy(layer)
        self.description = layer.description
        d = layer.description
        self.expert_bytes = self._bytes(d.intermediate)
        self.shared_bytes = self._bytes(d.shared_intermediate) if d.shared_intermediate else 0
        self.counted = Counters()

    def _pieces(self, intermediate: int) -> list[tuple[str, tuple[int, int], torch.dtype]]:
        d = self.description
        stored = {"bf16": torch.bfloat16, "fp8": reference.E4M3, "f32": torch.float32}[d.dtype]
        shapes = {"gate": (intermediate, d.hidden), "up": (intermediate, d.hidden),
                  "down": (d.hidden, intermediate)}
        pieces = [(name, shape, stored) for name, shape in shapes.items()]
        if d.dtype == "fp8":
            pieces += [(name + "_scale", (rows // 128, columns // 128), torch.float32)
                       for name, (rows, columns) in shapes.items()]
        return pieces

    def _bytes(self, intermediate: int) -> int:
        return align_up(sum(rows * columns * dtype.itemsize
                          for _, (rows, columns), dtype in self._pieces(intermediate)), 128)

    def _unpack(self, packed: torch.Tensor, intermediate: int) -> reference.Expert:
        found, at = {}, 0
        for name, (rows, columns), dtype in self._pieces(intermediate):
            size = rows * columns * dtype.itemsize
            found[name] = packed[at:at + size].view(dtype).view(rows, columns)
            at += size
        return reference.Expert(**found)

    def scratch_bytes(self, tokens: int) -> int:
        return 0

    def config(self, tokens: int) -> str:
        return "torch"

    def pack(self, expert: reference.Expert, packed: torch.Tensor, shared: bool) -> None:
        d = self.description
        if d.dtype == "fp8" and expert.gate_scale is None:
            pairs = [reference.quantise_blocks(m) for m in (expert.gate, expert.up, expert.down)]
            expert = reference.Expert(*(q for q, _ in pairs), *(s for _, s in pairs))
        stored = self._unpack(packed, d.shared_intermediate if shared else d.intermediate)
        for name, _, _ in self._pieces(d.intermediate):
            getattr(stored, name).copy_(getattr(expert, name))

    def run(self, call: Call, scratch: torch.Tensor | None) -> None:
        d = self.description
        begin, end = span_of(call.out)
        x_begin, x_end = span_of(call.x)
        if begin < x_end and x_begin < end:
            raise ArgumentError("out overlaps x")
        experts = [self._unpack(packed, d.intermediate) for packed in call.experts]
        ids = call.ids
        if ids is not None:
            ids = torch.where((ids < 0) | (ids >= d.experts), -1, ids)
        weights = call.weights
        if ids is None:
            assert call.router is not None
            ids, weights = reference.decide(call.x, call.router, d, call.correction_bias, torch.float32)
        result = reference.moe_layer(
            call.x, experts, d, ids=ids, weights=weights, expert_map=call.expert_map,
            shared=None if call.shared is None else self._unpack(call.shared, d.shared_intermediate),
            shared_gate=call.shared_gate, accumulate=torch.float32)
        call.out.copy_(result)
        for wanted, found in ((call.out_ids, call.ids if call.ids is not None else ids), (call.out_weights, weights)):
            if wanted is not None:
                wanted.copy_(found)
        nan = int(torch.isnan(call.weights).any(-1).sum()) if call.weights is not None else 0
        had = self.counted
        self.counted = Counters(had.launches + 1, had.tokens + call.x.shape[0],
                                had.rows + self._rows(call, ids), had.nan_tokens + nan, had.errors)

    def _rows(self, call: Call, ids: torch.Tensor) -> int:
        here = ids >= 0
        if call.expert_map is not None:
            here &= call.expert_map[ids.clamp_min(0).long()] >= 0
        return int(here.sum())

    def counter_slices(self) -> list[torch.Tensor]:
        return []

    def counters(self) -> Counters:
        return self.counted
