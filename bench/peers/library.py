"""libmoeopt through ctypes, for torch tensors on the GPU.

Mirrors include/moeopt.h field by field; the library refuses a struct whose size is not its own.
"""

import ctypes as c

import torch

BF16, FP8 = 0, 1
SOURCE_BF16, SOURCE_FP8 = 0, 1


class Desc(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("hidden", c.c_int32), ("intermediate", c.c_int32),
                ("experts", c.c_int32), ("top_k", c.c_int32), ("slots", c.c_int32),
                ("max_tokens", c.c_int32), ("dtype", c.c_int32), ("score", c.c_int32),
                ("groups", c.c_int32), ("top_k_groups", c.c_int32), ("group_score", c.c_int32),
                ("renormalise", c.c_int32), ("renormalise_epsilon", c.c_float),
                ("scale", c.c_float), ("shared_intermediate", c.c_int32),
                ("shared_gate", c.c_int32), ("rank", c.c_int32), ("world", c.c_int32)]


class Sizes(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("expert_bytes", c.c_uint64),
                ("shared_bytes", c.c_uint64), ("workspace_bytes", c.c_uint64)]


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
                ("out_counts", c.c_void_p), ("workspace", c.c_void_p), ("peers", c.c_void_p)]


def sized(kind, **fields):
    return kind(struct_size=c.sizeof(kind), **fields)


def address(tensor):
    return None if tensor is None else tensor.data_ptr()


def stream():
    return c.c_void_p(torch.cuda.current_stream().cuda_stream)


class Library:
    def __init__(self, path):
        self.lib = c.CDLL(path)
        self.lib.moeopt_last_error.restype = c.c_char_p
        self.lib.moeopt_version.restype = c.c_char_p
        self.lib.moeopt_moe_config.restype = c.c_char_p
        self.lib.moeopt_moe_config.argtypes = [c.c_void_p]
        self.lib.moeopt_moe_destroy.argtypes = [c.c_void_p]
        self.lib.moeopt_moe_destroy.restype = None
        self.lib.moeopt_moe_create.argtypes = [c.c_void_p, c.c_void_p]
        self.lib.moeopt_moe_get_sizes.argtypes = [c.c_void_p, c.c_void_p]
        self.lib.moeopt_moe_pack_expert.argtypes = [c.c_void_p] * 4
        self.lib.moeopt_moe_pack_shared.argtypes = [c.c_void_p] * 4
        self.lib.moeopt_moe_init_workspace.argtypes = [c.c_void_p] * 3
        self.lib.moeopt_moe_forward.argtypes = [c.c_void_p] * 3

    def version(self):
        return self.lib.moeopt_version().decode()

    def check(self, status):
        if status != 0:
            raise RuntimeError(f"moeopt: {self.lib.moeopt_last_error().decode()}")


class Layer:
    """One layer for up to max_tokens tokens, with a workspace of its own."""

    def __init__(self, library, **desc):
        self.library, self.lib = library, library.lib
        self.handle = c.c_void_p()
        library.check(self.lib.moeopt_moe_create(c.byref(sized(Desc, **desc)), c.byref(self.handle)))
        self.sizes = sized(Sizes)
        library.check(self.lib.moeopt_moe_get_sizes(self.handle, c.byref(self.sizes)))
        self.config = self.lib.moeopt_moe_config(self.handle).decode()
        self.workspace = torch.full((self.sizes.workspace_bytes,), 0xff, dtype=torch.uint8, device="cuda")
        library.check(self.lib.moeopt_moe_init_workspace(self.handle, address(self.workspace), stream()))

    def __del__(self):
        if self.handle:
            self.lib.moeopt_moe_destroy(self.handle)

    def _pack(self, function, packed, source, gate, up, down, scales):
        for matrix in (gate, up, down):
            assert matrix.stride(1) == 1
        for scale in scales:
            assert scale is None or scale.is_contiguous()
        from_ = sized(ExpertSource, source=source, gate=address(gate), up=address(up),
                      down=address(down), gate_stride=gate.stride(0), up_stride=up.stride(0),
                      down_stride=down.stride(0), gate_scale=address(scales[0]),
                      up_scale=address(scales[1]), down_scale=address(scales[2]))
        self.library.check(function(self.handle, c.byref(from_), address(packed), stream()))

    def pack_experts(self, w1, w2, s1=None, s2=None):
        """w1 [E, 2I, H] with the gate's rows first, w2 [E, H, I]; e4m3 with block scales s1, s2."""
        packed = torch.empty(w1.shape[0], self.sizes.expert_bytes, dtype=torch.uint8, device="cuda")
        for e in range(w1.shape[0]):
            gate, up = w1[e].chunk(2)
            scales = (None,) * 3 if s1 is None else (*s1[e].chunk(2), s2[e])
            self._pack(self.lib.moeopt_moe_pack_expert, packed[e],
                       SOURCE_BF16 if s1 is None else SOURCE_FP8, gate, up, w2[e], scales)
        return packed

    def pack_shared(self, gate, up, down):
        packed = torch.empty(self.sizes.shared_bytes, dtype=torch.uint8, device="cuda")
        self._pack(self.lib.moeopt_moe_pack_shared, packed, SOURCE_BF16, gate, up, down, (None,) * 3)
        return packed

    def forward(self, x, out, experts, router=None, ids=None, weights=None, shared=None,
                shared_gate=None):
        assert x.is_contiguous() and out.is_contiguous()
        args = sized(Args, tokens=x.shape[0], x=address(x), out=address(out),
                     experts=address(experts), shared=address(shared), router=address(router),
                     shared_gate=address(shared_gate), ids=address(ids), weights=address(weights),
                     workspace=address(self.workspace))
        self.library.check(self.lib.moeopt_moe_forward(self.handle, c.byref(args), stream()))
        return out

    def counters(self):
        raw = self.workspace[:c.sizeof(Counters)].cpu().numpy().tobytes()
        return Counters.from_buffer_copy(raw)
