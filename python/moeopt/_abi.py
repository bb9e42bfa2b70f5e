"""include/moeopt.h in ctypes, field by field; tests hold sizes and offsets against the C compiler's.

Called by _library.py and layer.py alone. Invariant: a struct starts with its own size, and a field
that is not set is zero.
"""

import ctypes as c
from typing import Any, TypeVar

OK, ERROR_ARGUMENT, ERROR_UNSUPPORTED, ERROR_CUDA = range(4)
DTYPES = {"bf16": 0, "fp8": 1}
SCORES = {"softmax": 0, "sigmoid": 1}
GROUP_SCORES = {"max": 0, "top2": 1}
SOURCE_BF16, SOURCE_FP8, SOURCE_BF16_TO_FP8 = range(3)
ALIGNMENT = 16  # bytes, of a device pointer
PACKED_ALIGNMENT = 128  # of packed weights, workspaces and controls


class Desc(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("hidden", c.c_int32), ("intermediate", c.c_int32),
                ("experts", c.c_int32), ("top_k", c.c_int32), ("slots", c.c_int32),
                ("max_tokens", c.c_int32), ("dtype", c.c_int32), ("score", c.c_int32),
                ("groups", c.c_int32), ("top_k_groups", c.c_int32), ("group_score", c.c_int32),
                ("renormalise", c.c_int32), ("renormalise_epsilon", c.c_float),
                ("scale", c.c_float), ("shared_intermediate", c.c_int32),
                ("shared_gate", c.c_int32), ("rank", c.c_int32), ("world", c.c_int32),
                ("tile_tokens", c.c_int32)]


class Sizes(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("expert_bytes", c.c_uint64),
                ("shared_bytes", c.c_uint64), ("workspace_bytes", c.c_uint64),
                ("control_bytes", c.c_uint64)]


class ExpertSource(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("source", c.c_int32), ("gate", c.c_void_p),
                ("up", c.c_void_p), ("down", c.c_void_p), ("gate_stride", c.c_int64),
                ("up_stride", c.c_int64), ("down_stride", c.c_int64), ("gate_scale", c.c_void_p),
                ("up_scale", c.c_void_p), ("down_scale", c.c_void_p)]


class Counters(c.Structure):
    _fields_ = [("launches", c.c_uint64), ("tokens", c.c_uint64), ("rows", c.c_uint64),
                ("nan_tokens", c.c_uint64), ("errors", c.c_uint64)]


class Args(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("tokens", c.c_int32), ("tokens_device", c.c_void_p),
                ("x", c.c_void_p), ("x_stride", c.c_int64), ("out", c.c_void_p),
                ("out_stride", c.c_int64), ("experts", c.c_void_p), ("expert_stride", c.c_uint64),
                ("shared", c.c_void_p), ("router", c.c_void_p), ("correction_bias", c.c_void_p),
                ("shared_gate", c.c_void_p), ("ids", c.c_void_p), ("weights", c.c_void_p),
                ("expert_map", c.c_void_p), ("out_ids", c.c_void_p), ("out_weights", c.c_void_p),
                ("out_counts", c.c_void_p), ("workspace", c.c_void_p), ("peers", c.c_void_p),
                ("control", c.c_void_p)]


STRUCTS = {"moeopt_moe_desc": Desc, "moeopt_moe_sizes": Sizes, "moeopt_expert_source": ExpertSource,
           "moeopt_moe_counters": Counters, "moeopt_moe_args": Args}

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "moeopt_last_error": (c.c_char_p, []),
    "moeopt_version": (c.c_char_p, []),
    "moeopt_moe_config": (c.c_char_p, [c.c_void_p]),
    "moeopt_moe_create": (c.c_int, [c.c_void_p, c.c_void_p]),
    "moeopt_moe_destroy": (None, [c.c_void_p]),
    "moeopt_moe_get_sizes": (c.c_int, [c.c_void_p, c.c_void_p]),
    "moeopt_moe_tokens_within": (c.c_int, [c.c_void_p, c.c_uint64, c.c_void_p]),
    "moeopt_moe_pack_expert": (c.c_int, [c.c_void_p] * 4),
    "moeopt_moe_pack_shared": (c.c_int, [c.c_void_p] * 4),
    "moeopt_moe_init_workspace": (c.c_int, [c.c_void_p] * 3),
    "moeopt_moe_forward": (c.c_int, [c.c_void_p] * 3),
}

Struct = TypeVar("Struct", bound=c.Structure)


def sized(kind: type[Struct], **fields: Any) -> Struct:
    """A struct with its size set and the other fields zero unless given."""
    return kind(struct_size=c.sizeof(kind), **fields)


def bind(path: str) -> c.CDLL:
    """dlopen and declare every function. Raises OSError, or AttributeError on a library that lacks one."""
    library = c.CDLL(path)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
