"""experts_implementation="moeopt" for Transformers 5: Qwen2-MoE, Qwen3-MoE, Mixtral, DeepSeek-V2, -V3.

    import moeopt.transformers                        # registers the name
    model = AutoModelForCausalLM.from_pretrained(path, experts_implementation="moeopt", dtype="bfloat16")
    moeopt.transformers.prepare(model, free_original=True)   # or: packed at the first forward

Any experts module that Transformers' own interface describes as gated, bias-free and [E, 2I, H] with SiLU is
taken; a module that the kernel refuses runs Transformers' own implementation after one warning, or, under
MOEOPT_MODE=require (the default here, since the user names us), raises. MOEOPT_MODE=off leaves every module to
Transformers, which then computes what it would without us.
Invariant: a module runs the kernel exactly when status.report() calls it applied.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch

from moeopt import ops, settings, status
from moeopt.describe import Description
from moeopt.errors import ArgumentError, MoeoptError, NotApplied, Unsupported
from moeopt.layer import DEFAULT_MAX_TOKENS, MoELayer

NAME = "moeopt"
ENGINE = "transformers"
# What a module falls back to, best first; the names are Transformers'.
FALLBACKS = ("grouped_mm", "batched_mm")

_names: "weakref.WeakKeyDictionary[torch.nn.Module, str]" = weakref.WeakKeyDictionary()
_warned: set[str] = set()


def register() -> None:
    """Makes the name known to Transformers; done by the import. Raises Unsupported on a version without it."""
    try:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    except ImportError as problem:
        raise Unsupported("this Transformers has no experts interface (transformers.integrations.moe."
                          f"ALL_EXPERTS_FUNCTIONS, from 5.0 on): {problem}") from problem
    ALL_EXPERTS_FUNCTIONS.register(NAME, experts_forward)


def experts_forward(self: torch.nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor,
                    top_k_weights: torch.Tensor) -> torch.Tensor:
    """Transformers' experts function: hidden_states [T, H], top_k_index and top_k_weights [T, k] -> [T, H].

    Ids of num_experts and above mark slots whose expert is on another rank.
    """
    state = self.__dict__.get("_moeopt")
    if state is None:
        if torch.compiler.is_compiling():
            raise ArgumentError("call moeopt.transformers.prepare(model) before torch.compile")
        state = _decide(self, top_k_index.shape[-1])
    if state.layer is None or (hidden_states.requires_grad and torch.is_grad_enabled()):
        return _fall_back(self, state, hidden_states, top_k_index, top_k_weights)
    if torch.compiler.is_compiling() or type(hidden_states) is not torch.Tensor:
        return ops.moe_layer(state.layer, hidden_states, ids=top_k_index, weights=top_k_weights)
    # The same without torch's dispatcher: at batch 1 the GPU waits for Python.
    return state.layer.forward(hidden_states, ids=top_k_index, weights=top_k_weights)


class _State:
    """What became of one experts module."""

    def __init__(self, layer: MoELayer | None, fallback: Callable[..., torch.Tensor] | None, freed: bool):
        self.layer, self.fallback, self.freed = layer, fallback, freed


def prepare(model: torch.nn.Module, *, free_original: bool = False,
            max_tokens: int = DEFAULT_MAX_TOKENS) -> list[status.LayerStatus]:
    """Packs every experts module of a model and says what became of each.

    free_original: the original weights leave the device as they are packed; beside the model's own size the
    peak is one expert. The modules can then neither be trained nor saved. Needed before torch.compile;
    otherwise the first forward does it, without freeing.
    """
    for name, module in experts_modules(model):
        _names[module] = name
        if module.__dict__.get("_moeopt") is None:
            _decide(module, _top_k(module, model), free_original=free_original, max_tokens=max_tokens)
    status.logger.info(status.summary())
    return status.report()


def release(model: torch.nn.Module) -> None:
    """Drops the packed weights. Modules whose originals were freed cannot run any more."""
    for _, module in experts_modules(model):
        state = module.__dict__.pop("_moeopt", None)
        if state is not None:
            status.forget(ENGINE, _name(module), module)


def experts_modules(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Modules that Transformers' interface decorated, and whose implementation is ours."""
    for name, module in model.named_modules():
        config = getattr(module, "config", None)
        if hasattr(module, "is_transposed") and hasattr(module, "down_proj") and \
                getattr(config, "_experts_implementation", None) == NAME:
            yield name, module


def describe(module: torch.nn.Module, top_k: int) -> Description:
    """The layer that an experts module is. Raises Unsupported with the reason."""
    for attribute, wanted, reason in (("has_gate", True, "its experts have no gate"),
                                      ("has_bias", False, "its experts have a bias"),
                                      ("is_transposed", False, "its weights are transposed"),
                                      ("is_concatenated", True, "gate and up are interleaved")):
        if getattr(module, attribute, wanted) is not wanted:
            raise Unsupported(reason)
    gate = getattr(type(module), "_apply_gate", None)
    if gate is not None and getattr(gate, "__module__", "") != "transformers.integrations.moe":
        raise Unsupported(f"{type(module).__name__} has an activation of its own")
    activation = type(getattr(module, "act_fn", None)).__name__
    if activation not in ("SiLU", "SiLUActivation"):
        raise Unsupported(f"the activation is {activation}; the kernel has SiLU")
    gate_up, down = getattr(module, "gate_up_proj", None), getattr(module, "down_proj", None)
    if not isinstance(gate_up, torch.Tensor) or not isinstance(down, torch.Tensor) or gate_up.dim() != 3:
        raise Unsupported("its weights are not one gate_up_proj and one down_proj tensor")
    if gate_up.device.type == "meta":
        raise Unsupported("its weights are on the meta device")
    dtype = {torch.bfloat16: "bf16", torch.float32: "f32"}.get(gate_up.dtype)
    if dtype is None or (dtype == "f32" and gate_up.device.type != "cpu"):
        raise Unsupported(f"its weights are {gate_up.dtype} on {gate_up.device.type}; the kernel takes bfloat16")
    experts, twice, hidden = gate_up.shape
    description = Description(hidden=hidden, intermediate=twice // 2, experts=experts, top_k=top_k, dtype=dtype)
    description.check()
    return description


def _decide(module: torch.nn.Module, top_k: int, free_original: bool = False,
            max_tokens: int = DEFAULT_MAX_TOKENS) -> _State:
    name = _name(module)
    chosen = settings.mode(named=True)
    try:
        if chosen is settings.Mode.OFF:
            raise Unsupported("MOEOPT_MODE is off")
        layer = MoELayer(describe(module, top_k), module.down_proj.device, name=name, max_tokens=max_tokens)
        _pack(module, layer, free_original)
    except MoeoptError as problem:
        if chosen is settings.Mode.REQUIRE:
            raise NotApplied(f"{name}: {problem} (MOEOPT_MODE=require)") from problem
        used, fallback = _other(module)
        state = _State(None, fallback, freed=False)
        status.declined(ENGINE, name, used, str(problem), module)
        if chosen is not settings.Mode.OFF and str(problem) not in _warned:
            _warned.add(str(problem))
            status.logger.warning("moeopt: %s runs %s instead of the kernel: %s", name, used, problem)
    else:
        state = _State(layer, _other(module)[1], freed=free_original)
        status.applied(ENGINE, name, f"MoELayer {layer.config(1)}", layer, module)
    module.__dict__["_moeopt"] = state
    return state


def _pack(module: torch.nn.Module, layer: MoELayer, free_original: bool) -> None:
    with torch.no_grad():
        gate_up, down = module.gate_up_proj.detach(), module.down_proj.detach()
        if free_original:
            # By way of the host, so that the device never holds both.
            gate_up, down = gate_up.to("cpu", copy=True), down.to("cpu", copy=True)
            for parameter in (module.gate_up_proj, module.down_proj):
                parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)
        layer.pack_experts(gate_up, down)


def _fall_back(module: torch.nn.Module, state: _State, hidden_states: torch.Tensor,
               top_k_index: torch.Tensor, top_k_weights: torch.Tensor) -> torch.Tensor:
    if state.layer is not None:  # a gradient is asked for
        reason = "moeopt is for inference: run under torch.no_grad() or torch.inference_mode()"
        if state.freed or settings.mode(named=True) is settings.Mode.REQUIRE:
            raise ArgumentError(f"{_name(module)}: {reason}")
        if reason not in _warned:
            _warned.add(reason)
            status.logger.warning("moeopt: a gradient is asked for, so Transformers' experts run: %s", reason)
    assert state.fallback is not None
    return state.fallback(module, hidden_states, top_k_index, top_k_weights)


def _other(module: torch.nn.Module) -> tuple[str, Callable[..., torch.Tensor]]:
    """What Transformers would run without us: its name and its function."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    for name in FALLBACKS:
        if name in ALL_EXPERTS_FUNCTIONS:
            return name, ALL_EXPERTS_FUNCTIONS[name]
    raise Unsupported("Transformers has neither of " + ", ".join(FALLBACKS))


def _top_k(module: torch.nn.Module, model: torch.nn.Module) -> int:
    for config in (getattr(module, "config", None), getattr(model, "config", None)):
        for field in ("num_experts_per_tok", "moe_topk", "top_k"):
            value = getattr(config, field, None)
            if isinstance(value, int):
                return value
    raise Unsupported("its config has no num_experts_per_tok")


def _name(module: torch.nn.Module) -> Any:
    return _names.get(module) or f"{type(module).__name__}@{id(module):x}"


register()
