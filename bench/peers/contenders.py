"""Ours and the peers behind one call: out = contender(call), eager or while a graph is captured.

Every contender is given the same calls; each does its own routing, unless the shape gives the ids.
The peers' code is theirs, unmodified.
"""

import os

import torch

import library


class Ours:
    dtypes = ("bf16", "fp8")

    def __init__(self, lib, shape, dtype, copies, shared):
        self.name = f"moeopt {lib.version()}"
        self.lib, self.shape, self.shared = lib, shape, shared
        self.desc = dict(hidden=shape.hidden, intermediate=shape.intermediate, experts=shape.experts,
                         top_k=shape.top_k, dtype=library.BF16 if dtype == "bf16" else library.FP8,
                         renormalise=int(shape.renormalise), shared_intermediate=shape.shared,
                         shared_gate=int(shape.shared > 0))
        self.layers = {}
        layer = self.layer(1)
        self.packed = [layer.pack_experts(w.w1, w.w2, w.s1, w.s2) for w in copies]
        self.packed_shared = [layer.pack_shared(*shared[:3]) for _ in copies] if shared else None

    def layer(self, tokens):
        if tokens not in self.layers:
            self.layers[tokens] = library.Layer(self.lib, max_tokens=tokens, **self.desc)
        return self.layers[tokens]

    def __call__(self, call):
        out = torch.full_like(call.x, float("nan")) if not torch.cuda.is_current_stream_capturing() \
            else torch.empty_like(call.x)
        routed = dict(ids=call.ids, weights=call.weights) if self.shape.given_ids else \
            dict(router=call.router)
        if self.shared:
            routed |= dict(shared=self.packed_shared[call.copy], shared_gate=self.shared[3])
        return self.layer(call.x.shape[0]).forward(call.x, out, self.packed[call.copy], **routed)


class TorchGrouped:
    dtypes = ("bf16",)

    def __init__(self, shape, copies):
        self.name = f"torch {torch.__version__} _grouped_mm"
        self.shape = shape
        self.weights = [(w.w1.transpose(1, 2), w.w2.transpose(1, 2)) for w in copies]

    def route(self, call):
        if self.shape.given_ids:
            return call.ids, call.weights
        scores = torch.softmax(torch.nn.functional.linear(call.x, call.router).float(), -1)
        weights, ids = torch.topk(scores, self.shape.top_k, dim=-1)
        return ids, weights / weights.sum(-1, keepdim=True) if self.shape.renormalise else weights

    def __call__(self, call):
        ids, weights = self.route(call)
        w1, w2 = self.weights[call.copy]
        flat = ids.reshape(-1).long()
        order = flat.argsort(stable=True)
        token = order // self.shape.top_k
        counts = torch.zeros(self.shape.experts, device="cuda", dtype=torch.int32)
        ends = counts.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32)).cumsum(0)
        ends = ends.to(torch.int32)
        gate, up = torch._grouped_mm(call.x[token], w1, ends).chunk(2, -1)
        rows = torch._grouped_mm(torch.nn.functional.silu(gate) * up, w2, ends)
        out = torch.zeros(call.x.shape, device="cuda")
        return out.index_add_(0, token, rows * weights.reshape(-1)[order, None]).to(call.x.dtype)


class Vllm:
    """What vLLM's peers share: its router."""

    def __init__(self, shape):
        from vllm.model_executor.layers.fused_moe.router.fused_topk_router import fused_topk
        self.shape, self.fused_topk = shape, fused_topk

    def route(self, call):
        if self.shape.given_ids:
            return call.weights, call.ids
        logits = torch.nn.functional.linear(call.x, call.router)
        return self.fused_topk(call.x, logits, self.shape.top_k, self.shape.renormalise)[:2]


class VllmTriton(Vllm):
    dtypes = ("bf16", "fp8")

    def __init__(self, shape, copies):
        super().__init__(shape)
        import vllm
        from vllm.model_executor.layers.fused_moe.config import fp8_w8a8_moe_quant_config
        from vllm.model_executor.layers.fused_moe.fused_moe import fused_experts
        self.name = f"vLLM {vllm.__version__} Triton"
        self.fused_experts, self.copies = fused_experts, copies
        self.options = [{} if w.s1 is None else dict(quant_config=fp8_w8a8_moe_quant_config(
            w1_scale=w.s1, w2_scale=w.s2, block_shape=[128, 128])) for w in copies]

    def __call__(self, call):
        w = self.copies[call.copy]
        return self.fused_experts(call.x, w.w1, w.w2, *self.route(call), **self.options[call.copy])


class DeepGemm(Vllm):
    dtypes = ("fp8",)

    def __init__(self, shape, copies):
        super().__init__(shape)
        import vllm
        from vllm.model_executor.layers.fused_moe.activation import MoEActivation
        from vllm.model_executor.layers.fused_moe.config import (
            FusedMoEConfig, FusedMoEParallelConfig, RoutingMethodType, fp8_w8a8_moe_quant_config)
        from vllm.model_executor.layers.fused_moe.experts.deep_gemm_moe import DeepGemmExperts
        from vllm.model_executor.layers.fused_moe.oracle.fp8 import Fp8MoeBackend, make_fp8_moe_kernel
        self.name = f"DeepGEMM in vLLM {vllm.__version__}"
        self.copies, self.silu = copies, MoEActivation.SILU
        config = FusedMoEConfig(
            num_experts=shape.experts, experts_per_token=shape.top_k, hidden_dim=shape.hidden,
            intermediate_size=shape.intermediate, num_local_experts=shape.experts,
            num_logical_experts=shape.experts, activation=MoEActivation.SILU, device="cuda",
            routing_method=RoutingMethodType.Renormalize,
            moe_parallel_config=FusedMoEParallelConfig.make_no_parallel(), in_dtype=torch.bfloat16,
            max_num_tokens=16384)
        self.kernels = [make_fp8_moe_kernel(
            fp8_w8a8_moe_quant_config(w1_scale=w.s1, w2_scale=w.s2, block_shape=[128, 128]), config,
            DeepGemmExperts, Fp8MoeBackend.DEEPGEMM) for w in copies]

    def __call__(self, call):
        w = self.copies[call.copy]
        return self.kernels[call.copy].apply(call.x, w.w1, w.w2, *self.route(call), self.silu,
                                             self.shape.experts, None, False)


PEERS = {"torch": TorchGrouped, "triton": VllmTriton, "deepgemm": DeepGemm}


def enter_vllm():
    """vLLM's ambient state; returns what must be kept alive. Raises ImportError where it is not."""
    # DeepGEMM with float32 scales, as the weights have them, not rounded up to powers of two.
    os.environ.setdefault("VLLM_USE_DEEP_GEMM_E8M0", "0")
    from vllm.config import VllmConfig, set_current_vllm_config
    context = set_current_vllm_config(VllmConfig())
    context.__enter__()
    from vllm.v1.worker.workspace import init_workspace_manager
    init_workspace_manager(torch.device("cuda"))
    return context
