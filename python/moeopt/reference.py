"""The MoE layer plainly, in torch, on any device: the CPU implementation, and in float64 the reference
that the GPU suite holds the kernel against.

The numerics contract is that of src/cpu/reference (moe_layer.h, router.h, rounding.h):
    (e_s, w_s) = route(R x), or given;  h_s = silu(G x) * (U x);  y_s = D h_s
    out = sum over s in slot order of w_s * y_s [+ the shared expert's y, times sigmoid(S x) when gated]
bf16: x, h, y and out are rounded to bf16, sums are not. fp8: x and h become e4m3 with one float32 scale
per 128 of a row; 128 products are summed, scaled and added; y and out are rounded to bf16. f32: no
rounding. A slot whose id is -1 or whose expert is not here adds nothing.
Invariant: a row's result depends on that row alone (its sums are torch's, whose order may not).
"""

import dataclasses
from collections.abc import Sequence

import torch

from moeopt.describe import Description

E4M3 = torch.float8_e4m3fn
BLOCK = 128


@dataclasses.dataclass
class Expert:
    """gate and up [I, H], down [H, I], as stored; fp8 with scales [I/128, H/128] and [H/128, I/128]."""

    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor
    gate_scale: torch.Tensor | None = None
    up_scale: torch.Tensor | None = None
    down_scale: torch.Tensor | None = None


def round_bf16(value: torch.Tensor) -> torch.Tensor:
    """To the nearest bf16, ties to even, once; the dtype stays."""
    if value.dtype != torch.float64:
        return value.to(torch.bfloat16).to(value.dtype)
    # By way of a float32 rounded to odd, so that no value is rounded twice.
    nearest = value.to(torch.float32)
    exact = (nearest.double() == value) | ~torch.isfinite(nearest)
    away = nearest.double().abs() > value.abs()
    bits = nearest.view(torch.int32) - away.int()  # of sign and magnitude: one less is one nearer to zero
    odd = (bits | 1).view(torch.float32)
    return torch.where(exact, nearest, odd).to(torch.bfloat16).double()


def quantise_rows(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[R, N] -> e4m3 values in the same dtype and scales [R, N/128]: max(|x|, 1e-10) / 448 of 128, in float32."""
    blocks = value.to(torch.float32).unflatten(1, (-1, BLOCK))
    scale = blocks.abs().amax(-1).clamp_min(1e-10) / torch.finfo(E4M3).max
    quantised = (blocks / scale[..., None]).to(E4M3).to(value.dtype).flatten(1)
    return quantised, scale.to(value.dtype)


def quantise_blocks(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, K] -> e4m3 and one float32 scale, max|w| / 448, per 128 x 128 block."""
    rows, columns = weight.shape
    blocks = weight.float().view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    scale = blocks.abs().amax((1, 3)).clamp_min(1e-12) / torch.finfo(E4M3).max
    return (blocks / scale[:, None, :, None]).view(rows, columns).to(E4M3), scale


def product(rows: torch.Tensor, weight: torch.Tensor, weight_scale: torch.Tensor | None,
            row_scale: torch.Tensor | None) -> torch.Tensor:
    """rows [R, K] times weight [N, K], transposed: [R, N] in rows' dtype."""
    if weight_scale is None:
        return rows @ weight.to(rows.dtype).T
    assert row_scale is not None
    out = rows.new_zeros(rows.shape[0], weight.shape[0])
    scale = weight_scale.to(rows.dtype).repeat_interleave(BLOCK, 0)
    for block in range(rows.shape[1] // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        partial = rows[:, part] @ weight[:, part].to(rows.dtype).T
        out += partial * row_scale[:, block, None] * scale[None, :, block]
    return out


def route(logits: torch.Tensor, description: Description,
          bias: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """logits [T, E] -> ids [T, k] int32 in descending order of choice (ties: lower id), weights [T, k]."""
    d = description
    absent = torch.isnan(logits)
    values = logits.masked_fill(absent, -torch.inf)
    if d.score == "softmax":
        scores = torch.softmax(values, -1)  # a row of NaN alone gives NaN
    else:
        scores = torch.sigmoid(values).masked_fill(absent.all(-1, keepdim=True), torch.nan)
    choice = scores if bias is None else scores + bias.to(scores.dtype)
    choice = choice.masked_fill(absent | torch.isnan(choice), -torch.inf)
    closed = torch.zeros_like(absent)
    if d.groups > 1:
        grouped = choice.unflatten(-1, (d.groups, -1))
        if d.group_score == "max" or grouped.shape[-1] == 1:
            group = grouped.amax(-1)
        else:
            group = grouped.topk(2, -1).values.sum(-1)
        order = torch.sort(group, dim=-1, descending=True, stable=True).indices
        closed_group = torch.ones_like(group, dtype=torch.bool)
        closed_group.scatter_(-1, order[:, :d.top_k_groups], False)
        closed = closed_group.repeat_interleave(grouped.shape[-1], -1)
    # Closed experts come after open ones of any value, -inf included: two stable sorts.
    by_value = torch.sort(choice, dim=-1, descending=True, stable=True).indices
    by_open = torch.sort(closed.gather(-1, by_value).int(), dim=-1, stable=True).indices
    ids = by_value.gather(-1, by_open)[:, :d.top_k]
    weights = scores.gather(-1, ids)
    if d.renormalise:
        weights = weights / (weights.sum(-1, keepdim=True) + d.renormalise_epsilon)
    return ids.to(torch.int32), weights * (d.scale or 1.0)


def decide(x: torch.Tensor, router: torch.Tensor, description: Description,
           bias: torch.Tensor | None = None,
           accumulate: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """The router [E, H] on x [T, H]: ids and weights as route() gives them."""
    routed = _Rounding(description.dtype).stored(x.to(accumulate))
    return route(routed @ router.to(accumulate).T, description, bias)


class _Rounding:
    """The rounding points of a dtype."""

    def __init__(self, dtype: str):
        self.bf16, self.fp8 = dtype != "f32", dtype == "fp8"

    def activation(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.fp8:
            return quantise_rows(rows)
        return (round_bf16(rows) if self.bf16 else rows), None

    def stored(self, rows: torch.Tensor) -> torch.Tensor:
        return round_bf16(rows) if self.bf16 else rows


def swiglu(rows: torch.Tensor, expert: Expert, dtype: str) -> torch.Tensor:
    """One expert for rows [R, H]: [R, H], rounded as y is."""
    rounding = _Rounding(dtype)
    x, x_scale = rounding.activation(rows)
    gate = product(x, expert.gate, expert.gate_scale, x_scale)
    up = product(x, expert.up, expert.up_scale, x_scale)
    h, h_scale = rounding.activation(gate / (1 + torch.exp(-gate)) * up)
    return rounding.stored(product(h, expert.down, expert.down_scale, h_scale))


def moe_layer(x: torch.Tensor, experts: Sequence[Expert], description: Description, *,
              ids: torch.Tensor | None = None, weights: torch.Tensor | None = None,
              router: torch.Tensor | None = None, correction_bias: torch.Tensor | None = None,
              expert_map: torch.Tensor | None = None, shared: Expert | None = None,
              shared_gate: torch.Tensor | None = None, accumulate: torch.dtype = torch.float64,
              magnitude: torch.Tensor | None = None) -> torch.Tensor:
    """The layer for x [T, H]: [T, H] in `accumulate`, rounded as the dtype's output is.

    magnitude [T]: receives sum over s of |w_s| * norm(y_s), what a row's error is measured by.
    experts: those that are here, by slot; expert_map [E]: global id -> slot, -1: not here (None: slot = id).
    """
    rounding = _Rounding(description.dtype)
    rows = x.to(accumulate)
    routed = rounding.stored(rows)
    if ids is None or weights is None:
        assert router is not None
        ids, weights = decide(x, router, description, correction_bias, accumulate)
    ids, weights = ids.long(), weights.to(accumulate)
    slots = ids
    if expert_map is not None:
        mapped = expert_map.to(x.device).long()
        slots = torch.where(ids < 0, -1, mapped[ids.clamp_min(0)])
    y = rows.new_zeros(*ids.shape, x.shape[1])
    for slot in torch.unique(slots).tolist():
        if slot >= 0:
            token, place = torch.where(slots == slot)
            y[token, place] = swiglu(rows[token], experts[slot], description.dtype)
    if magnitude is not None:
        magnitude.copy_((weights.abs() * y.norm(dim=-1)).sum(-1))
    out = torch.zeros_like(rows)
    for k in range(ids.shape[1]):
        weighed = weights[:, k, None] * y[:, k]
        # Nothing where no expert is here, whatever the weight: NaN times nothing is nothing.
        out += torch.where(slots[:, k, None] >= 0, weighed, torch.zeros_like(weighed))
    if shared is not None:
        y_shared = swiglu(rows, shared, description.dtype)
        if shared_gate is not None:
            y_shared = y_shared * torch.sigmoid(routed @ shared_gate.to(accumulate))[:, None]
        out += y_shared
    return rounding.stored(out)
