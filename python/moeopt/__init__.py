"""FlashDMoE, the fused Mixture-of-Experts layer, for PyTorch, Transformers and vLLM.

    import moeopt                      # imports neither torch nor CUDA
    layer = moeopt.MoELayer(moeopt.Description(hidden=2048, intermediate=768, experts=128, top_k=8))
    layer.pack_experts(gate_up, down)  # [E, 2I, H] and [E, H, I]
    out = layer.forward(x, ids=ids, weights=weights)

`python -m moeopt.doctor` says what would be used on this machine and why not.
"""

from typing import TYPE_CHECKING, Any

from moeopt._version import __version__
from moeopt.describe import Description
from moeopt.errors import ArgumentError, CudaError, MoeoptError, NotApplied, Unsupported

if TYPE_CHECKING:
    from moeopt.layer import Counters, MoELayer
    from moeopt.status import LayerStatus, report

__all__ = [
    "ArgumentError", "Counters", "CudaError", "Description", "LayerStatus", "MoELayer", "MoeoptError",
    "NotApplied", "Unsupported", "__version__", "report",
]

_LAZY = {"MoELayer": "layer", "Counters": "layer", "LayerStatus": "status", "report": "status"}


def __getattr__(name: str) -> Any:
    """What needs torch is imported at its first use."""
    if name in _LAZY:
        import importlib
        return getattr(importlib.import_module(f"moeopt.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'moeopt' has no attribute {name!r}")
