"""Plain English text from a grammar of our own: material for language modelling and perplexity."""

from __future__ import annotations

import hashlib
import random

from prose.grammar import Grammar
from prose.knowledge import KNOWLEDGE_RULES
from prose.rules import LETTER_RULES, PLACE_RULES, STORY_RULES

HELD_OUT_ONE_IN = 25
_GRAMMAR = Grammar(STORY_RULES, PLACE_RULES, LETTER_RULES, KNOWLEDGE_RULES)
_KINDS = (
    "story",
    "story",
    "story",
    "place",
    "place",
    "letter",
    "animal_article",
    "tool_article",
    "how_to",
    "talk",
)


def expand(rule: str, rng: random.Random) -> str:
    """One text of a rule (`story`, `place`, ...)."""
    return _GRAMMAR.expand(f"[{rule}]", rng)


def held_out(text: str) -> bool:
    """True for the texts that training never sees."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % HELD_OUT_ONE_IN == 0


def draw_prose(rng: random.Random, from_held_out: bool) -> str:
    """A text of a random kind from one side of the split."""
    while True:
        text = expand(_KINDS[int(rng.random() * len(_KINDS))], rng)
        if held_out(text) == from_held_out:
            return text


__all__ = ["HELD_OUT_ONE_IN", "draw_prose", "expand", "held_out"]
