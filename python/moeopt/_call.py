"""One checked call of a layer, and how tensors must lie for the kernel to read them.

Used by layer.py and its two backends. Invariant: what a Call holds, the kernel reads as it is.
"""

import ctypes as c
import dataclasses

import torch

from moeopt import _abi
from moeopt.errors import ArgumentError

COUNTER_BYTES = c.sizeof(_abi.Counters)
COUNTER_FIELDS = [field[0] for field in _abi.Counters._fields_]


@dataclasses.dataclass(frozen=True)
class Counters:
    """What the kernel counted (include/moeopt.h); on the CPU, what the implementation here counted."""

    launches: int = 0
    tokens: int = 0
    rows: int = 0
    nan_tokens: int = 0
    errors: int = 0

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(*(getattr(self, name) - getattr(other, name) for name in COUNTER_FIELDS))


@dataclasses.dataclass
class Call:
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
    out_ids: torch.Tensor | None = None
    out_weights: torch.Tensor | None = None

    def part(self, start: int, end: int) -> "Call":
        if start == 0 and end >= self.x.shape[0]:
            return self
        return dataclasses.replace(self, x=self.x[start:end], out=self.out[start:end],
                                   ids=None if self.ids is None else aligned(self.ids[start:end]),
                                   weights=None if self.weights is None else
                                   aligned(self.weights[start:end]),
                                   out_ids=None if self.out_ids is None else self.out_ids[start:end],
                                   out_weights=None if self.out_weights is None else
                                   self.out_weights[start:end])

    def finish(self, given: torch.Tensor | None) -> torch.Tensor:
        return self.out if given is None else given


def align_up(value: int, to: int = 256) -> int:
    return (value + to - 1) // to * to


def sum_counters(slices: list[torch.Tensor]) -> Counters:
    """One copy from the device for any number of 40-byte counters of one device."""
    if not slices:
        return Counters()
    values = torch.stack(slices).view(torch.int64).sum(0).tolist()
    return Counters(*values)


def check_shape(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ArgumentError(f"{name} is {list(tensor.shape)}; it must be {list(shape)}")


def address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def row_stride(tensor: torch.Tensor) -> int:
    return tensor.stride(0) if tensor.shape[0] > 1 else tensor.shape[1]


def readable(matrix: torch.Tensor) -> bool:
    """Rows of stride 1, each starting on 16 bytes: what the kernel reads as it is."""
    bytes_ = matrix.element_size()
    return (matrix.stride(1) == 1 and matrix.data_ptr() % _abi.ALIGNMENT == 0 and
            (matrix.shape[0] <= 1 or (matrix.stride(0) >= matrix.shape[1] and
                                      matrix.stride(0) * bytes_ % _abi.ALIGNMENT == 0)))


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """Itself when dense and on 16 bytes, else a copy that is."""
    dense = tensor.contiguous()
    return dense if dense.data_ptr() % _abi.ALIGNMENT == 0 else dense.clone()


def span_of(matrix: torch.Tensor) -> tuple[int, int]:
    """First byte of a matrix and the one after its last, what lies between its rows included."""
    last = (matrix.shape[0] - 1) * matrix.stride(0) + (matrix.shape[1] - 1) * matrix.stride(1)
    return matrix.data_ptr(), matrix.data_ptr() + (last + 1) * matrix.element_size()
