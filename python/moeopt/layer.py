"""MoELayer: one layer's packed weights on a device, and the call that runs it.

Owns the packed experts and, per stream, the layer's *control*: what the kernel keeps between launches,
its counters first. Scratch comes from torch's allocator at each call, so that streams, CUDA graphs and
memory statistics work as for any torch operation. No autograd, no dispatcher: ops.py adds those.
Invariant: on a GPU one call is one kernel launch per max_tokens tokens, counted by the kernel itself;
nothing here synchronises with the device but counters().
"""

import itertools
import os
import weakref

import torch

from moeopt import reference, settings
from moeopt._call import Call, Counters, aligned, check_shape, readable
from moeopt._cpu import CpuBackend
from moeopt._cuda import CudaBackend, check_device
from moeopt._library import tokens_within
from moeopt.describe import Description
from moeopt.errors import ArgumentError, MoeoptError, Unsupported

__all__ = ["Counters", "DEFAULT_MAX_TOKENS", "MoELayer", "find"]

DEFAULT_MAX_TOKENS = 8192
_keys = itertools.count(1)
_layers: "weakref.WeakValueDictionary[int, MoELayer]" = weakref.WeakValueDictionary()


def find(key: int) -> "MoELayer":
    """The layer with this key. Raises ArgumentError when it is gone."""
    layer = _layers.get(key)
    if layer is None:
        raise ArgumentError(f"no MoE layer {key} in this process: it was deleted, or made in another one")
    return layer


class MoELayer:
    """A MoE layer on one device.

    description: what it is; device: a Hopper GPU, or the CPU (right and slow).
    max_tokens: of one launch, 1 .. 65536; more tokens run in several launches, with the same bits.
    scratch_limit: bytes that scratch and a control of one launch take together at most; lowers max_tokens to what
    they hold. Of no effect on the CPU.
    name: for reports. poison: router weights become NaN (default: MOEOPT_POISON).
    Raises Unsupported for a description or a device that the kernel does not take.
    """

    def __init__(self, description: Description, device: torch.device | str = "cuda", *,
                 max_tokens: int = DEFAULT_MAX_TOKENS, scratch_limit: int | None = None, name: str = "",
                 poison: bool | None = None):
        description.check()
        if not 1 <= max_tokens <= 65536:
            raise ArgumentError(f"max_tokens is {max_tokens}; it must be 1 .. 65536")
        self.description, self.max_tokens = description, max_tokens
        self.poison = settings.poison() if poison is None else poison
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.pid = os.getpid()
        self.key = next(_keys)
        self.name = name or f"layer {self.key}"
        self.packed: torch.Tensor | None = None  # [slots, expert_bytes] uint8
        self.packed_shared: torch.Tensor | None = None
        self._backend: CudaBackend | CpuBackend
        if self.device.type == "cuda":
            check_device(self.device)
            if scratch_limit is not None:
                self.max_tokens = tokens_within(description.fields(max_tokens), scratch_limit)
            self._backend = CudaBackend(self)
        elif self.device.type == "cpu":
            self._backend = CpuBackend(self)
        else:
            raise Unsupported(f"device {self.device}: moeopt runs on Hopper GPUs and, slowly, on the CPU")
        _layers[self.key] = self

    @property
    def expert_bytes(self) -> int:
        """Of one packed expert."""
        return self._backend.expert_bytes

    def scratch_bytes(self, tokens: int) -> int:
        """Scratch of a call with so many tokens: what `scratch` of forward() must hold; 0 on the CPU."""
        return self._backend.scratch_bytes(min(tokens, self.max_tokens))

    def config(self, tokens: int) -> str:
        """The kernel's configuration for so many tokens, "bf16 m128 n32"; "torch" on the CPU."""
        return self._backend.config(min(tokens, self.max_tokens))

    # --- packing -------------------------------------------------------------------------------

    def allocate(self) -> torch.Tensor:
        """Memory for the packed experts, [slots, expert_bytes] uint8, not yet packed."""
        if self.packed is None:
            self.packed = torch.empty(self.description.local_experts, self.expert_bytes,
                                      dtype=torch.uint8, device=self.device)
        return self.packed

    def pack_expert(self, slot: int, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor,
                    gate_scale: torch.Tensor | None = None, up_scale: torch.Tensor | None = None,
                    down_scale: torch.Tensor | None = None) -> None:
        """Packs one expert: gate, up [I, H] and down [H, I] on the layer's device; rows may be strided.

        A bf16 layer takes bf16; an fp8 layer e4m3 with float32 scales [I/128, H/128], [H/128, I/128], or
        bf16, which is quantised per 128 x 128 block. An f32 layer takes float32.
        """
        if not 0 <= slot < self.description.local_experts:
            raise ArgumentError(f"slot is {slot}; the layer has {self.description.local_experts}")
        expert = reference.Expert(gate, up, down, gate_scale, up_scale, down_scale)
        self._check_expert(expert, self.description.intermediate)
        self._backend.pack(expert, self.allocate()[slot], shared=False)

    def pack_experts(self, gate_up: torch.Tensor, down: torch.Tensor,
                     gate_up_scale: torch.Tensor | None = None,
                     down_scale: torch.Tensor | None = None) -> None:
        """Packs all: gate_up [slots, 2I, H], the gate's rows first, and down [slots, H, I], on any device.

        What lies elsewhere than the layer comes over one expert at a time.
        """
        d = self.description
        check_shape("gate_up", gate_up, (d.local_experts, 2 * d.intermediate, d.hidden))
        check_shape("down", down, (d.local_experts, d.hidden, d.intermediate))
        self.allocate()
        for slot in range(d.local_experts):
            gate, up = gate_up[slot].to(self.device).chunk(2)
            scales: list[torch.Tensor | None] = [None] * 3
            if gate_up_scale is not None and down_scale is not None:
                scales = [s.contiguous() for s in
                          (*gate_up_scale[slot].to(self.device).chunk(2), down_scale[slot].to(self.device))]
            self.pack_expert(slot, gate, up, down[slot].to(self.device), *scales)
            del gate, up, scales  # before the next one comes: never two on the way

    def pack_shared(self, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor,
                    gate_scale: torch.Tensor | None = None, up_scale: torch.Tensor | None = None,
                    down_scale: torch.Tensor | None = None) -> None:
        """Packs the shared expert: as pack_expert, with I the shared_intermediate."""
        if not self.description.shared_intermediate:
            raise ArgumentError("the layer has no shared expert")
        expert = reference.Expert(gate, up, down, gate_scale, up_scale, down_scale)
        self._check_expert(expert, self.description.shared_intermediate)
        self.packed_shared = torch.empty(self._backend.shared_bytes, dtype=torch.uint8, device=self.device)
        self._backend.pack(expert, self.packed_shared, shared=True)

    # --- running -------------------------------------------------------------------------------

    def forward(self, x: torch.Tensor, out: torch.Tensor | None = None, *,
                ids: torch.Tensor | None = None, weights: torch.Tensor | None = None,
                router: torch.Tensor | None = None, correction_bias: torch.Tensor | None = None,
                shared_gate: torch.Tensor | None = None, expert_map: torch.Tensor | None = None,
                experts: torch.Tensor | None = None, shared: torch.Tensor | None = None,
                scratch: torch.Tensor | None = None, out_ids: torch.Tensor | None = None,
                out_weights: torch.Tensor | None = None) -> torch.Tensor:
        """Runs the layer on x [T, H]: [T, H], `out` when given (must not overlap x).

        Either ids [T, k] (int32 or int64, global; below 0 or from E on: no expert in this slot) with
        weights [T, k] (any floating dtype), or router [E, H] bf16 with an optional correction_bias [E]
        float32. shared_gate [H] bf16 when the layer has one. expert_map [E] int32: global id -> slot,
        -1: not here. experts, shared: other packed weights than the layer's own. scratch: at least
        scratch_bytes(T) bytes, aligned to 128; None: from torch's allocator. out_ids, out_weights [T, k]
        int32 and float32, dense: receive the decision that the kernel used, -1 where no expert is in a slot.
        Rows of x may be strided; a layout that the kernel does not read is copied first.
        T = 0 launches nothing. Inference only: raises ArgumentError where a gradient is asked for.
        """
        if os.getpid() != self.pid and self.device.type == "cuda":
            raise MoeoptError(f"{self.name} was made before this process forked; CUDA does not survive a "
                              "fork: make the layer in the child, or start it by spawn")
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in
                                           (x, weights, router, shared_gate)):
            raise ArgumentError("moeopt is for inference: it has no gradient. Run under torch.no_grad() or "
                                "torch.inference_mode(), or train with another experts implementation")
        call = self._checked(x, out, ids, weights, router, correction_bias, shared_gate, expert_map,
                             experts, shared)
        for name, used, dtype in (("out_ids", out_ids, torch.int32), ("out_weights", out_weights, torch.float32)):
            if used is not None:
                check_shape(name, used, (x.shape[0], self.description.top_k))
                if not self._check(name, used, dtype).is_contiguous():
                    raise ArgumentError(f"{name} must be dense")
        call.out_ids, call.out_weights = out_ids, out_weights
        if x.shape[0] == 0:
            return call.out
        for start in range(0, x.shape[0], self.max_tokens):
            self._backend.run(call.part(start, start + self.max_tokens), scratch)
        return call.finish(out)

    def counters(self) -> Counters:
        """What the kernel counted since the layer was made; waits for the device. Not while a graph is captured."""
        return self._backend.counters()

    def _checked(self, x: torch.Tensor, out: torch.Tensor | None, ids: torch.Tensor | None,
                 weights: torch.Tensor | None, router: torch.Tensor | None,
                 correction_bias: torch.Tensor | None, shared_gate: torch.Tensor | None,
                 expert_map: torch.Tensor | None, experts: torch.Tensor | None,
                 shared: torch.Tensor | None) -> "Call":
        d = self.description
        activation = torch.float32 if d.dtype == "f32" else torch.bfloat16
        if x.dim() != 2 or x.shape[1] != d.hidden:
            raise ArgumentError(f"x is {list(x.shape)}; it must be [tokens, {d.hidden}]")
        tokens = x.shape[0]
        self._check("x", x, activation)
        if out is None:
            out = torch.empty(tokens, d.hidden, dtype=activation, device=self.device)
        else:
            check_shape("out", out, (tokens, d.hidden))
            self._check("out", out, activation)
            if not readable(out):
                raise ArgumentError("out must have rows of stride 1 that start on 16 bytes")
        experts = self.packed if experts is None else experts
        shared = self.packed_shared if shared is None else shared
        if experts is None:
            raise ArgumentError(f"{self.name} has no experts yet: call pack_experts first")
        check_shape("experts", experts, (d.local_experts, self.expert_bytes))
        self._check("experts", experts, torch.uint8)
        if d.shared_intermediate and shared is None:
            raise ArgumentError(f"{self.name} has no shared expert yet: call pack_shared first")
        if (shared_gate is not None) != d.shared_gate:
            raise ArgumentError("shared_gate is missing" if d.shared_gate else
                                "shared_gate is given, but the layer has none")
        if shared_gate is not None:
            check_shape("shared_gate", shared_gate, (d.hidden,))
            shared_gate = aligned(self._check("shared_gate", shared_gate, activation))
        if (router is None) == (ids is None):
            raise ArgumentError("give either router, or ids and weights")
        if router is not None:
            check_shape("router", router, (d.experts, d.hidden))
            router = aligned(self._check("router", router, activation))
            if correction_bias is not None:
                check_shape("correction_bias", correction_bias, (d.experts,))
                correction_bias = aligned(self._check("correction_bias", correction_bias, torch.float32))
            if weights is not None:
                raise ArgumentError("weights are given without ids")
            if self.poison:
                router = torch.full_like(router, torch.nan)
        else:
            assert ids is not None
            if weights is None or correction_bias is not None:
                raise ArgumentError("ids come with weights and without correction_bias")
            ids, weights = self._given(tokens, ids, weights)
        if expert_map is not None:
            check_shape("expert_map", expert_map, (d.experts,))
            expert_map = aligned(self._check("expert_map", expert_map, torch.int32))
        elif d.local_experts < d.experts:
            raise ArgumentError(f"expert_map is missing, but {self.name} has {d.local_experts} slots for "
                                f"{d.experts} experts")
        return Call(x if readable(x) else aligned(x), out, experts, shared, router, correction_bias,
                     shared_gate, ids, weights, expert_map)

    def _given(self, tokens: int, ids: torch.Tensor,
               weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (tokens, self.description.top_k)
        check_shape("ids", ids, shape)
        check_shape("weights", weights, shape)
        if ids.dtype not in (torch.int32, torch.int64):
            raise ArgumentError(f"ids is {ids.dtype}; it must be int32 or int64")
        if not weights.is_floating_point():
            raise ArgumentError(f"weights is {weights.dtype}; it must be a floating dtype")
        self._check("ids", ids)
        self._check("weights", weights)
        weights = weights.to(torch.float32)
        if self.poison:
            weights = torch.full_like(weights, torch.nan)
        return aligned(ids.to(torch.int32)), aligned(weights)

    def _check(self, name: str, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        if tensor.device != self.device:
            raise ArgumentError(f"{name} is on {tensor.device}, but {self.name} is on {self.device}")
        if dtype is not None and tensor.dtype != dtype:
            raise ArgumentError(f"{name} is {tensor.dtype}; it must be {dtype}")
        return tensor

    def _check_expert(self, expert: reference.Expert, intermediate: int) -> None:
        hidden = self.description.hidden
        for name, shape in (("gate", (intermediate, hidden)), ("up", (intermediate, hidden)),
                            ("down", (hidden, intermediate))):
            matrix: torch.Tensor = getattr(expert, name)
            check_shape(name, matrix, shape)
            self._check(name, matrix)
            scale: torch.Tensor | None = getattr(expert, name + "_scale")
            quantised = matrix.dtype == reference.E4M3
            allowed = {"bf16": [torch.bfloat16], "fp8": [torch.bfloat16, reference.E4M3],
                       "f32": [torch.float32]}[self.description.dtype]
            if matrix.dtype not in allowed:
                raise ArgumentError(f"{name} is {matrix.dtype}; a layer of {self.description.dtype} takes "
                                    f"{' or '.join(map(str, allowed))}")
            if quantised != (scale is not None):
                raise ArgumentError(f"{name}_scale is " + ("missing" if quantised else
                                                           f"given, but {name} is {matrix.dtype}"))
            if scale is not None:
                check_shape(f"{name}_scale", scale, (shape[0] // 128, shape[1] // 128))
                self._check(f"{name}_scale", scale, torch.float32)
