"""Synthetic word problems with worked solutions."""

from problems import counting, measures, money, spaces  # noqa: F401  (they register their families)
from problems.base import FAMILIES, HELD_OUT_ONE_IN, Problem, draw_problem

__all__ = ["FAMILIES", "HELD_OUT_ONE_IN", "Problem", "draw_problem"]
