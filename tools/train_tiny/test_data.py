"""Checks the generators: right arithmetic, a clean split, texts without leftovers, the same data for the same seed."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import chat  # noqa: E402
import prose  # noqa: E402
from problems import FAMILIES, Problem, draw_problem  # noqa: E402

EVAL = Path(__file__).parents[2] / "models/tiny-moe/eval"
EQUATION = re.compile(r"(\d+(?: [+\-*/] \d+)+) = \$?(\d+)")


def _problems(count: int, held_out: bool, seed: int = 5) -> list[Problem]:
    rng = random.Random(seed)
    return [draw_problem(rng, held_out) for _ in range(count)]


def test_every_equation_is_right_and_ends_in_the_answer() -> None:
    problems = _problems(4000, held_out=False)
    assert {p.family for p in problems} == set(FAMILIES)
    for problem in problems:
        equations = EQUATION.findall("\n".join(problem.steps))
        assert len(equations) >= len(problem.steps), problem
        for left, result in equations:
            assert eval(left) == int(result), problem  # noqa: S307  (digits and operators alone, by the pattern)
        assert equations[-1][1] == str(problem.answer), problem
        assert problem.solution.endswith(f"\n#### {problem.answer}")


def test_every_number_of_a_first_step_is_in_the_question() -> None:
    """A solution starts from what the question says (or from a word such as `twice`, `half`, `week`, `hours`)."""
    implied = {"1", "2", "3", "4", "5", "7", "10", "60"}
    for problem in _problems(4000, held_out=False):
        asked = set(re.findall(r"\d+", problem.question)) | implied
        first = EQUATION.findall(problem.steps[0])[0][0]
        assert set(re.findall(r"\d+", first)) <= asked, problem


def test_the_split_is_by_numbers_and_complete() -> None:
    seen = {(p.family, p.numbers) for p in _problems(5000, held_out=False)}
    kept = {(p.family, p.numbers) for p in _problems(1000, held_out=True)}
    assert len(kept) > 500
    assert not seen & kept


def test_prose_has_no_open_slots_and_keeps_its_split() -> None:
    rng = random.Random(3)
    texts = [prose.draw_prose(rng, from_held_out=i % 2 == 0) for i in range(2000)]
    assert not any(mark in text for text in texts for mark in "[]|")
    assert all(prose.held_out(text) == (i % 2 == 0) for i, text in enumerate(texts))
    assert len(set(texts)) > 1500
    texts += [problem.question for problem in _problems(2000, held_out=False)]
    assert not any(
        re.search(r"\b[Aa] [aeiou]\w+|\b[Aa]n (?!hour)[^aeiou\W]", text) for text in texts
    )


def test_the_same_seed_gives_the_same_conversations() -> None:
    first, second = random.Random(11), random.Random(11)
    assert [chat.draw_conversation(first) for _ in range(50)] == [
        chat.draw_conversation(second) for _ in range(50)
    ]


def test_the_template_renders_what_training_used() -> None:
    jinja2 = pytest.importorskip("jinja2")
    template = jinja2.Environment().from_string(chat.TEMPLATE)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " What is 1 + 2? "},
    ]
    assert template.render(messages=messages, add_generation_prompt=True) == chat.prompt(
        "What is 1 + 2?", "Be brief."
    )
    messages += [{"role": "assistant", "content": "1 + 2 = 3.\n#### 3"}]
    closed = template.render(messages=messages, add_generation_prompt=False)
    assert closed == f"{chat.prompt('What is 1 + 2?', 'Be brief.')}1 + 2 = 3.\n#### 3{chat.END}\n"


def test_the_shipped_evaluation_is_held_out() -> None:
    lines = [json.loads(line) for line in (EVAL / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 200 and len({line["question"] for line in lines}) == 200
    assert all(line["answer"].isdigit() for line in lines)
    texts = (EVAL / "perplexity.txt").read_text().rstrip("\n").split("\n\n")
    assert 20_000 < sum(map(len, texts)) < 40_000
    assert all(prose.held_out(text) for text in texts)
