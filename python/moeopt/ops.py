"""torch.ops.moeopt.*: the layer as torch operators, for torch.compile(fullgraph=True) and CUDA graphs.

    moeopt::moe_layer(x, experts, ..., layer) -> out          a new tensor
    moeopt::moe_layer_out(x, experts, ..., layer, out) -> ()  writes `out`, and no other argument

`layer` is MoELayer.key; what the kernel keeps between launches (its counters) belongs to the layer and is
no argument. The stream is torch's current one, the workspace comes from torch's allocator. A gradient is
refused. Invariant: the fake implementation looks at shapes and dtypes alone.
"""

import torch

from moeopt import layer as layers
from moeopt.errors import ArgumentError

_TENSORS = ("Tensor x, Tensor experts, Tensor? shared, Tensor? router, Tensor? correction_bias, "
            "Tensor? shared_gate, Tensor? ids, Tensor? weights, Tensor? expert_map, int layer")
_NAMES = ("experts", "shared", "router", "correction_bias", "shared_gate", "ids", "weights", "expert_map")

# Kept for the life of the process: the registrations end with it.
_registry = torch.library.Library("moeopt", "DEF")
_registry.define(f"moe_layer({_TENSORS}) -> Tensor")
_registry.define(f"moe_layer_out({_TENSORS}, Tensor(a!) out) -> ()")


def _run(x: torch.Tensor, *tensors_and_layer: object) -> torch.Tensor:
    *tensors, key = tensors_and_layer
    with torch.no_grad():
        return layers.find(key).forward(x, **dict(zip(_NAMES, tensors)))  # type: ignore[arg-type]


def _run_out(x: torch.Tensor, *arguments: object) -> None:
    *tensors, key, out = arguments
    with torch.no_grad():
        layers.find(key).forward(x, out, **dict(zip(_NAMES, tensors)))  # type: ignore[arg-type]


for _key in ("CPU", "CUDA"):
    _registry.impl("moe_layer", _run, _key)
    _registry.impl("moe_layer_out", _run_out, _key)


@torch.library.register_fake("moeopt::moe_layer", lib=_registry)
def _fake(x: torch.Tensor, *arguments: object) -> torch.Tensor:
    torch._check(x.dim() == 2, lambda: f"x has {x.dim()} dimensions; it must be [tokens, hidden]")
    return x.new_empty(x.shape)


@torch.library.register_fake("moeopt::moe_layer_out", lib=_registry)
def _fake_out(x: torch.Tensor, *arguments: object) -> None:
    return None


def _refuse_setup(ctx: object, inputs: object, output: object) -> None:
    raise ArgumentError("moeopt is for inference: it has no gradient. Run under torch.no_grad() or "
                        "torch.inference_mode(), or train with another experts implementation")


def _refuse_backward(ctx: object, *gradients: object) -> None:
    raise AssertionError("no forward gets this far")


torch.library.register_autograd("moeopt::moe_layer", _refuse_backward, setup_context=_refuse_setup,
                                lib=_registry)


def moe_layer(layer: "layers.MoELayer", x: torch.Tensor, *, ids: torch.Tensor | None = None,
              weights: torch.Tensor | None = None, router: torch.Tensor | None = None,
              correction_bias: torch.Tensor | None = None, shared_gate: torch.Tensor | None = None,
              expert_map: torch.Tensor | None = None, out: torch.Tensor | None = None) -> torch.Tensor:
    """The layer on x [T, H]; arguments and errors as MoELayer.forward's. May be compiled and captured."""
    if layer.packed is None:
        raise ArgumentError(f"{layer.name} has no experts yet: call pack_experts first")
    arguments = (x, layer.packed, layer.packed_shared, router, correction_bias, shared_gate, ids, weights,
                 expert_map, layer.key)
    if out is None:
        return torch.ops.moeopt.moe_layer(*arguments)
    torch.ops.moeopt.moe_layer_out(*arguments, out)
    return out
