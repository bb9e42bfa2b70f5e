"""A stand-in for the parts of vLLM that the plugin touches, in two styles: "new" (oracles that return lists,
the unquantized one too) and "old" (one class, UnquantizedFusedMoEMethod replaced out of tree).

Written from the interfaces, holds no vLLM code. Needs no torch. Invariant: install() puts modules in sys.modules
and remove() takes every one of them, and what was imported of moeopt's vLLM side, away again.
"""

import dataclasses
import enum
import sys
import types


class Unquantized(enum.Enum):
    TRITON = "TRITON"
    OTHER = "OTHER"


class Fp8(enum.Enum):
    TRITON = "TRITON"
    DEEPGEMM = "DEEPGEMM"


@dataclasses.dataclass
class Parallel:
    enable_eplb: bool = False


@dataclasses.dataclass
class FusedMoEConfig:
    num_experts: int
    experts_per_token: int
    hidden_dim: int
    num_local_experts: int
    intermediate_size_per_partition: int
    in_dtype: object
    activation: object = "silu"
    moe_parallel_config: Parallel = dataclasses.field(default_factory=Parallel)
    device: str = "cpu"
    is_lora_enabled: bool = False
    has_bias: bool = False
    max_num_tokens: int = 512


@dataclasses.dataclass
class QuantConfig:
    quant_dtype: object = None
    weight_quant_dtype: object = None
    block_shape: object = None
    use_fp8_w8a8: bool = False
    w1_scale: object = None
    w2_scale: object = None


class TritonExperts:
    """Counts its calls and leaves a mark in the output, so that a test sees who ran."""

    ran = 0

    def __init__(self, moe_config, quant_config):
        self.moe_config, self.quant_config = moe_config, quant_config

    @staticmethod
    def is_supported_config(cls, moe_config, weight_key, activation_key, activation_format):
        return activation_format == "standard", None if activation_format == "standard" else "the format"

    def workspace_dtype(self, act_dtype):
        return act_dtype

    def workspace_shapes(self, M, N, K, topk, global_num_experts, local_num_experts, expert_tokens_meta, activation):
        return (M, topk, K), (M, topk, N), (M, K)

    def apply(self, output, hidden_states, w1, w2, topk_weights, topk_ids, activation, global_num_experts,
              expert_map, a1q_scale, a2_scale, workspace13, workspace2, expert_tokens_meta,
              apply_router_weight_on_input):
        TritonExperts.ran += 1
        output.fill_(7)


class NewTritonExperts(TritonExperts):
    @property
    def expects_unquantized_inputs(self):
        return False


class OldTritonExperts(TritonExperts):
    @staticmethod
    def expects_unquantized_inputs(moe_config, quant_config):
        return False



class ModularKernel:
    def __init__(self, prepare_finalize, fused_experts):
        self.prepare_finalize, self.fused_experts = prepare_finalize, fused_experts


@dataclasses.dataclass
class NewRequest:
    req_id: str
    prompt_token_ids: list
    num_computed_tokens: int = 0


@dataclasses.dataclass
class SchedulerOutput:
    """One step: {request: tokens} in the batch's order, first positions of those that are not new."""

    num_scheduled_tokens: dict
    scheduled_new_reqs: list = dataclasses.field(default_factory=list)
    positions: dict = dataclasses.field(default_factory=dict)
    finished_req_ids: set = dataclasses.field(default_factory=set)

    @property
    def total_num_scheduled_tokens(self):
        return sum(self.num_scheduled_tokens.values())

    @property
    def scheduled_cached_reqs(self):
        return types.SimpleNamespace(req_ids=list(self.positions), num_computed_tokens=list(self.positions.values()))


class Worker:
    """Its model runs once while it warms up; a step runs `forward`, which a test sets."""

    rank = 0

    def __init__(self, model, vllm_config=None, load=None, forward=None):
        self.model_runner = types.SimpleNamespace(model=model, input_batch=types.SimpleNamespace(req_ids=[]))
        self.vllm_config, self.load, self.forward = vllm_config, load, forward

    def load_model(self):
        if self.load is not None:
            self.model_runner.model = self.load()

    def compile_or_warm_up_model(self):
        for module in self.model_runner.model.moe_layers:
            module.warm_up()
        return "times"

    def execute_model(self, scheduler_output):
        self.model_runner.input_batch.req_ids = list(scheduler_output.num_scheduled_tokens)
        return self.forward(scheduler_output)

    def shutdown(self):
        return "down"


class Capability:
    major, minor = 9, 0


class Platform:
    capability: object = Capability

    def get_device_capability(self):
        return self.capability


class Fake:
    """One installed stand-in; `edit` may change its modules before the plugin looks."""

    def __init__(self, style="new"):
        self.style = style
        self.modules: dict[str, types.ModuleType] = {}
        self.registered: dict[str, type] = {}
        moe = "vllm.model_executor.layers.fused_moe"
        for path in ("vllm", "vllm.v1", "vllm.v1.worker", "vllm.model_executor", "vllm.model_executor.layers",
                     "vllm.model_executor.layers.quantization", "vllm.model_executor.layers.quantization.utils",
                     moe, f"{moe}.oracle"):
            self._module(path)
        self.modules["vllm"].__version__ = "0.0-fake"
        base = NewTritonExperts if style == "new" else OldTritonExperts
        self.triton = type("TritonExperts", (base,), {})  # a test may change it
        if style == "new":
            self._module(f"{moe}.experts")
            self._module(f"{moe}.experts.triton_moe", TritonExperts=self.triton)
        else:
            self._module(f"{moe}.fused_moe", TritonExperts=self.triton)
        self._module(f"{moe}.config", FusedMoEConfig=FusedMoEConfig)
        self._module(f"{moe}.modular_kernel", FusedMoEModularKernel=ModularKernel, FusedMoEKernel=ModularKernel)
        self._module(f"{moe}.oracle.fp8", Fp8MoeBackend=Fp8, backend_to_kernel_cls=self._choose(Fp8))
        if style == "new":
            self._module(f"{moe}.oracle.unquantized", UnquantizedMoeBackend=Unquantized,
                         backend_to_kernel_cls=self._choose(Unquantized))
        else:
            self._module(f"{moe}.oracle.unquantized", UnquantizedMoeBackend=Unquantized,
                         make_unquantized_moe_kernel=self._make_unquantized())
        self._module(f"{moe}.unquantized_fused_moe_method", UnquantizedFusedMoEMethod=self._method())
        self._module("vllm.model_executor.layers.quantization.fp8", Fp8MoEMethod=self._fp8_method())
        self._module("vllm.model_executor.layers.quantization.utils.quant_utils", kFp8Static128BlockSym="block",
                     kFp8Dynamic128Sym="dynamic")
        patched = ("compile_or_warm_up_model", "load_model", "execute_model", "shutdown")
        self._module("vllm.v1.worker.gpu_worker", Worker=type("Worker", (Worker,), {
            name: vars(Worker)[name] for name in patched}))
        self.platform = Platform()
        self._module("vllm.platforms", current_platform=self.platform)

    def _module(self, path, **contents):
        module = types.ModuleType(path)
        module.__path__ = []
        module.__dict__.update(contents)
        self.modules[path] = module
        parent, _, name = path.rpartition(".")
        if parent in self.modules:
            setattr(self.modules[parent], name, module)
        return module

    def _choose(self, kinds):
        def backend_to_kernel_cls(backend):
            if backend != kinds.TRITON:
                other = type("OtherExperts", (TritonExperts,), {})
                return [other] if self.style == "new" else other
            return [self.triton] if self.style == "new" else self.triton
        return backend_to_kernel_cls

    def _make_unquantized(self):
        def make_unquantized_moe_kernel(backend, quant_config, moe_config):
            return ModularKernel("no ep", self.triton(moe_config, quant_config)), True
        return make_unquantized_moe_kernel

    def oracle(self, name):
        return self.modules[f"vllm.model_executor.layers.fused_moe.oracle.{name}"]

    def choose(self, oracle, backend, config, weight_key=None, activation_key=None):
        """What vLLM's selectors do: the first class that says that it supports the configuration."""
        found = self.oracle(oracle).backend_to_kernel_cls(backend)
        reasons = []
        for cls in found if isinstance(found, list) else [found]:
            supported, reason = cls.is_supported_config(cls, config, weight_key, activation_key, "standard")
            if supported:
                return cls, reasons
            reasons.append(reason)
        raise ValueError(reasons)

    def _method(self):
        fake = self

        class UnquantizedFusedMoEMethod:
            def __new__(cls, *arguments):
                return object.__new__(fake.registered.get(cls.__name__, cls))

            def __init__(self, moe):
                self.moe, self.moe_quant_config, self.kernel, self.moe_kernel = moe, QuantConfig(), None, None

            @classmethod
            def register_oot(cls, other=None, name=None):
                assert name not in fake.registered, f"Duplicate op name: {name}"
                fake.registered[name] = other

            def _setup_kernel(self, layer, w13, w2):
                if fake.style == "new":
                    cls, _ = fake.choose("unquantized", Unquantized.TRITON, self.moe)
                    self.moe_kernel = ModularKernel("prepare", cls(self.moe, self.moe_quant_config))
                else:
                    make = fake.oracle("unquantized").make_unquantized_moe_kernel
                    self.kernel, _ = make(Unquantized.TRITON, self.moe_quant_config, self.moe)

            def select_gemm_impl(self, prepare_finalize, layer):
                return fake.triton(self.moe, self.moe_quant_config)

            def process_weights_after_loading(self, layer):
                self._setup_kernel(layer, layer.w13_weight, layer.w2_weight)

        return UnquantizedFusedMoEMethod

    def _fp8_method(self):
        fake = self

        class Fp8MoEMethod:
            def __init__(self, moe):
                self.moe, self.moe_quant_config, self.moe_kernel = moe, None, None

            def process_weights_after_loading(self, layer):
                self.moe_quant_config = QuantConfig("fp8", "fp8", [128, 128], True, layer.w13_scale, layer.w2_scale)
                cls, _ = fake.choose("fp8", Fp8.TRITON, self.moe, "block", "dynamic")
                self.moe_kernel = ModularKernel("prepare", cls(self.moe, self.moe_quant_config))

        return Fp8MoEMethod

    def __enter__(self):
        self.hidden = {name: module for name, module in sys.modules.items()
                       if name == "vllm" or name.startswith("vllm.")}
        for name in self.hidden:
            del sys.modules[name]
        sys.modules.update(self.modules)
        self._forget()
        TritonExperts.ran = 0
        return self

    def __exit__(self, *_):
        for name in [n for n in sys.modules if n == "vllm" or n.startswith("vllm.")]:
            del sys.modules[name]
        sys.modules.update(self.hidden)
        self._forget()

    @staticmethod
    def _forget():
        for name in ("moeopt.vllm_plugin", "moeopt._vllm.install", "moeopt._vllm.contract", "moeopt._vllm"):
            sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            sys.modules.get(parent, sys).__dict__.pop(child, None)  # `from parent import child` looks there first
