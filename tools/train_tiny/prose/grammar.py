"""A small seeded text grammar: rules expand into English with names that stay the same through a text.

`[rule]` draws a line of that rule. `[name=rule]` draws and keeps it; `[name]` repeats it, `[Name]` repeats it
with a capital, `[a name]` puts `a` or `an` before it. A kept line `fox|he|his` also sets `[name.1]`, `[name.2]`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

Rules = Mapping[str, Sequence[str]]
_SLOT = re.compile(r"\[(a |A )?([A-Za-z_]+)(?:\.(\d))?(?:=([a-z_]+))?\]")


class Grammar:
    """Expands rules; every chance comes from the generator given to `expand`."""

    def __init__(self, *rule_sets: Rules) -> None:
        self._rules: dict[str, Sequence[str]] = {}
        for rules in rule_sets:
            overlap = self._rules.keys() & rules.keys()
            if overlap:
                raise ValueError(f"rules defined twice: {sorted(overlap)}")
            self._rules.update(rules)

    def expand(self, text: str, rng: random.Random, kept: dict[str, str] | None = None) -> str:
        """The text with every slot filled."""
        kept = {} if kept is None else kept

        def fill(match: re.Match[str]) -> str:
            article, name, part, rule = match.groups()
            key = name.lower()
            if rule or key not in kept:
                options = self._rules[rule or key]
                drawn = self.expand(options[int(rng.random() * len(options))], rng, kept)
                if rule:
                    if part is None and drawn in kept.values() and len(options) > 4:
                        return fill(
                            match
                        )  # a different hero, place or object than those kept so far
                    kept[key] = drawn
            else:
                drawn = kept[key]
            drawn = drawn.split("|")[int(part or 0)]
            if article:
                drawn = f"{article.strip()}{'n' if drawn[0] in 'aeiou' else ''} {drawn}"
            return drawn[0].upper() + drawn[1:] if name[0].isupper() else drawn

        return _SLOT.sub(fill, text)
