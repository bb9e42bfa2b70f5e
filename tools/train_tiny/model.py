"""The model in the form it is trained in: every expert runs on every token, and the gate zeroes the rest.

At this size that is faster than sorting tokens by expert, and its gradients are the sparse ones. `export.py`
writes the weights under the names of Transformers' Qwen3-MoE and checks that both compute the same logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; names follow the Qwen3-MoE config."""

    vocab_size: int = 1536
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    moe_intermediate_size: int = 128
    num_experts: int = 16
    num_experts_per_tok: int = 4
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 2048


def rope_tables(shape: Shape, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin [length, head_dim], each half repeated as Transformers lays them out."""
    exponent = (
        torch.arange(0, shape.head_dim, 2, device=device, dtype=torch.float32) / shape.head_dim
    )
    angles = torch.outer(
        torch.arange(length, device=device, dtype=torch.float32), shape.rope_theta**-exponent
    )
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return (y * self.weight).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = (
            s.num_attention_heads,
            s.num_key_value_heads,
            s.head_dim,
        )
        self.q_proj = nn.Linear(s.hidden_size, self.heads * self.size, bias=False)
        self.k_proj = nn.Linear(s.hidden_size, self.kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(s.hidden_size, self.kv_heads * self.size, bias=False)
        self.o_proj = nn.Linear(self.heads * self.size, s.hidden_size, bias=False)
        self.q_norm = Norm(self.size, s.rms_norm_eps)
        self.k_norm = Norm(self.size, s.rms_norm_eps)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(batch, length, self.heads, self.size)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(batch, length, self.kv_heads, self.size)).transpose(
            1, 2
        )
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        groups = self.heads // self.kv_heads
        q, k = _rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype)
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class Experts(nn.Module):
    """The MoE layer. `gate_up` is [experts, 2, I, H] and `down` [H, experts, I], flattened for one product each."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.experts, self.top_k, self.inner = (
            s.num_experts,
            s.num_experts_per_tok,
            s.moe_intermediate_size,
        )
        self.gate = nn.Linear(s.hidden_size, self.experts, bias=False)
        self.gate_up = nn.Linear(s.hidden_size, self.experts * 2 * self.inner, bias=False)
        self.down = nn.Linear(self.experts * self.inner, s.hidden_size, bias=False)

    def forward(self, x: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The output, the balancing loss (1 when even) and each expert's share of the counted tokens' choices."""
        with torch.autocast(x.device.type, enabled=False):
            probability = F.linear(x.float(), self.gate.weight.float()).softmax(-1)
        value, index = probability.topk(self.top_k, dim=-1)
        value = value / value.sum(-1, keepdim=True)
        weight = torch.zeros_like(probability).scatter(-1, index, value)
        pair = self.gate_up(x).unflatten(-1, (self.experts, 2, self.inner))
        inner = F.silu(pair[..., 0, :]) * pair[..., 1, :] * weight.unsqueeze(-1).to(pair.dtype)
        out = self.down(inner.flatten(-2))
        total = counted.sum().clamp(min=1)
        share = ((weight > 0) * counted.unsqueeze(-1)).sum((0, 1)) / (total * self.top_k)
        mean = (probability * counted.unsqueeze(-1)).sum((0, 1)) / total
        return out, self.experts * (share * mean).sum(), share


class Layer(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(s.hidden_size, s.rms_norm_eps)
        self.self_attn = Attention(s)
        self.post_attention_layernorm = Norm(s.hidden_size, s.rms_norm_eps)
        self.mlp = Experts(s)


class TinyMoe(nn.Module):
    """Embedding, layers, final norm; the embedding is also the output head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)

    def initialise(self, generator: torch.Generator) -> None:
        """Normal weights of std 0.02 for the embedding and 1/sqrt(inputs) for matrices, smaller into the residual."""
        residual = (2 * self.shape.num_hidden_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                continue
            std = 0.02 if "embed" in name else parameter.shape[1] ** -0.5
            if name.endswith("down.weight"):
                std = self.shape.moe_intermediate_size**-0.5 * residual
            elif name.endswith("o_proj.weight"):
                std *= residual
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)

    def forward(self, token: Tensor, document: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, T, V], the mean balancing loss, and expert shares [layers, experts]."""
        length = token.shape[1]
        cos, sin = rope_tables(self.shape, length, token.device)
        causal = torch.ones(length, length, dtype=torch.bool, device=token.device).tril()
        mask = ((document.unsqueeze(1) == document.unsqueeze(2)) & causal).unsqueeze(1)
        counted = (document > 0).float()
        x = self.embed_tokens(token)
        balance, shares = [], []
        for layer in self.layers:
            x = x + layer.self_attn(layer.input_layernorm(x), mask, cos, sin)
            out, loss, share = layer.mlp(layer.post_attention_layernorm(x), counted)
            x = x + out
            balance.append(loss)
            shares.append(share)
        return (
            F.linear(self.norm(x), self.embed_tokens.weight),
            torch.stack(balance).mean(),
            torch.stack(shares),
        )
