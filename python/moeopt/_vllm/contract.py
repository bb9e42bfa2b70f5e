"""What this vLLM offers, found by looking at its functions and their signatures, never at its version.

Invariant: probe() either returns a Contract whose every part was looked at, or raises UnknownContract that
names what is different; nothing is patched on a guess.
"""

import dataclasses
import importlib
import inspect
from types import ModuleType
from typing import Any

from moeopt.errors import MoeoptError

FUSED_MOE = "vllm.model_executor.layers.fused_moe"
# What experts.py overrides, and the arguments that it uses or passes on.
APPLY = ("self", "output", "hidden_states", "w1", "w2", "topk_weights", "topk_ids", "activation",
         "global_num_experts", "expert_map", "a1q_scale", "a2_scale", "workspace13", "workspace2",
         "expert_tokens_meta", "apply_router_weight_on_input")
WORKSPACE_SHAPES = ("self", "M", "N", "K", "topk", "global_num_experts", "local_num_experts",
                    "expert_tokens_meta", "activation")
IS_SUPPORTED = ("cls", "moe_config", "weight_key", "activation_key", "activation_format")
CONFIG_FIELDS = ("num_experts", "experts_per_token", "hidden_dim", "num_local_experts", "activation",
                 "moe_parallel_config", "in_dtype")


class UnknownContract(MoeoptError):
    """This vLLM differs from every one that the plugin was read against; the message says in what."""


@dataclasses.dataclass(frozen=True)
class Contract:
    """What install.py builds on."""

    version: str  # for messages alone
    triton_experts: type
    unquantized_oracle: ModuleType | None  # its backend_to_kernel_cls is wrapped; None: see method
    fp8_oracle: ModuleType | None
    unquantized_method: type | None  # replaced out of tree where the oracle has no such function
    modular_kernel: ModuleType  # fused_moe.modular_kernel
    defer_is_property: bool  # expects_unquantized_inputs: a property, or a static method of two configs
    block_fp8_keys: tuple[Any, Any]
    worker: type


def probe() -> Contract:
    """Looks at the installed vLLM. Raises UnknownContract. No CUDA."""
    import vllm
    version = getattr(vllm, "__version__", "?")
    try:
        return _probe(version)
    except UnknownContract as problem:
        raise UnknownContract(f"vLLM {version}: {problem}") from problem


def _probe(version: str) -> Contract:
    experts = _triton_experts()
    check_signature(experts, "apply", APPLY)
    check_signature(experts, "workspace_shapes", WORKSPACE_SHAPES)
    check_signature(experts, "is_supported_config", IS_SUPPORTED)
    config = _attribute(_module(f"{FUSED_MOE}.config"), "FusedMoEConfig")
    fields = {field.name for field in dataclasses.fields(config)}
    missing = [name for name in CONFIG_FIELDS if name not in fields]
    if missing:
        raise UnknownContract(f"FusedMoEConfig has no {', '.join(missing)}")
    if not {"intermediate_size_per_partition"} & fields:
        raise UnknownContract("FusedMoEConfig has no intermediate_size_per_partition")
    unquantized: ModuleType | None = _module(f"{FUSED_MOE}.oracle.unquantized")
    assert unquantized is not None
    method = None
    if not hasattr(unquantized, "backend_to_kernel_cls"):
        method = _method(unquantized)
        unquantized = None
    else:
        _check_oracle(unquantized, "UnquantizedMoeBackend")
    fp8 = _module(f"{FUSED_MOE}.oracle.fp8")
    _check_oracle(fp8, "Fp8MoeBackend")
    quantisation = _module("vllm.model_executor.layers.quantization.utils.quant_utils")
    keys = (_attribute(quantisation, "kFp8Static128BlockSym"), _attribute(quantisation, "kFp8Dynamic128Sym"))
    defer = inspect.getattr_static(experts, "expects_unquantized_inputs", None)
    if not isinstance(defer, (property, staticmethod)):
        raise UnknownContract("TritonExperts.expects_unquantized_inputs is neither a property nor static")
    worker = _attribute(_module("vllm.v1.worker.gpu_worker"), "Worker")
    check_signature(worker, "compile_or_warm_up_model", ("self",))
    return Contract(version, experts, unquantized, fp8, method, _module(f"{FUSED_MOE}.modular_kernel"),
                    isinstance(defer, property), keys, worker)


def check_signature(owner: type, name: str, wanted: tuple[str, ...]) -> None:
    """The parameters must be exactly these, in order; more are fine when they have defaults."""
    function = _attribute(owner, name)
    found = inspect.signature(function).parameters
    extra = [p.name for p in list(found.values())[len(wanted):]
             if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = tuple(list(found)[:len(wanted)])
    if names != wanted or extra:
        lost = [n for n in wanted if n not in found]
        text = (f"lost {', '.join(lost)}" if lost else f"gained {', '.join(extra)}" if extra else
                f"takes {', '.join(names)}")
        raise UnknownContract(f"{owner.__name__}.{name} {text}; the plugin knows ({', '.join(wanted)})")


def _triton_experts() -> type:
    for path in (f"{FUSED_MOE}.experts.triton_moe", f"{FUSED_MOE}.fused_moe"):
        try:
            found = getattr(importlib.import_module(path), "TritonExperts", None)
        except ModuleNotFoundError as problem:
            if problem.name is not None and (path + ".").startswith(problem.name + "."):
                continue
            raise UnknownContract(f"{path} needs {problem.name}, which is not installed") from problem
        if isinstance(found, type):
            return found
    raise UnknownContract(f"{FUSED_MOE} has no TritonExperts class where the plugin looks for one")


def _check_oracle(oracle: ModuleType, enum: str) -> None:
    function = _attribute(oracle, "backend_to_kernel_cls")
    names = tuple(inspect.signature(function).parameters)
    if names != ("backend",):
        raise UnknownContract(f"{oracle.__name__}.backend_to_kernel_cls takes ({', '.join(names)}); "
                              "the plugin knows (backend)")
    if not hasattr(_attribute(oracle, enum), "TRITON"):
        raise UnknownContract(f"{oracle.__name__}.{enum} has no TRITON")


def _method(oracle: ModuleType) -> type:
    """UnquantizedFusedMoEMethod of the releases whose unquantized oracle does not choose a class."""
    names = tuple(inspect.signature(_attribute(oracle, "make_unquantized_moe_kernel")).parameters)
    if names != ("backend", "quant_config", "moe_config"):
        raise UnknownContract(f"make_unquantized_moe_kernel takes ({', '.join(names)}); "
                              "the plugin knows (backend, quant_config, moe_config)")
    method = _attribute(_module(f"{FUSED_MOE}.unquantized_fused_moe_method"), "UnquantizedFusedMoEMethod")
    check_signature(method, "_setup_kernel", ("self", "layer", "w13", "w2"))
    check_signature(method, "select_gemm_impl", ("self", "prepare_finalize", "layer"))
    _attribute(method, "register_oot")
    return method


def _module(path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as problem:
        raise UnknownContract(f"importing {path}: there is no module {problem.name}") from problem


def _attribute(owner: Any, name: str) -> Any:
    if not hasattr(owner, name):
        raise UnknownContract(f"{getattr(owner, '__name__', owner)} has no {name}")
    return getattr(owner, name)
