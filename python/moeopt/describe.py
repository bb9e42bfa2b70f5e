"""What a MoE layer is: its sizes, its router, its dtype. No torch.

Invariant: check() and moeopt_moe_create accept and refuse the same descriptions (a test compares them),
so that code without the library is refused what the kernel would refuse.
"""

import dataclasses
import math

from moeopt import _abi
from moeopt.errors import ArgumentError, Unsupported

MAX_HIDDEN, MAX_INTERMEDIATE, MAX_EXPERTS, MAX_TOP_K, MAX_GROUPS = 16384, 32768, 512, 16, 32
MAX_TOKENS = 65536  # of one launch


@dataclasses.dataclass(frozen=True)
class Description:
    """One MoE layer.

    hidden, intermediate: H and I, multiples of 64 (bf16) or 128 (fp8).
    experts: E, the global ids; slots: how many of them this process holds (0: all).
    dtype: "bf16"; "fp8": e4m3 weights with a scale per 128 x 128 block; "f32": without rounding, on the
    CPU alone.
    score ... scale: the router, for layers that are given hidden states and a router matrix;
    not used where ids and weights are given.
    shared_intermediate: of a shared expert that runs for every token (0: none); shared_gate: its output
    is weighed by a sigmoid gate.
    """

    hidden: int
    intermediate: int
    experts: int
    top_k: int
    slots: int = 0
    dtype: str = "bf16"
    score: str = "softmax"
    groups: int = 0
    top_k_groups: int = 0
    group_score: str = "max"
    renormalise: bool = False
    renormalise_epsilon: float = 0.0
    scale: float = 1.0
    shared_intermediate: int = 0
    shared_gate: bool = False

    @property
    def local_experts(self) -> int:
        return self.slots or self.experts

    def check(self) -> None:
        """Raises Unsupported (beyond a limit) or ArgumentError (makes no sense) and names the field."""
        for field, value, choices in (("dtype", self.dtype, ("bf16", "fp8", "f32")),
                                      ("score", self.score, tuple(_abi.SCORES)),
                                      ("group_score", self.group_score, tuple(_abi.GROUP_SCORES))):
            if value not in choices:
                raise ArgumentError(f"{field} is {value!r}; it must be one of {', '.join(choices)}")
        self._dimension("hidden", self.hidden, MAX_HIDDEN)
        self._dimension("intermediate", self.intermediate, MAX_INTERMEDIATE)
        self._range("experts", self.experts, 1, MAX_EXPERTS)
        self._range("top_k", self.top_k, 1, min(MAX_TOP_K, self.experts))
        self._range("slots", self.slots, 0, MAX_EXPERTS)
        self._groups()
        if not (math.isfinite(self.renormalise_epsilon) and self.renormalise_epsilon >= 0):
            raise ArgumentError(f"renormalise_epsilon is {self.renormalise_epsilon}; "
                                "it must be finite and not negative")
        if not math.isfinite(self.scale):
            raise ArgumentError(f"scale is {self.scale}; it must be finite")
        if self.shared_intermediate:
            self._dimension("shared_intermediate", self.shared_intermediate, MAX_INTERMEDIATE)
        elif self.shared_gate:
            raise ArgumentError("shared_gate is set, but shared_intermediate is 0: there is no shared expert")

    def fields(self, max_tokens: int) -> dict[str, int | float]:
        """Of moeopt_moe_desc. dtype "f32" has none: Unsupported."""
        if self.dtype not in _abi.DTYPES:
            raise Unsupported(f"dtype {self.dtype} runs on the CPU alone; the kernel takes bf16 and fp8")
        return dict(hidden=self.hidden, intermediate=self.intermediate, experts=self.experts,
                    top_k=self.top_k, slots=self.slots, max_tokens=max_tokens,
                    dtype=_abi.DTYPES[self.dtype], score=_abi.SCORES[self.score], groups=self.groups,
                    top_k_groups=self.top_k_groups, group_score=_abi.GROUP_SCORES[self.group_score],
                    renormalise=int(self.renormalise), renormalise_epsilon=self.renormalise_epsilon,
                    scale=self.scale, shared_intermediate=self.shared_intermediate,
                    shared_gate=int(self.shared_gate))

    def _dimension(self, field: str, value: int, high: int) -> None:
        multiple = {"bf16": 64, "fp8": 128, "f32": 1}[self.dtype]
        self._range(field, value, multiple, high)
        if value % multiple:
            raise Unsupported(f"{field} is {value}; it must be a multiple of {multiple} ({self.dtype})")

    def _groups(self) -> None:
        self._range("groups", self.groups, 0, MAX_GROUPS)
        if self.groups <= 1:
            self._range("top_k_groups (without groups)", self.top_k_groups, 0, 1)
            return
        if self.experts % self.groups:
            raise Unsupported(f"experts is {self.experts}, which {self.groups} groups do not divide")
        size = self.experts // self.groups
        if not 1 <= self.top_k_groups <= self.groups:
            raise ArgumentError(f"top_k_groups is {self.top_k_groups}; it must be 1 .. groups ({self.groups})")
        if self.top_k > self.top_k_groups * size:
            raise ArgumentError(f"top_k is {self.top_k}, but {self.top_k_groups} groups hold "
                                f"{self.top_k_groups * size} experts")
        if self.group_score == "top2" and size < 2:
            raise ArgumentError("group_score is top2, but a group has one expert")

    @staticmethod
    def _range(field: str, value: int, low: int, high: int) -> None:
        text = f"{field} is {value}; it must be {low} .. {high}"
        if value < low:
            raise ArgumentError(text)
        if value > high:
            raise Unsupported(text)
