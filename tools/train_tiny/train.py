"""Makes models/tiny-moe from nothing: data, tokenizer, training, checkpoint, evaluation, model card.

    python tools/train_tiny/train.py --out models/tiny-moe

Meant for one GPU (minutes); `--steps 30 --rows 64` is a trial that any computer can do.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

import card
import evaluate
import tokenizer
from dataset import build_rows
from export import check_export, write_config, write_weights
from model import Shape
from optimise import Recipe, train

PROSE_SHARE = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the tiny-moe model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument(
        "--rows", type=int, default=320_000, help="rows of 1024 training tokens to make"
    )
    parser.add_argument("--rows-per-step", type=int, default=Recipe.rows_per_step)
    parser.add_argument(
        "--more", type=int, default=2000, help="further held-out problems for the card"
    )
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape, out = Shape(), arguments.out
    recipe = replace(Recipe(), steps=arguments.steps, rows_per_step=arguments.rows_per_step)
    out.mkdir(parents=True, exist_ok=True)

    learned = tokenizer.train_tokenizer(recipe.seed)
    tokenizer.write_tokenizer(learned, out, shape.max_position_embeddings)
    write_config(shape, learned, out)
    evaluate.write_eval_data(out / "eval", recipe.seed)
    start = time.monotonic()
    rows = build_rows(out / "tokenizer.json", arguments.rows, PROSE_SHARE, recipe.seed)
    print(f"{len(rows)} rows of training data in {time.monotonic() - start:.0f} s", flush=True)

    outcome = train(rows, recipe, shape, device)
    write_weights(outcome.model, out)
    print(
        f"largest logit difference to Transformers: {check_export(outcome.model, out):.2e}",
        flush=True,
    )

    result = evaluate.measure(out, device)
    (out / "eval/transformers.json").write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"accuracy {result['accuracy']['value']:.3f}, perplexity {result['perplexity']['value']:.4f}",
        flush=True,
    )
    further = evaluate.further_accuracy(out, device, arguments.more)
    print(f"further accuracy {further['value']:.4f}", flush=True)
    chip = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    (out / "README.md").write_text(card.model_card(recipe, outcome, rows, result, further, chip))


if __name__ == "__main__":
    main()
