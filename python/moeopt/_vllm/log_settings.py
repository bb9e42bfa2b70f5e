"""The environment variables of the routing log, read in one place.

    VLLM_LOG_MOE=FILE          or MOEOPT_LOG_MOE, which goes first; FILE.moer: binary, else JSON lines
    ..._LAYER  all, or a list such as 0,2,5-7     ..._MODEL_ID  the log's name of the model
    ..._REQ_ID the one request to record          ..._SEED      a number for the log's header
"""

import dataclasses
import os
import re
from typing import Any

from moeopt.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the environment asks for."""

    file: str
    layers: str = "all"
    model_id: str = ""
    request: str = ""
    seed: int = 0

    def of_rank(self, rank: int) -> "Wanted":
        """What pipeline rank's first worker writes: a file of its own, but for the first."""
        stem, suffix = os.path.splitext(self.file)
        return self if rank == 0 else dataclasses.replace(self, file=f"{stem}.rank{rank}{suffix}")

    def names(self, request: str) -> bool:
        """Whether a request of vLLM's, whose id may have a suffix behind the user's, is to be recorded."""
        return not self.request or request == self.request or request.startswith(self.request + "-")


def wanted(environment: Any = os.environ) -> Wanted | None:
    """None: no log. Raises ArgumentError on a value that cannot be read."""
    def value(suffix: str) -> str:
        return (environment.get("MOEOPT_LOG_MOE" + suffix) or environment.get("VLLM_LOG_MOE" + suffix) or "").strip()
    if not value(""):
        return None
    seed = value("_SEED") or "0"
    if not seed.isdecimal():
        raise ArgumentError(f"the routing log's seed is {seed!r}; it must be a whole number")
    found = Wanted(value(""), value("_LAYER") or "all", value("_MODEL_ID"), value("_REQ_ID"), int(seed))
    selected(found.layers, range(1))
    return found


def selected(text: str, layers: Any) -> list[int]:
    """Those of `layers` that "all" or "0,2,5-7" names. Raises ArgumentError."""
    if text == "all":
        return list(layers)
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise ArgumentError(f"layers to log are {text!r}; write all, or a list such as 0,2,5-7")
        ranges.append((int(match[1]), int(match[2] or match[1])))
    return [layer for layer in layers if any(first <= layer <= last for first, last in ranges)]
