"""Layers with random weights, and the judge of their outputs."""

import os

import torch

import moeopt
from moeopt import reference

DEVICE = os.environ.get("MOEOPT_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
CUDA = DEVICE == "cuda"
SMALL = dict(hidden=256, intermediate=128, experts=16, top_k=4)
# Of the difference from the float64 reference, as norms: whole, and worst row by what went into it.
# fp8: a value of h that rounds the other way moves by a step of e4m3; the kernel's own suite holds h itself.
LIMITS = {"bf16": (1e-3, 3e-3), "fp8": (2e-2, 4e-2), "f32": (1e-5, 1e-4)}


class Problem:
    """A packed layer and what its weights were."""

    def __init__(self, dtype="bf16", seed=0, device=DEVICE, source=None, max_tokens=8192, scratch_limit=None,
                 poison=None, expert_slice=None, **shape):
        """expert_slice: (first, end) of the experts that are here, the others elsewhere."""
        torch.manual_seed(seed)
        self.description = d = moeopt.Description(**(SMALL | shape), dtype=dtype)
        self.stored = source or dtype
        self.layer = moeopt.MoELayer(d, device, max_tokens=max_tokens, scratch_limit=scratch_limit, poison=poison,
                                     name=f"seed {seed}")
        gate_up = self._random(d.experts, 2 * d.intermediate, d.hidden, device)
        down = self._random(d.experts, d.hidden, d.intermediate, device)
        first, end = expert_slice or (0, d.experts)
        if self.stored == "fp8":
            pairs = [reference.quantise_blocks(w) for w in (*gate_up, *down)]
            gate_up, down = (torch.stack([q for q, _ in part]) for part in (pairs[:d.experts], pairs[d.experts:]))
            scales = [torch.stack([s for _, s in part]) for part in (pairs[:d.experts], pairs[d.experts:])]
            self.layer.pack_experts(gate_up[first:end], down[first:end], *(s[first:end] for s in scales))
        else:
            scales = [None, None]
            self.layer.pack_experts(gate_up[first:end], down[first:end])
        self.experts = []
        for e in range(d.experts):
            gate, up = gate_up[e].chunk(2)
            pieces = [gate, up, down[e]]
            if scales[0] is not None:
                pieces += [*scales[0][e].chunk(2), scales[1][e]]
            elif dtype == "fp8":  # quantised by the packing
                pairs = [reference.quantise_blocks(w) for w in pieces]
                pieces = [q for q, _ in pairs] + [s for _, s in pairs]
            self.experts.append(reference.Expert(*pieces))
        self.shared = self.shared_gate = None
        if d.shared_intermediate:
            matrices = [self._random(1, *s, device)[0] for s in ((d.shared_intermediate, d.hidden),
                        (d.shared_intermediate, d.hidden), (d.hidden, d.shared_intermediate))]
            self.layer.pack_shared(*matrices)
            self.shared = reference.Expert(*matrices)
            if d.shared_gate:
                self.shared_gate = self._random(1, 1, d.hidden, device)[0, 0]

    def _random(self, experts, rows, columns, device):
        kind = torch.float32 if self.description.dtype == "f32" else torch.bfloat16
        return torch.stack([(torch.randn(rows, columns, device=device) * columns ** -0.5).to(kind)
                            for _ in range(experts)])

    def tokens(self, count, seed=1, device=None):
        """x [T, H], ids [T, k] int32 and weights [T, k] float32."""
        d = self.description
        generator = torch.Generator().manual_seed(seed)
        kind = torch.float32 if d.dtype == "f32" else torch.bfloat16
        x = torch.randn(count, d.hidden, generator=generator).to(kind)
        order = torch.rand(count, d.experts, generator=generator).argsort(-1)
        weights = torch.rand(count, d.top_k, generator=generator)
        place = device or self.layer.device
        return x.to(place), order[:, :d.top_k].to(torch.int32).contiguous().to(place), weights.to(place)

    def expected(self, x, magnitude=None, expert_map=None, **routing):
        return reference.moe_layer(x, self.experts, self.description, shared=self.shared,
                                   shared_gate=self.shared_gate, magnitude=magnitude, expert_map=expert_map,
                                   **routing)

    def judge(self, out, x, rows=None, **routing):
        """Fails unless out is the layer of x, within its dtype's limits."""
        magnitude = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        wanted = self.expected(x, magnitude, **routing)
        if rows is not None:
            out, wanted, magnitude = out[rows], wanted[rows], magnitude[rows]
        difference = out.double() - wanted
        whole = float(difference.norm() / wanted.norm())
        row = float((difference.norm(dim=-1) / torch.maximum(magnitude, wanted.norm(dim=-1))
                     .clamp_min(1e-30)).max())
        limit, row_limit = LIMITS[self.description.dtype]
        assert torch.isfinite(out).all(), "not finite"
        assert whole <= limit and row <= row_limit, f"relF {whole:.2e} (<= {limit}), row {row:.2e} (<= {row_limit})"
        return whole, row


def bits(tensor):
    return tensor.contiguous().view(torch.int16 if tensor.dtype == torch.bfloat16 else torch.int32)


def same_bits(a, b):
    return a.shape == b.shape and bool((bits(a) == bits(b)).all())
