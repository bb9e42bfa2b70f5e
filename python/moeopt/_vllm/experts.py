"""The experts class that vLLM's oracle chooses: its own Triton experts, with apply() run by the kernel.

A subclass, so that whatever vLLM adds to the interface is inherited. An instance whose configuration the
kernel refuses is exactly its parent. Bound to the TRITON slot, whose weights stay as the checkpoint has
them: w13 [E, 2I, H] (gate first) and w2 [E, H, I].
Invariant: an instance with a `moeopt_layer` never runs its parent's apply(); once packed, the layer's w13
and w2 are views of packed memory (right in shape, meaningless as numbers), so nothing is stored twice.
"""

import logging
from typing import Any

import torch

from moeopt._vllm import recorder
from moeopt.describe import Description
from moeopt.errors import MoeoptError, NotApplied, Unsupported
from moeopt.layer import DEFAULT_MAX_TOKENS, MoELayer

logger = logging.getLogger("moeopt")
SILU = ("silu", "SILU")


def refusal(moe_config: Any, dtype: str | None, check_device: bool = True) -> str | None:
    """Why the kernel does not take a layer with this FusedMoEConfig; None: it does."""
    if dtype is None:
        return "the kernel takes bf16, and fp8 with 128x128 blocks, no other quantisation"
    if moe_config.in_dtype != torch.bfloat16:
        return f"activations are {moe_config.in_dtype}; the kernel takes bfloat16"
    activation = moe_config.activation
    if str(getattr(activation, "value", activation)) not in SILU:
        return f"the activation is {activation}; the kernel has SiLU"
    if not getattr(moe_config, "is_act_and_mul", True):
        return "its experts have no gate"
    for field in ("swiglu_limit", "swiglu_alpha", "swiglu_beta"):
        if getattr(moe_config, field, None) is not None:
            return f"{field} is set"
    if getattr(moe_config, "has_bias", False):
        return "its experts have a bias"
    if getattr(moe_config, "is_lora_enabled", False):
        return "LoRA is enabled"
    parallel = moe_config.moe_parallel_config
    if getattr(parallel, "enable_eplb", False):
        return "expert load balancing (EPLB) moves weights, and packed ones cannot be moved by it"
    if moe_config.hidden_dim != (getattr(moe_config, "hidden_dim_unpadded", None) or moe_config.hidden_dim):
        return "the hidden size is padded"
    try:
        describe(moe_config, dtype).check()
    except MoeoptError as problem:
        return str(problem)
    if check_device:
        from vllm.platforms import current_platform
        capability = current_platform.get_device_capability()
        if capability is None or (capability.major, capability.minor) != (9, 0):
            return f"the device has compute capability {capability}; the kernel needs 9.0 (Hopper)"
    return None


def describe(moe_config: Any, dtype: str) -> Description:
    """The layer of one rank."""
    local = moe_config.num_local_experts
    return Description(hidden=moe_config.hidden_dim, intermediate=moe_config.intermediate_size_per_partition,
                       experts=moe_config.num_experts, slots=0 if local == moe_config.num_experts else local,
                       top_k=moe_config.experts_per_token, dtype=dtype)


def dtype_of(quant_config: Any) -> str | None:
    """"bf16" or "fp8" of a FusedMoEQuantConfig, None for another scheme."""
    if getattr(quant_config, "quant_dtype", None) is None and \
            getattr(quant_config, "weight_quant_dtype", None) is None:
        return "bf16"
    blocks = getattr(quant_config, "block_shape", None)
    if getattr(quant_config, "use_fp8_w8a8", False) and blocks is not None and list(blocks) == [128, 128]:
        return "fp8"
    return None


class Kernel:
    """One layer's part of the work, apart from vLLM's class so that it can be tested without it."""

    def __init__(self, moe_config: Any, quant_config: Any):
        self.moe_config, self.quant_config = moe_config, quant_config
        self.dtype = dtype_of(quant_config)
        self.layer: MoELayer | None = None
        self.name = ""
        self.log: recorder.Buffers | None = None
        self.reason = self._refusal()

    def _refusal(self) -> str | None:
        for field in ("gemm1_clamp_limit", "w1_bias", "w2_bias"):
            if getattr(self.quant_config, field, None) is not None:
                return f"{field} is set"
        return refusal(self.moe_config, self.dtype)

    def get(self, device: torch.device | str | None = None) -> MoELayer:
        """The layer, made at the first call."""
        if self.layer is None:
            assert self.dtype is not None
            limit = int(getattr(self.moe_config, "max_num_tokens", 0) or 0)
            device = device or getattr(self.moe_config, "device", None) or "cuda"
            self.layer = MoELayer(describe(self.moe_config, self.dtype), device,
                                  max_tokens=max(DEFAULT_MAX_TOKENS, min(limit, 65536)),
                                  name=self.name or "vllm layer")
        return self.layer

    def pack(self, w13: torch.Tensor, w2: torch.Tensor) -> None:
        """Packs the weights and makes w13 and w2 views of the packed memory."""
        layer = self.get(w13.device)
        if layer.packed is not None:
            return
        if recorder.active is not None:
            self.log = recorder.active.buffers(self.name, layer.description.experts, layer.description.top_k,
                                               layer.device)
        scales = (None, None)
        if self.dtype == "fp8":
            scales = (self.quant_config.w1_scale, self.quant_config.w2_scale)
            if any(s is None or s.dtype != torch.float32 for s in scales):
                raise Unsupported("fp8 weights need float32 scales")
        with torch.no_grad():
            layer.pack_experts(w13.detach(), w2.detach(), *scales)
            assert layer.packed is not None
            flat = layer.packed.view(-1)
            at = 0
            for weight in (w13, w2):
                size = weight.numel() * weight.element_size()
                weight.data = flat[at:at + size].view(weight.dtype).view(weight.shape)
                at += size
        if layer.packed.is_cuda:
            # The originals were two pieces, which the next layer's one piece does not fit into: kept by
            # torch's allocator, all of them would be there twice at the end of loading.
            torch.cuda.empty_cache()

    def scratch_elements(self, tokens: int, dtype: torch.dtype) -> int:
        bytes_ = self.get().scratch_bytes(tokens)
        return (bytes_ + dtype.itemsize - 1) // dtype.itemsize

    def run(self, output: torch.Tensor, hidden_states: torch.Tensor, topk_weights: torch.Tensor,
            topk_ids: torch.Tensor, expert_map: torch.Tensor | None, scratch: torch.Tensor | None,
            weights_applied: bool) -> None:
        layer = self.get(hidden_states.device)
        if weights_applied:  # to the input, where top_k is 1
            topk_weights = torch.ones_like(topk_weights)
        if scratch is not None:
            scratch = scratch.view(-1).view(torch.uint8)
            if scratch.data_ptr() % 128 or scratch.numel() < layer.scratch_bytes(hidden_states.shape[0]):
                scratch = None
        begin, end = output.data_ptr(), output.data_ptr() + output.numel() * output.element_size()
        if begin < hidden_states.data_ptr() + hidden_states.numel() * 2 and hidden_states.data_ptr() < end:
            hidden_states = hidden_states.clone()  # vLLM may let the output take the input's place
        tokens = hidden_states.shape[0]
        used = (None, None)
        if self.log is not None and tokens <= len(self.log.ids):
            used = (self.log.ids[:tokens], self.log.weights[:tokens])
        layer.forward(hidden_states, output, ids=topk_ids, weights=topk_weights, expert_map=expert_map,
                      scratch=scratch, out_ids=used[0], out_weights=used[1])


def make_class(parent: Any, block_fp8_keys: tuple[Any, Any], defer_is_property: bool, required: bool,
               on_choice: Any = None) -> type:
    """The experts class over vLLM's TritonExperts. on_choice(applied, reason): told of every decision."""

    class MoeoptExperts(parent):  # type: ignore[misc, valid-type]
        """vLLM's Triton experts with the expert products, the activation and the combination in one kernel."""

        def __init__(self, moe_config: Any, quant_config: Any, *arguments: Any, **named: Any):
            super().__init__(moe_config, quant_config, *arguments, **named)
            self.moeopt = Kernel(moe_config, quant_config)

        @staticmethod
        def is_supported_config(cls: Any, moe_config: Any, weight_key: Any, activation_key: Any,
                                activation_format: Any) -> tuple[bool, str | None]:
            dtype = "bf16" if weight_key is None and activation_key is None else (
                "fp8" if (weight_key, activation_key) == block_fp8_keys else None)
            reason = refusal(moe_config, dtype)
            if reason is None:
                supported, reason = parent.is_supported_config(cls, moe_config, weight_key, activation_key,
                                                               activation_format)
                reason = None if supported else f"vLLM: {reason}"
            if on_choice is not None:
                on_choice(reason)
            if reason is not None and required:
                raise NotApplied(f"moeopt does not take this model's MoE layers: {reason} "
                                 "(MOEOPT_MODE=require)")
            return reason is None, None if reason is None else f"moeopt: {reason}"

        def process_weights_after_loading(self, layer: Any) -> None:
            """Called by vLLM, or by install.py for releases that do not."""
            if self.moeopt.reason is not None:
                return
            self.moeopt.name = getattr(layer, "layer_name", "") or self.moeopt.name
            self.moeopt.pack(layer.w13_weight, layer.w2_weight)

        def workspace_shapes(self, M: int, N: int, K: int, topk: int, global_num_experts: int,
                             local_num_experts: int, expert_tokens_meta: Any,
                             activation: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
            if self.moeopt.reason is not None:
                return super().workspace_shapes(M, N, K, topk, global_num_experts, local_num_experts,
                                                expert_tokens_meta, activation)
            # workspace13 may hold the output while we run, so that scratch is workspace2.
            dtype = self.workspace_dtype(self.moeopt.moe_config.in_dtype)
            return (0,), (self.moeopt.scratch_elements(M, dtype),), (M, K)

        def apply(self, output: torch.Tensor, hidden_states: torch.Tensor, w1: torch.Tensor,
                  w2: torch.Tensor, topk_weights: torch.Tensor, topk_ids: torch.Tensor, activation: Any,
                  global_num_experts: int, expert_map: torch.Tensor | None,
                  a1q_scale: torch.Tensor | None, a2_scale: torch.Tensor | None,
                  workspace13: torch.Tensor, workspace2: torch.Tensor, expert_tokens_meta: Any,
                  apply_router_weight_on_input: bool) -> Any:
            if self.moeopt.reason is not None:
                return super().apply(output, hidden_states, w1, w2, topk_weights, topk_ids, activation,
                                     global_num_experts, expert_map, a1q_scale, a2_scale, workspace13,
                                     workspace2, expert_tokens_meta, apply_router_weight_on_input)
            if getattr(self, "post_gemm2_hook", None) is not None:
                raise Unsupported("a post_gemm2_hook is set; the kernel combines its rows itself")
            if a1q_scale is not None:
                raise Unsupported("the input comes quantised; the kernel quantises it itself")
            self.moeopt.pack(w1, w2)  # does nothing once done
            self.moeopt.run(output, hidden_states, topk_weights, topk_ids, expert_map, workspace2,
                            apply_router_weight_on_input)
            return None

    if defer_is_property:
        def defers(self: Any) -> bool:
            return self.moeopt.reason is None or parent.expects_unquantized_inputs.fget(self)
        MoeoptExperts.expects_unquantized_inputs = property(defers)
    else:
        def defers_static(moe_config: Any, quant_config: Any) -> bool:
            return Kernel(moe_config, quant_config).reason is None or \
                parent.expects_unquantized_inputs(moe_config, quant_config)
        MoeoptExperts.expects_unquantized_inputs = staticmethod(defers_static)
    return MoeoptExperts
