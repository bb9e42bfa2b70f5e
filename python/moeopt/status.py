"""Which MoE layers of this process run the kernel, and how often the kernel itself says that it ran.

Adapters (transformers.py, vllm_plugin.py) report what became of each layer; report() reads the counters.
Invariant: a layer is `applied` only while it has a MoELayer; launches come from the kernel's counter alone,
so that replays of CUDA graphs count and a forgotten call shows as zero.
"""

import dataclasses
import json
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moeopt.layer import MoELayer

logger = logging.getLogger("moeopt")
APPLIED, DECLINED = "applied", "declined"
_lock = threading.Lock()
_entries: "dict[tuple[str, str, int], _Entry]" = {}  # by engine, name and owner: two models may share names


@dataclasses.dataclass(frozen=True)
class LayerStatus:
    """One MoE layer of an engine."""

    engine: str  # "transformers", "vllm"
    name: str  # the engine's own name of the layer
    used: str  # the class or implementation that runs it
    state: str  # APPLIED, DECLINED
    reason: str  # why declined; "" when applied
    launches: int = 0  # by the kernel, since the layer was made
    tokens: int = 0
    rows: int = 0
    nan_tokens: int = 0
    errors: int = 0


@dataclasses.dataclass
class _Entry:
    status: LayerStatus
    owner: "weakref.ref[Any] | None"  # the engine's module: the entry goes when it goes
    layer: "weakref.ref[MoELayer] | None"


def _record(status: LayerStatus, owner: object | None, layer: "MoELayer | None") -> None:
    with _lock:
        _entries[(status.engine, status.name, id(owner))] = _Entry(
            status, None if owner is None else weakref.ref(owner), None if layer is None else weakref.ref(layer))


def applied(engine: str, name: str, used: str, layer: "MoELayer", owner: object | None = None) -> None:
    """The engine's layer `name` runs `layer` from now on."""
    _record(LayerStatus(engine, name, used, APPLIED, ""), owner, layer)


def declined(engine: str, name: str, used: str, reason: str, owner: object | None = None) -> None:
    """The engine's layer `name` runs `used` instead, for `reason`."""
    _record(LayerStatus(engine, name, used, DECLINED, reason), owner, None)


def forget(engine: str, name: str, owner: object | None = None) -> None:
    with _lock:
        _entries.pop((engine, name, id(owner)), None)


def report() -> list[LayerStatus]:
    """Every known layer, with the kernel's counters; waits for the devices. Not while a graph is captured."""
    with _lock:
        gone = [key for key, entry in _entries.items()
                if (entry.owner is not None and entry.owner() is None) or
                (entry.layer is not None and entry.layer() is None)]
        for key in gone:
            del _entries[key]
        entries = list(_entries.values())
    result = []
    for entry in entries:
        layer = entry.layer() if entry.layer is not None else None
        if layer is None:
            result.append(entry.status)
            continue
        counted = layer.counters()
        result.append(dataclasses.replace(entry.status, **dataclasses.asdict(counted)))
    return result


def launches() -> int:
    """Of all applied layers: Δ over some work must be steps x layers."""
    return sum(status.launches for status in report())


def as_dict() -> dict[str, Any]:
    """report() for JSON, with the versions that it belongs to."""
    from moeopt import settings
    from moeopt._version import __version__
    layers = report()
    return {"moeopt": __version__, "poison": settings.poison(),
            "applied": sum(layer.state == APPLIED for layer in layers),
            "declined": sum(layer.state == DECLINED for layer in layers),
            "launches": sum(layer.launches for layer in layers),
            "layers": [dataclasses.asdict(layer) for layer in layers]}


def summary() -> str:
    """One line for the log: how many layers are applied, and why the others are not."""
    with _lock:
        statuses = [entry.status for entry in _entries.values()]
    reasons: dict[str, int] = {}
    for status in statuses:
        if status.state == DECLINED:
            reasons[status.reason] = reasons.get(status.reason, 0) + 1
    count = sum(status.state == APPLIED for status in statuses)
    text = f"moeopt: the kernel runs {count} of {len(statuses)} MoE layers"
    return text + "".join(f"; {n} declined: {reason}" for reason, n in reasons.items())


def table(layers: list[LayerStatus]) -> str:
    """For people."""
    lines = [f"{'layer':40s} {'state':9s} {'used':24s} {'launches':>9s} {'tokens':>9s}  reason"]
    lines += [f"{s.name[-40:]:40s} {s.state:9s} {s.used[:24]:24s} {s.launches:9d} {s.tokens:9d}  {s.reason}"
              for s in layers]
    return "\n".join(lines)


def to_json() -> str:
    return json.dumps(as_dict())
