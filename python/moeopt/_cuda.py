"""A layer on a Hopper GPU: libmoeopt, with a handle and a control for every bucket of tokens.

Used by layer.py alone. Invariant: a control serves one stream, or the graphs; scratch serves one launch.
"""

import ctypes as c
import weakref
from typing import TYPE_CHECKING

import torch

from moeopt import _abi, reference
from moeopt._call import (COUNTER_BYTES, Call, Counters, address, align_up, aligned, readable, row_stride,
                          sum_counters)
from moeopt._library import Handle
from moeopt.errors import ArgumentError, Unsupported

if TYPE_CHECKING:
    from moeopt.layer import MoELayer

_loaded: set[tuple[int | str | None, ...]] = set()  # kernels that this process has launched, by device and variant


def token_buckets(max_tokens: int) -> list[int]:
    """Capacities for which a layer has a configuration: two an octave, powers of two up to 32."""
    sizes, size = [], 1
    while size < max_tokens:
        sizes.append(size)
        if 32 <= size and size * 3 // 2 < max_tokens:
            sizes.append(size * 3 // 2)
        size *= 2
    return [*sizes, max_tokens]


class CudaBackend:
    """libmoeopt: a handle and a control per bucket of tokens."""

    def __init__(self, layer: "MoELayer"):
        self.layer = weakref.proxy(layer)
        self.device = layer.device
        self.buckets = token_buckets(layer.max_tokens)
        self.handles = [Handle(layer.description.fields(bucket)) for bucket in self.buckets]
        self.expert_bytes: int = self.handles[0].sizes.expert_bytes
        self.shared_bytes: int = self.handles[0].sizes.shared_bytes
        self.offsets, at = [], 0
        for handle in self.handles:
            self.offsets.append(at)
            at += align_up(handle.sizes.control_bytes)
        self.control_bytes = at
        # One control a stream, since two launches at once must not share one. The one for graphs is
        # made here: what is zeroed while a graph is captured would be zeroed at each replay.
        self.controls: dict[int | str, torch.Tensor] = {}
        with torch.cuda.device(self.device):
            self.controls["graph"] = self._new_control()

    def _new_control(self) -> torch.Tensor:
        # What moeopt_moe_init_workspace does, for all buckets at once.
        return torch.zeros(self.control_bytes, dtype=torch.uint8, device=self.device)

    def _bucket(self, tokens: int) -> int:
        for index, bucket in enumerate(self.buckets):
            if bucket >= tokens:
                return index
        raise AssertionError(tokens)

    def scratch_bytes(self, tokens: int) -> int:
        return self.handles[self._bucket(max(tokens, 1))].scratch_bytes

    def config(self, tokens: int) -> str:
        return self.handles[self._bucket(max(tokens, 1))].config

    def pack(self, expert: reference.Expert, packed: torch.Tensor, shared: bool) -> None:
        matrices = [m if readable(m) else aligned(m) for m in (expert.gate, expert.up, expert.down)]
        scales = [None if s is None else s.contiguous() for s in
                  (expert.gate_scale, expert.up_scale, expert.down_scale)]
        source = _abi.SOURCE_FP8 if scales[0] is not None else (
            _abi.SOURCE_BF16_TO_FP8 if self.layer.description.dtype == "fp8" else _abi.SOURCE_BF16)
        given = _abi.sized(_abi.ExpertSource, source=source, gate=address(matrices[0]),
                           up=address(matrices[1]), down=address(matrices[2]),
                           gate_stride=matrices[0].stride(0), up_stride=matrices[1].stride(0),
                           down_stride=matrices[2].stride(0), gate_scale=address(scales[0]),
                           up_scale=address(scales[1]), down_scale=address(scales[2]))
        library = self.handles[0].library
        function = (library.functions.moeopt_moe_pack_shared if shared else
                    library.functions.moeopt_moe_pack_expert)
        with torch.cuda.device(self.device):
            library.check(function(self.handles[0].pointer, c.byref(given), address(packed),
                                   torch.cuda.current_stream().cuda_stream))
            if not shared:
                self._load_kernels(packed)

    def _load_kernels(self, packed: torch.Tensor) -> None:
        """Launches every variant of the kernel on no tokens, once a process and device: CUDA loads a kernel at
        its first launch, which must not be one that a graph captures."""
        d = self.layer.description
        for handle in self.handles:
            variant = (self.device.index, *handle.config.split()[:3])  # dtype, rows, tokens
            if variant in _loaded:
                continue
            workspace = torch.empty(handle.sizes.workspace_bytes, dtype=torch.uint8, device=self.device)
            workspace[:handle.sizes.control_bytes].zero_()
            anything = address(packed)  # what no token asks for is checked, and not read
            args = _abi.sized(_abi.Args, experts=anything, workspace=address(workspace),
                              shared=anything if d.shared_intermediate else None,
                              shared_gate=anything if d.shared_gate else None,
                              expert_map=anything if d.local_experts < d.experts else None)
            handle.library.check(handle.library.functions.moeopt_moe_forward(
                handle.pointer, c.byref(args), torch.cuda.current_stream().cuda_stream))
            _loaded.add(variant)

    def run(self, call: Call, scratch: torch.Tensor | None) -> None:
        tokens = call.x.shape[0]
        index = self._bucket(tokens)
        handle = self.handles[index]
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream().cuda_stream
            place: int | str = "graph" if torch.cuda.is_current_stream_capturing() else stream
            control = self.controls.get(place)
            if control is None:
                control = self.controls[place] = self._new_control()
            need = handle.scratch_bytes
            if scratch is None:
                scratch = torch.empty(need, dtype=torch.uint8, device=self.device)
            elif scratch.numel() * scratch.element_size() < need or scratch.device != self.device:
                raise ArgumentError(f"scratch is {scratch.numel() * scratch.element_size()} bytes on "
                                    f"{scratch.device}; {need} on {self.device} are needed")
            args = _abi.sized(_abi.Args)
            args.tokens = tokens
            args.x, args.x_stride = address(call.x), row_stride(call.x)
            args.out, args.out_stride = address(call.out), row_stride(call.out)
            args.experts, args.expert_stride = address(call.experts), call.experts.stride(0)
            args.shared, args.shared_gate = address(call.shared), address(call.shared_gate)
            args.router, args.correction_bias = address(call.router), address(call.correction_bias)
            args.ids, args.weights = address(call.ids), address(call.weights)
            args.expert_map = address(call.expert_map)
            args.out_ids, args.out_weights = address(call.out_ids), address(call.out_weights)
            args.workspace = address(scratch)
            args.control = control.data_ptr() + self.offsets[index]
            handle.library.check(handle.library.functions.moeopt_moe_forward(handle.pointer,
                                                                             c.byref(args), stream))

    def counter_slices(self) -> list[torch.Tensor]:
        """Every place on the device where this layer's launches are counted, 40 bytes each."""
        return [control[offset:offset + COUNTER_BYTES] for control in list(self.controls.values())
                for offset in self.offsets]

    def counters(self) -> Counters:
        torch.cuda.synchronize(self.device)
        return sum_counters(self.counter_slices())


def check_device(device: torch.device) -> None:
    if not torch.cuda.is_available():
        raise Unsupported("torch finds no CUDA GPU")
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) != (9, 0):
        raise Unsupported(f"{device} ({torch.cuda.get_device_name(device)}) has compute capability "
                          f"{major}.{minor}; the kernel needs 9.0 (Hopper)")
