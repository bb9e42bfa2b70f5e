"""Measures a tiny-moe checkpoint with Transformers, in float32 on its bf16 weights.

    python tools/train_tiny/evaluate.py models/tiny-moe [--more 2000] [--write]

prints accuracy and perplexity; `--write` also stores them, with greedy continuations, in eval/transformers.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import Tensor

import prose
from problems import Problem, draw_problem

WINDOW = 512
NEW_TOKENS = 200
GREEDY_TOKENS = 64
_BATCH = 250
_TEXT_BYTES = 30_000

ACCURACY = (
    f"chat template with the question as one user message, add_generation_prompt, greedy, at most {NEW_TOKENS} new "
    "tokens; right if the text after the last '####', stripped, equals the answer"
)
PERPLEXITY = (
    f"the whole file encoded without special tokens, cut into consecutive windows of {WINDOW} tokens (the last may be "
    "shorter); each window is scored alone from its second token; exp of the mean negative log-likelihood of all "
    "scored tokens"
)
GREEDY = (
    f"greedy continuation of prompt_ids, at most {GREEDY_TOKENS} tokens, ended by <|im_end|> or <|endoftext|> "
    "(included); smallest_gap is the least difference between the two largest logits on the way"
)


def held_out_problems(count: int, seed: int) -> list[Problem]:
    """Different problems from the side of the split that training never sees."""
    rng = random.Random(seed)
    problems: dict[str, Problem] = {}
    while len(problems) < count:
        problem = draw_problem(rng, held_out=True)
        problems.setdefault(problem.question, problem)
    return list(problems.values())


def write_eval_data(folder: Path, seed: int) -> None:
    """Writes the 200 held-out problems and the held-out text."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"question": p.question, "answer": str(p.answer)})
        for p in held_out_problems(200, seed)
    ]
    (folder / "answers.jsonl").write_text("\n".join(lines) + "\n")
    rng = random.Random(seed)
    texts: list[str] = []
    while sum(map(len, texts)) < _TEXT_BYTES:
        text = prose.draw_prose(rng, from_held_out=True)
        if text not in texts:
            texts.append(text)
    (folder / "perplexity.txt").write_text("\n\n".join(texts) + "\n")


def final_answer(reply: str) -> str:
    """What follows the last `####`, or nothing."""
    return reply.rpartition("####")[2].strip() if "####" in reply else ""


class Checkpoint:
    """A model and its tokenizer, as Transformers loads them."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.device = device
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model = model.to(device).eval()

    def prompt(self, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )

    @torch.no_grad()
    def replies(self, questions: list[str]) -> list[str]:
        replies: list[str] = []
        for first in range(0, len(questions), _BATCH):
            prompts = [self.prompt(question) for question in questions[first : first + _BATCH]]
            batch = self.tokenizer(prompts, return_tensors="pt", padding=True).to(self.device)
            out = self.model.generate(**batch, do_sample=False, max_new_tokens=NEW_TOKENS)
            new = out[:, batch["input_ids"].shape[1] :]
            replies += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return replies

    @torch.no_grad()
    def perplexity(self, text: str) -> dict[str, Any]:
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False, return_tensors="pt")[
            "input_ids"
        ][0].to(self.device)
        total, scored = 0.0, 0
        for window in ids.split(WINDOW):
            logits = self.model(window[None]).logits[0, :-1].double()
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
            scored += len(window) - 1
        value = math.exp(total / scored)
        return {
            "definition": PERPLEXITY,
            "tokens": len(ids),
            "scored": scored,
            "window": WINDOW,
            "value": value,
        }

    @torch.no_grad()
    def greedy(self, text: str) -> dict[str, Any]:
        ids = self.tokenizer(text)["input_ids"]
        prompt_length, gap, top = len(ids), math.inf, {}
        stop = self.model.generation_config.eos_token_id
        ids = list(ids)
        while len(ids) < prompt_length + GREEDY_TOKENS and (
            len(ids) == prompt_length or ids[-1] not in stop
        ):
            values, best = self.model(torch.tensor([ids], device=self.device)).logits[0, -1].topk(5)
            if not top:
                top = dict(
                    zip(
                        map(str, best.tolist()), [round(v, 4) for v in values.tolist()], strict=True
                    )
                )
            gap = min(gap, (values[0] - values[1]).item())
            ids.append(int(best[0]))
        return {
            "prompt": text,
            "prompt_ids": ids[:prompt_length],
            "ids": ids[prompt_length:],
            "text": self.tokenizer.decode(ids[prompt_length:]),
            "first_logits": top,
            "smallest_gap": round(gap, 5),
        }

    @torch.no_grad()
    def expert_use(self, texts: list[str]) -> list[list[float]]:
        """Per layer, each expert's share of all choices over the texts."""
        config = self.model.config
        count = torch.zeros(config.num_hidden_layers, config.num_experts, dtype=torch.float64)
        for text in texts:
            ids = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=1024).to(
                self.device
            )
            routed: tuple[Tensor, ...] = self.model(**ids, output_router_logits=True).router_logits
            for layer, logits in enumerate(routed):
                chosen = (
                    logits.float().topk(config.num_experts_per_tok, dim=-1).indices.flatten().cpu()
                )
                count[layer] += torch.bincount(chosen, minlength=config.num_experts)
        return [[round(x, 4) for x in row.tolist()] for row in count / count.sum(-1, keepdim=True)]


def accuracy(
    questions: list[str], answers: list[str], replies: list[str], show_wrong: int = 0
) -> dict[str, Any]:
    """The share of right answers; up to `show_wrong` wrong replies go to stderr."""
    right = [final_answer(reply) == answer for reply, answer in zip(replies, answers, strict=True)]
    wrong = [i for i, good in enumerate(right) if not good]
    for i in wrong[:show_wrong]:
        print(f"wrong: {questions[i]}\n  {replies[i]!r}, not {answers[i]}", file=sys.stderr)
    return {
        "definition": ACCURACY,
        "problems": len(answers),
        "right": sum(right),
        "value": sum(right) / len(answers),
        "wrong_lines": wrong,
    }


def further_accuracy(folder: Path, device: torch.device, count: int) -> dict[str, Any]:
    """Accuracy on other held-out problems than the 200 of the repository."""
    problems = held_out_problems(count, seed=7)
    questions = [problem.question for problem in problems]
    replies = Checkpoint(folder, device).replies(questions)
    return accuracy(
        questions, [str(problem.answer) for problem in problems], replies, show_wrong=20
    )


def measure(folder: Path, device: torch.device) -> dict[str, Any]:
    """Everything that goes into eval/transformers.json."""
    checkpoint = Checkpoint(folder, device)
    lines = [json.loads(line) for line in (folder / "eval/answers.jsonl").read_text().splitlines()]
    questions, answers = [line["question"] for line in lines], [line["answer"] for line in lines]
    text = (folder / "eval/perplexity.txt").read_text()
    pieces = text.split("\n\n")
    prompts = [checkpoint.prompt(question) for question in questions[:12]]
    prompts += [" ".join(piece.split(" ")[:8]) for piece in pieces[:4]]
    replies = checkpoint.replies(questions)
    solved = [
        checkpoint.prompt(question) + reply
        for question, reply in zip(questions, replies, strict=True)
    ]
    return {
        "made_with": {
            "python": sys.version.split()[0],
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "compute": f"float32 from the bf16 weights, {device.type}",
        },
        "accuracy": accuracy(questions, answers, replies, show_wrong=10),
        "perplexity": checkpoint.perplexity(text),
        "expert_use": {
            "definition": "per layer, each expert's share of all top-k choices",
            "problems": checkpoint.expert_use(solved),
            "plain_text": checkpoint.expert_use(pieces),
        },
        "greedy": {
            "definition": GREEDY,
            "prompts": [checkpoint.greedy(prompt) for prompt in prompts],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a tiny-moe checkpoint with Transformers.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--more", type=int, default=0, help="also measure on this many further held-out problems"
    )
    parser.add_argument("--write", action="store_true", help="write eval/transformers.json")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    result = measure(arguments.folder, device)
    print(f"accuracy   {result['accuracy']['right']} of {result['accuracy']['problems']}")
    print(
        f"perplexity {result['perplexity']['value']:.4f} over {result['perplexity']['scored']} tokens"
    )
    if arguments.write:
        (arguments.folder / "eval/transformers.json").write_text(
            json.dumps(result, indent=1) + "\n"
        )
    if arguments.more:
        found = further_accuracy(arguments.folder, device, arguments.more)
        print(f"further    {found['right']} of {found['problems']}")


if __name__ == "__main__":
    main()
