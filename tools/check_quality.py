#!/usr/bin/env python3
"""Holds `moeopt eval --json` (standard input) against what Transformers measured on the same files.

usage: moeopt eval MODEL --json --answers ... --perplexity ... | check_quality.py transformers.json
"""

import json
import sys

# bf16 inputs of the products against float32 ones; the accuracy's margins are about 10 logits.
PERPLEXITY_TOLERANCE = 1e-3


def main() -> int:
    ours = json.load(sys.stdin)
    with open(sys.argv[1], encoding="utf-8") as file:
        theirs = json.load(file)
    wanted = theirs["perplexity"]["value"]
    off = abs(ours["perplexity"] - wanted) / wanted
    checks = {
        f"{ours['right']} of {ours['asked']} answers right, Transformers {theirs['accuracy']['right']}":
            ours["asked"] == theirs["accuracy"]["problems"] and ours["right"] >= theirs["accuracy"]["right"],
        f"{ours['scored_tokens']} tokens scored": ours["scored_tokens"] == theirs["perplexity"]["scored"],
        f"perplexity {ours['perplexity']:.6f}, Transformers {wanted:.6f}, off by {off:.1e}":
            off <= PERPLEXITY_TOLERANCE,
    }
    for text, good in checks.items():
        print("ok  " if good else "FAIL", text)
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
