"""Puts the experts class in vLLM's way, and checks afterwards that it is really used.

Patched: `backend_to_kernel_cls` of the unquantized and fp8 oracles (a module global each, looked up at every
choice), or UnquantizedFusedMoEMethod by vLLM's own out-of-tree registration where the unquantized oracle
chooses no class; process_weights_after_loading of the two methods, so that weights are packed while they are
loaded; Worker.compile_or_warm_up_model, after which audit() says what became of every layer.
Invariant: under require an engine is not ready before the kernel itself counted a launch of every MoE layer.
"""

import functools
import importlib
from typing import Any

from moeopt import settings, status
from moeopt._vllm import contract as contracts
from moeopt._vllm import experts, log_settings, recorder, routing_log
from moeopt.errors import NotApplied

ENGINE = "vllm"
MOE_CLASSES = ("RoutedExperts", "FusedMoE")  # whose instances own a MoE layer's weights
KERNELS = ("moe_kernel", "kernel", "moe_mk")  # where a method keeps its modular kernel


def install(contract: contracts.Contract, mode: settings.Mode) -> Any:
    """Patches vLLM; returns the experts class."""
    required = mode is settings.Mode.REQUIRE
    ours = experts.make_class(contract.triton_experts, contract.block_fp8_keys, contract.defer_is_property,
                              required)
    for oracle in (contract.unquantized_oracle, contract.fp8_oracle):
        if oracle is not None:
            _wrap_oracle(oracle, ours)
    if contract.unquantized_method is not None:
        _replace_method(contract, ours)
    for path, name in ((f"{contracts.FUSED_MOE}.unquantized_fused_moe_method", "UnquantizedFusedMoEMethod"),
                       ("vllm.model_executor.layers.quantization.fp8", "Fp8MoEMethod")):
        method = getattr(importlib.import_module(path), name, None)
        if method is not None:
            _pack_after_loading(method)
    _audit_after_warm_up(contract.worker, required)
    asked = log_settings.wanted()
    if asked is not None:
        routing_log.attach(contract.worker, asked)
    status.logger.info("moeopt: in vLLM %s, mode %s, through %s", contract.version, mode.value,
                       "the oracles" if contract.unquantized_oracle else "the fp8 oracle and register_oot")
    return ours


def _wrap_oracle(oracle: Any, ours: Any) -> None:
    original = oracle.backend_to_kernel_cls
    triton = next(getattr(oracle, name) for name in ("UnquantizedMoeBackend", "Fp8MoeBackend")
                  if hasattr(oracle, name)).TRITON

    @functools.wraps(original)
    def backend_to_kernel_cls(backend: Any) -> Any:
        found = original(backend)
        if backend != triton:
            return found
        if isinstance(found, list):
            return [ours, *found]
        return _OneOf(ours, found).chosen  # a release that returns one class

    oracle.backend_to_kernel_cls = backend_to_kernel_cls


class _OneOf:
    """One class where the oracle takes no list: ours, which is its parent wherever the kernel refuses."""

    def __init__(self, ours: Any, parent: Any):
        def is_supported_config(cls: Any, moe_config: Any, weight_key: Any, activation_key: Any,
                                activation_format: Any) -> tuple[bool, str | None]:
            supported, _ = ours.is_supported_config(ours, moe_config, weight_key, activation_key,
                                                    activation_format)
            if supported:
                return True, None
            return parent.is_supported_config(parent, moe_config, weight_key, activation_key,
                                              activation_format)
        self.chosen = type(ours.__name__, (ours,), {"is_supported_config": staticmethod(is_supported_config)})


def _replace_method(contract: contracts.Contract, ours: Any) -> None:
    """Releases before the unquantized oracle chose a class: vLLM's own out-of-tree registration."""
    parent: Any = contract.unquantized_method
    modular = contract.modular_kernel

    class UnquantizedFusedMoEMethod(parent):  # the name is the key that vLLM looks up
        kernel: Any

        def _setup_kernel(self, layer: Any, w13: Any, w2: Any) -> None:
            super()._setup_kernel(layer, w13, w2)
            stock = getattr(self.kernel, "fused_experts", None)
            if type(stock) is contract.triton_experts:
                chosen = ours(moe_config=self.moe, quant_config=self.moe_quant_config)
                if chosen.moeopt.reason is None:
                    self.kernel = modular.FusedMoEModularKernel(self.kernel.prepare_finalize, chosen)

        def select_gemm_impl(self, prepare_finalize: Any, layer: Any) -> Any:
            stock = super().select_gemm_impl(prepare_finalize, layer)
            if type(stock) is not contract.triton_experts:
                return stock
            chosen = ours(moe_config=self.moe, quant_config=self.moe_quant_config)
            return chosen if chosen.moeopt.reason is None else stock

    UnquantizedFusedMoEMethod.__qualname__ = parent.__qualname__
    parent.register_oot(UnquantizedFusedMoEMethod, name=parent.__name__)


def experts_of(method: Any) -> Any:
    """The experts object of a layer's quantisation method; None where it has no modular kernel."""
    for name in KERNELS:
        found = getattr(getattr(method, name, None), "fused_experts", None)
        if found is not None:
            return found
    return None


def _pack_after_loading(method: Any) -> None:
    original = method.process_weights_after_loading

    @functools.wraps(original)
    def process_weights_after_loading(self: Any, layer: Any) -> Any:
        result = original(self, layer)
        found = experts_of(self)
        if getattr(found, "moeopt", None) is not None:
            found.process_weights_after_loading(layer)
        return result

    method.process_weights_after_loading = process_weights_after_loading


def moe_modules(model: Any) -> list[tuple[str, Any]]:
    """Every module of a model that owns a MoE layer's weights: (name, module)."""
    found = []
    for name, module in model.named_modules():
        classes = {cls.__name__ for cls in type(module).__mro__}
        if classes & set(MOE_CLASSES) and getattr(module, "quant_method", None) is not None:
            found.append((getattr(module, "layer_name", name), module))
    return found


def audit(model: Any, required: bool) -> list[status.LayerStatus]:
    """Says of every MoE layer of a loaded and warmed-up model what runs it. Raises NotApplied under require."""
    for name, module in moe_modules(model):
        found = experts_of(module.quant_method)
        kernel = getattr(found, "moeopt", None)
        if kernel is not None and kernel.reason is None and kernel.layer is not None:
            kernel.layer.name = name
            status.applied(ENGINE, name, type(found).__name__, kernel.layer, module)
            continue
        used = type(found if found is not None else module.quant_method).__name__
        if kernel is not None:
            reason = kernel.reason or "it has not run yet"
        else:
            reason = f"vLLM chose {used}"
        status.declined(ENGINE, name, used, reason, module)
    layers = [layer for layer in status.report() if layer.engine == ENGINE]
    status.logger.info("%s", status.summary())
    if required:
        bad = [layer for layer in layers if layer.state != status.APPLIED or layer.launches == 0]
        if bad or not layers:
            text = "; ".join(f"{layer.name}: {layer.reason or 'the kernel counted no launch'}"
                             for layer in bad[:3]) or "the model has no MoE layer that vLLM's plugin knows"
            raise NotApplied(f"{len(bad)} of {len(layers)} MoE layers do not run the kernel ({text}; "
                             "MOEOPT_MODE=require)")
    return layers


def _audit_after_warm_up(worker: Any, required: bool) -> None:
    original = worker.compile_or_warm_up_model

    @functools.wraps(original)
    def compile_or_warm_up_model(self: Any) -> Any:
        result = original(self)
        audit(self.model_runner.model, required)
        return result

    def moeopt_status(self: Any) -> dict[str, Any]:
        """For collective_rpc("moeopt_status"): this rank's layers and counters."""
        log = recorder.active
        return {"rank": getattr(self, "rank", 0), **status.as_dict(),
                "routing_log": None if log is None else log.report()}

    worker.compile_or_warm_up_model = compile_or_warm_up_model
    worker.moeopt_status = moeopt_status
