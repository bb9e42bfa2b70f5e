"""The training loop: AdamW, warm-up and cosine, bf16 autocast over float32 weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dataset import Rows
from model import Shape, TinyMoe


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run besides the data."""

    seed: int = 20261121
    steps: int = 16_000
    rows_per_step: int = 64
    peak_rate: float = 3e-3
    warmup_steps: int = 400
    weight_decay: float = 0.1
    balance_weight: float = 0.01
    clip_norm: float = 1.0

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to zero."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.peak_rate * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass
class Outcome:
    """What training leaves: the weights, the use of experts in the last steps, and the figures for the card."""

    model: TinyMoe
    expert_share: Tensor  # [layers, experts], each row sums to 1
    last_loss: float
    tokens: int
    seconds: float


def _loss(
    model: Callable[..., tuple[Tensor, Tensor, Tensor]],
    batch: tuple[Tensor, ...],
    balance_weight: float,
):
    token, document, weight = batch
    logits, balance, share = model(token, document)
    # The last token of a document predicts nothing: its successor belongs to another document.
    same = (document[:, 1:] == document[:, :-1]).float()
    scale = weight[:, 1:].float() * 0.1 * same
    each = F.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), token[:, 1:].flatten(), reduction="none"
    )
    loss = (each * scale.flatten()).sum() / scale.sum()
    return loss + balance_weight * balance, loss.detach(), balance.detach(), share.detach()


def train(rows: Rows, recipe: Recipe, shape: Shape, device: torch.device) -> Outcome:
    """Trains on the rows, in order and again from the start when they run out."""
    model = TinyMoe(shape)
    model.initialise(torch.Generator().manual_seed(recipe.seed))
    model.to(device)
    groups = [
        {
            "params": [p for p in model.parameters() if p.dim() > 1],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    fused = device.type == "cuda"
    optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=fused)
    token, document, weight = (
        torch.from_numpy(a).to(device) for a in (rows.token, rows.document, rows.weight)
    )
    run = torch.compile(_loss) if device.type == "cuda" else _loss
    shares: list[Tensor] = []
    start = time.monotonic()
    last_loss = math.nan
    for step in range(recipe.steps):
        first = step * recipe.rows_per_step % (len(rows) - recipe.rows_per_step + 1)
        chosen = slice(first, first + recipe.rows_per_step)
        batch = (token[chosen].long(), document[chosen].int(), weight[chosen])
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step)
        with torch.autocast(device.type, torch.bfloat16):
            total, loss, balance, share = run(model, batch, recipe.balance_weight)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step >= recipe.steps - 50:
            shares.append(share)
        if step % max(1, recipe.steps // 40) == 0 or step == recipe.steps - 1:
            last_loss = loss.item()
            seconds = time.monotonic() - start
            print(
                f"step {step:6d}  loss {last_loss:.4f}  balance {balance.item():.3f}  {seconds:6.1f} s",
                flush=True,
            )
    tokens = recipe.steps * recipe.rows_per_step * token.shape[1]
    seconds = time.monotonic() - start
    return Outcome(model.cpu(), torch.stack(shares).mean(0).cpu(), last_loss, tokens, seconds)
