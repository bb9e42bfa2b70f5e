"""The environment variables of the package, read in one place.

MOEOPT_MODE    off: leave the engine as it is; prefer: use the kernel where it can run, and say where
               it cannot; require: an engine without it does not start. Unset: require when the user
               named moeopt (experts_implementation="moeopt", VLLM_PLUGINS=moeopt), else prefer.
MOEOPT_POISON  1: every router weight that the kernel is given becomes NaN, so that generation breaks
               wherever the kernel's output is really used.
MOEOPT_LIBRARY path of libmoeopt.so, instead of the package's own.
"""

import enum
import os

from moeopt.errors import ArgumentError


class Mode(enum.Enum):
    OFF = "off"
    PREFER = "prefer"
    REQUIRE = "require"


def mode(named: bool) -> Mode:
    """MOEOPT_MODE; `named`: the user asked for moeopt by name. Raises ArgumentError on another value."""
    text = os.environ.get("MOEOPT_MODE", "").strip().lower()
    if not text:
        return Mode.REQUIRE if named else Mode.PREFER
    try:
        return Mode(text)
    except ValueError:
        raise ArgumentError(f"MOEOPT_MODE is {text!r}; it must be off, prefer or require") from None


def flag(name: str) -> bool:
    """A variable that is 0, 1 or unset. Raises ArgumentError on another value."""
    text = os.environ.get(name, "").strip()
    if text not in ("", "0", "1"):
        raise ArgumentError(f"{name} is {text!r}; it must be 0 or 1")
    return text == "1"


def poison() -> bool:
    return flag("MOEOPT_POISON")
