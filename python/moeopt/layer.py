"""MoELayer: one layer's packed weights on a device, and the call that runs it.

Owns the packed experts and, per stream, the layer's *control*: what the kernel keeps between launches,
its counters first. Scratch comes from torch's allocator at each call, so that streams, CUDA graphs and
memory statistics work as for any torch operation. No autograd, no dispatcher: ops.py adds those.
Invariant: on a GPU one call is one kernel launch per max_tokens tokens, counted by the kernel itself;
nothing here synchronises with the device but counters().
"""

import ctypes as c
import dataclasses
import itertools
import os
import weakref

import torch

from moeopt import _abi, reference, settings
from moeopt._library import Handle
from moeopt.describe import Description
from moeopt.errors import ArgumentError, MoeoptError, Unsupported

DEFAULT_MAX_TOKENS = 8192
_keys = itertools.count(1)
_layers: "weakref.WeakValueDictionary[int, MoELayer]" = weakref.WeakValueDictionary()
_loaded: set[tuple[int | None, str]] = set()  # kernels that this process has launched, by device and variant
_COUNTER_BYTES = c.sizeof(_abi.Counters)
_COUNTER_FIELDS = [name for name, _ in _abi.Counters._fields_]


@dataclasses.dataclass(frozen=True)
class Counters:
    """What the kernel counted (include/moeopt.h); on the CPU, what the implementation here counted."""

    launches: int = 0
    tokens: int = 0
    rows: int = 0
    nan_tokens: int = 0
    errors: int = 0

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(*(getattr(self, name) - getattr(other, name) for name in _COUNTER_FIELDS))


def find(key: int) -> "MoELayer":
    """The layer with this key. Raises ArgumentError when it is gone."""
    layer = _layers.get(key)
    if layer is None:
        raise ArgumentError(f"no MoE layer {key} in this process: it was deleted, or made in another one")
    return layer


def token_buckets(max_tokens: int) -> list[int]:
    """Capacities for which a layer has a configuration: two an octave, powers of two up to 32."""
    sizes, size = [], 1
    while size < max_tokens:
        sizes.append(size)
        if 32 <= size and size * 3 // 2 < max_tokens:
            sizes.append(size * 3 // 2)
        size *= 2
    return [*sizes, max_tokens]


def _align(value: int, to: int = 256) -> int:
    return (value + to - 1) // to * to


class MoELayer:
    """A MoE layer on one device.

    description: what it is; device: a Hopper GPU, or the CPU (right and slow).
    max_tokens: of one launch, 1 .. 65536; more tokens run in several launches.
    name: for reports. poison: router weights become NaN (default: MOEOPT_POISON).
    Raises Unsupported for a description or a device that the kernel does not take.
    """

    def __init__(self, description: Description, device: torch.device | str = "cuda", *,
                 max_tokens: int = DEFAULT_MAX_TOKENS, name: str = "", poison: bool | None = None):
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
        self._backend: _Cuda | _Cpu
        if self.device.type == "cuda":
            _check_device(self.device)
            self._backend = _Cuda(self)
        elif self.device.type == "cpu":
            self._backend = _Cpu(self)
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
        _check_shape("gate_up", gate_up, (d.local_experts, 2 * d.intermediate, d.hidden))
        _check_shape("down", down, (d.local_experts, d.hidden, d.intermediate))
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
                scratch: torch.Tensor | None = None) -> torch.Tensor:
        """Runs the layer on x [T, H]: [T, H], `out` when given (must not overlap x).

        Either ids [T, k] (int32 or int64, global; below 0 or from E on: no expert in this slot) with
        weights [T, k] (any floating dtype), or router [E, H] bf16 with an optional correction_bias [E]
        float32. shared_gate [H] bf16 when the layer has one. expert_map [E] int32: global id -> slot,
        -1: not here. experts, shared: other packed weights than the layer's own. scratch: at least
        scratch_bytes(T) bytes, aligned to 128; None: from torch's allocator.
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
                 shared: torch.Tensor | None) -> "_Call":
        d = self.description
        activation = torch.float32 if d.dtype == "f32" else torch.bfloat16
        if x.dim() != 2 or x.shape[1] != d.hidden:
            raise ArgumentError(f"x is {list(x.shape)}; it must be [tokens, {d.hidden}]")
        tokens = x.shape[0]
        self._check("x", x, activation)
        if out is None:
            out = torch.empty(tokens, d.hidden, dtype=activation, device=self.device)
        else:
            _check_shape("out", out, (tokens, d.hidden))
            self._check("out", out, activation)
            if not _readable(out):
                raise ArgumentError("out must have rows of stride 1 that start on 16 bytes")
        experts = self.packed if experts is None else experts
        shared = self.packed_shared if shared is None else shared
        if experts is None:
            raise ArgumentError(f"{self.name} has no experts yet: call pack_experts first")
        _check_shape("experts", experts, (d.local_experts, self.expert_bytes))
        self._check("experts", experts, torch.uint8)
        if d.shared_intermediate and shared is None:
            raise ArgumentError(f"{self.name} has no shared expert yet: call pack_shared first")
        if (shared_gate is not None) != d.shared_gate:
            raise ArgumentError("shared_gate is missing" if d.shared_gate else
                                "shared_gate is given, but the layer has none")
        if shared_gate is not None:
            _check_shape("shared_gate", shared_gate, (d.hidden,))
            shared_gate = _aligned(self._check("shared_gate", shared_gate, activation))
        if (router is None) == (ids is None):
            raise ArgumentError("give either router, or ids and weights")
        if router is not None:
            _check_shape("router", router, (d.experts, d.hidden))
            router = _aligned(self._check("router", router, activation))
            if correction_bias is not None:
                _check_shape("correction_bias", correction_bias, (d.experts,))
                correction_bias = _aligned(self._check("correction_bias", correction_bias, torch.float32))
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
            _check_shape("expert_map", expert_map, (d.experts,))
            expert_map = _aligned(self._check("expert_map", expert_map, torch.int32))
        elif d.local_experts < d.experts:
            raise ArgumentError(f"expert_map is missing, but {self.name} has {d.local_experts} slots for "
                                f"{d.experts} experts")
        return _Call(x if _readable(x) else _aligned(x), out, experts, shared, router, correction_bias,
                     shared_gate, ids, weights, expert_map)

    def _given(self, tokens: int, ids: torch.Tensor,
               weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (tokens, self.description.top_k)
        _check_shape("ids", ids, shape)
        _check_shape("weights", weights, shape)
        if ids.dtype not in (torch.int32, torch.int64):
            raise ArgumentError(f"ids is {ids.dtype}; it must be int32 or int64")
        if not weights.is_floating_point():
            raise ArgumentError(f"weights is {weights.dtype}; it must be a floating dtype")
        self._check("ids", ids)
        self._check("weights", weights)
        weights = weights.to(torch.float32)
        if self.poison:
            weights = torch.full_like(weights, torch.nan)
        return _aligned(ids.to(torch.int32)), _aligned(weights)

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
            _check_shape(name, matrix, shape)
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
                _check_shape(f"{name}_scale", scale, (shape[0] // 128, shape[1] // 128))
                self._check(f"{name}_scale", scale, torch.float32)


@dataclasses.dataclass
class _Call:
    """A checked call: every tensor as the kernel reads it."""

    x: torch.Tensor
    out: torch.Tensor
    experts: torch.Tensor
    shared: torch.Tensor | None
    router: torch.Tensor | None
    correction_bias: torch.Tensor | None
    shared_gate: torch.Tensor | None
    ids: torch.Tensor | None
    weights: torch.Tensor | None
    expert_map: torch.Tensor | None

    def part(self, start: int, end: int) -> "_Call":
        if start == 0 and end >= self.x.shape[0]:
            return self
        return dataclasses.replace(self, x=self.x[start:end], out=self.out[start:end],
                                   ids=None if self.ids is None else _aligned(self.ids[start:end]),
                                   weights=None if self.weights is None else
                                   _aligned(self.weights[start:end]))

    def finish(self, given: torch.Tensor | None) -> torch.Tensor:
        return self.out if given is None else given


class _Cuda:
    """libmoeopt: a handle and a control per bucket of tokens."""

    def __init__(self, layer: MoELayer):
        self.layer = weakref.proxy(layer)
        self.device = layer.device
        self.buckets = token_buckets(layer.max_tokens)
        self.handles = [Handle(layer.description.fields(bucket)) for bucket in self.buckets]
        self.expert_bytes: int = self.handles[0].sizes.expert_bytes
        self.shared_bytes: int = self.handles[0].sizes.shared_bytes
        self.offsets, at = [], 0
        for handle in self.handles:
            self.offsets.append(at)
            at += _align(handle.sizes.control_bytes)
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
        return self.handles[self._bucket(max(tokens, 1))].sizes.workspace_bytes

    def config(self, tokens: int) -> str:
        return self.handles[self._bucket(max(tokens, 1))].config

    def pack(self, expert: reference.Expert, packed: torch.Tensor, shared: bool) -> None:
        matrices = [m if _readable(m) else _aligned(m) for m in (expert.gate, expert.up, expert.down)]
        scales = [None if s is None else s.contiguous() for s in
                  (expert.gate_scale, expert.up_scale, expert.down_scale)]
        source = _abi.SOURCE_FP8 if scales[0] is not None else (
            _abi.SOURCE_BF16_TO_FP8 if self.layer.description.dtype == "fp8" else _abi.SOURCE_BF16)
        given = _abi.sized(_abi.ExpertSource, source=source, gate=_address(matrices[0]),
                           up=_address(matrices[1]), down=_address(matrices[2]),
                           gate_stride=matrices[0].stride(0), up_stride=matrices[1].stride(0),
                           down_stride=matrices[2].stride(0), gate_scale=_address(scales[0]),
                           up_scale=_address(scales[1]), down_scale=_address(scales[2]))
        library = self.handles[0].library
        function = (library.functions.moeopt_moe_pack_shared if shared else
                    library.functions.moeopt_moe_pack_expert)
        with torch.cuda.device(self.device):
            library.check(function(self.handles[0].pointer, c.byref(given), _address(packed),
                                   torch.cuda.current_stream().cuda_stream))
            if not shared:
                self._load_kernels(packed)

    def _load_kernels(self, packed: torch.Tensor) -> None:
        """Launches every variant of the kernel on no tokens, once a process and device: CUDA loads a kernel at
        its first launch, which must not be one that a graph captures."""
        d = self.layer.description
        for handle in self.handles:
            variant = (self.device.index, handle.config.removesuffix(" route-everywhere"))
            if variant in _loaded:
                continue
            workspace = torch.empty(handle.sizes.workspace_bytes, dtype=torch.uint8, device=self.device)
            workspace[:handle.sizes.control_bytes].zero_()
            anything = _address(packed)  # what no token asks for is checked, and not read
            args = _abi.sized(_abi.Args, experts=anything, workspace=_address(workspace),
                              shared=anything if d.shared_intermediate else None,
                              shared_gate=anything if d.shared_gate else None,
                              expert_map=anything if d.local_experts < d.experts else None)
            handle.library.check(handle.library.functions.moeopt_moe_forward(
                handle.pointer, c.byref(args), torch.cuda.current_stream().cuda_stream))
            _loaded.add(variant)

    def run(self, call: _Call, scratch: torch.Tensor | None) -> None:
        tokens = call.x.shape[0]
        index = self._bucket(tokens)
        handle = self.handles[index]
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream().cuda_stream
            place: int | str = "graph" if torch.cuda.is_current_stream_capturing() else stream
            control = self.controls.get(place)
            if control is None:
                control = self.controls[place] = self._new_control()
            need = handle.sizes.workspace_bytes
            if scratch is None:
                scratch = torch.empty(need, dtype=torch.uint8, device=self.device)
            elif scratch.numel() * scratch.element_size() < need or scratch.device != self.device:
                raise ArgumentError(f"scratch is {scratch.numel() * scratch.element_size()} bytes on "
                                    f"{scratch.device}; {need} on {self.device} are needed")
            args = _abi.sized(_abi.Args)
            args.tokens = tokens
            args.x, args.x_stride = _address(call.x), _row_stride(call.x)
            args.out, args.out_stride = _address(call.out), _row_stride(call.out)
            args.experts, args.expert_stride = _address(call.experts), call.experts.stride(0)
            args.shared, args.shared_gate = _address(call.shared), _address(call.shared_gate)
            args.router, args.correction_bias = _address(call.router), _address(call.correction_bias)
            args.ids, args.weights = _address(call.ids), _address(call.weights)
            args.expert_map = _address(call.expert_map)
            args.workspace = _address(scratch)
            args.control = control.data_ptr() + self.offsets[index]
            handle.library.check(handle.library.functions.moeopt_moe_forward(handle.pointer,
                                                                             c.byref(args), stream))

    def counter_slices(self) -> list[torch.Tensor]:
        """Every place on the device where this layer's launches are counted, 40 bytes each."""
        return [control[offset:offset + _COUNTER_BYTES] for control in list(self.controls.values())
                for offset in self.offsets]

    def counters(self) -> Counters:
        torch.cuda.synchronize(self.device)
        return sum_counters(self.counter_slices())


class _Cpu:
    """reference.py on plain copies: per expert [gate | up | down | float32 scales]."""

    def __init__(self, layer: MoELayer):
        self.layer = weakref.proxy(layer)
        self.description = layer.description
        d = layer.description
        self.expert_bytes = self._bytes(d.intermediate)
        self.shared_bytes = self._bytes(d.shared_intermediate) if d.shared_intermediate else 0
        self.counted = Counters()

    def _pieces(self, intermediate: int) -> list[tuple[str, tuple[int, int], torch.dtype]]:
        d = self.description
        stored = {"bf16": torch.bfloat16, "fp8": reference.E4M3, "f32": torch.float32}[d.dtype]
        shapes = {"gate": (intermediate, d.hidden), "up": (intermediate, d.hidden),
                  "down": (d.hidden, intermediate)}
        pieces = [(name, shape, stored) for name, shape in shapes.items()]
        if d.dtype == "fp8":
            pieces += [(name + "_scale", (rows // 128, columns // 128), torch.float32)
                       for name, (rows, columns) in shapes.items()]
        return pieces

    def _bytes(self, intermediate: int) -> int:
        return _align(sum(rows * columns * dtype.itemsize
                          for _, (rows, columns), dtype in self._pieces(intermediate)), 128)

    def _unpack(self, packed: torch.Tensor, intermediate: int) -> reference.Expert:
        found, at = {}, 0
        for name, (rows, columns), dtype in self._pieces(intermediate):
            size = rows * columns * dtype.itemsize
            found[name] = packed[at:at + size].view(dtype).view(rows, columns)
            at += size
        return reference.Expert(**found)

    def scratch_bytes(self, tokens: int) -> int:
        return 0

    def config(self, tokens: int) -> str:
        return "torch"

    def pack(self, expert: reference.Expert, packed: torch.Tensor, shared: bool) -> None:
        d = self.description
        if d.dtype == "fp8" and expert.gate_scale is None:
            pairs = [reference.quantise_blocks(m) for m in (expert.gate, expert.up, expert.down)]
            expert = reference.Expert(*(q for q, _ in pairs), *(s for _, s in pairs))
        stored = self._unpack(packed, d.shared_intermediate if shared else d.intermediate)
        for name, _, _ in self._pieces(d.intermediate):
            getattr(stored, name).copy_(getattr(expert, name))

    def run(self, call: _Call, scratch: torch.Tensor | None) -> None:
        d = self.description
        experts = [self._unpack(packed, d.intermediate) for packed in call.experts]
        ids = call.ids
        if ids is not None:
            ids = torch.where((ids < 0) | (ids >= d.experts), -1, ids)
        result = reference.moe_layer(
            call.x, experts, d, ids=ids, weights=call.weights, router=call.router,
            correction_bias=call.correction_bias, expert_map=call.expert_map,
            shared=None if call.shared is None else self._unpack(call.shared, d.shared_intermediate),
            shared_gate=call.shared_gate, accumulate=torch.float32)
        call.out.copy_(result)
        nan = int(torch.isnan(call.weights).any(-1).sum()) if call.weights is not None else 0
        had = self.counted
        self.counted = Counters(had.launches + 1, had.tokens + call.x.shape[0],
                                had.rows + self._rows(call, ids), had.nan_tokens + nan, had.errors)

    def _rows(self, call: _Call, ids: torch.Tensor | None) -> int:
        if ids is None:
            return call.x.shape[0] * self.description.top_k
        here = ids >= 0
        if call.expert_map is not None:
            here &= call.expert_map[ids.clamp_min(0).long()] >= 0
        return int(here.sum())

    def counter_slices(self) -> list[torch.Tensor]:
        return []

    def counters(self) -> Counters:
        return self.counted


def sum_counters(slices: list[torch.Tensor]) -> Counters:
    """One copy from the device for any number of 40-byte counters of one device."""
    if not slices:
        return Counters()
    values = torch.stack(slices).view(torch.int64).sum(0).tolist()
    return Counters(*values)


def _check_device(device: torch.device) -> None:
    if not torch.cuda.is_available():
        raise Unsupported("torch finds no CUDA GPU")
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) != (9, 0):
        raise Unsupported(f"{device} ({torch.cuda.get_device_name(device)}) has compute capability "
                          f"{major}.{minor}; the kernel needs 9.0 (Hopper)")


def _check_shape(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ArgumentError(f"{name} is {list(tensor.shape)}; it must be {list(shape)}")


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _row_stride(tensor: torch.Tensor) -> int:
    return tensor.stride(0) if tensor.shape[0] > 1 else tensor.shape[1]


def _readable(matrix: torch.Tensor) -> bool:
    """Rows of stride 1, each starting on 16 bytes: what the kernel reads as it is."""
    bytes_ = matrix.element_size()
    return (matrix.stride(1) == 1 and matrix.data_ptr() % _abi.ALIGNMENT == 0 and
            (matrix.shape[0] <= 1 or (matrix.stride(0) >= matrix.shape[1] and
                                      matrix.stride(0) * bytes_ % _abi.ALIGNMENT == 0)))


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """Itself when dense and on 16 bytes, else a copy that is."""
    dense = tensor.contiguous()
    return dense if dense.data_ptr() % _abi.ALIGNMENT == 0 else dense.clone()
