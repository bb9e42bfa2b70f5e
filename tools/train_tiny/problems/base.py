"""What a problem is, the list of families, and the split into training and held-out problems."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from problems.words import OPENINGS, Draw

HELD_OUT_ONE_IN = 25


@dataclass(frozen=True)
class Problem:
    """A word problem. `numbers` are the quantities that decide the answer, in a fixed order."""

    numbers: tuple[int, ...]
    question: str
    steps: tuple[str, ...]
    answer: int
    family: str = ""

    @property
    def solution(self) -> str:
        """The worked solution that the model learns to write."""
        return "\n".join((*self.steps, f"#### {self.answer}"))

    @property
    def held_out(self) -> bool:
        """True for the numbers of this family that training never sees, whatever the story around them."""
        key = f"{self.family}:{self.numbers}".encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % HELD_OUT_ONE_IN == 0


Family = Callable[[Draw], Problem]
FAMILIES: dict[str, Family] = {}


def family(make: Family) -> Family:
    """Registers a problem family under its function's name."""
    FAMILIES[make.__name__] = make
    return make


def draw_problem(rng: random.Random, held_out: bool) -> Problem:
    """A problem of a random family from one side of the split."""
    names = list(FAMILIES)
    name = names[int(rng.random() * len(names))]
    while True:
        draw = Draw(rng)
        problem = replace(FAMILIES[name](draw), family=name)
        if problem.held_out != held_out:
            continue
        if draw.chance(0.1):
            problem = replace(problem, question=f"{draw.one_of(OPENINGS)} {problem.question}")
        return problem
