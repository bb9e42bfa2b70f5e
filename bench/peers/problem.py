"""The layers, their random weights and tokens, and the float32 sum that every contender is held to.

Routing is uniform: every expert equally often, as evenly as whole numbers allow, planted through
the gate: router rows are one-hot on the first E coordinates of x. Weights are kept in so many copies
that between two uses of an expert at least COLD_BYTES of others are read.
"""

import dataclasses

import torch

E4M3 = torch.float8_e4m3fn
BLOCK = 128  # of the fp8 scales, both ways
COLD_BYTES = 180_000_000  # three times an H200's cache
CALLS = 8  # in one graph


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str
    hidden: int
    intermediate: int
    experts: int
    top_k: int
    renormalise: bool = True
    given_ids: bool = False
    shared: int = 0  # intermediate size of a shared expert with a sigmoid gate


SHAPES = {s.name: s for s in (
    Shape("qwen3", 2048, 768, 128, 8),
    Shape("mixtral", 4096, 14336, 8, 2),
    Shape("dsv3", 7168, 2048, 32, 8, given_ids=True),  # one rank of eight, every token local
    Shape("qwen15", 2048, 1408, 60, 4, renormalise=False, shared=5632),
)}
ALL_TOKENS = (1, 4, 8, 16, 32, 64, 128, 256, 512)
FEW_TOKENS = (1, 8, 64, 512)
POINTS = (("qwen3", "bf16", ALL_TOKENS), ("qwen3", "fp8", ALL_TOKENS),
          ("mixtral", "bf16", FEW_TOKENS), ("mixtral", "fp8", FEW_TOKENS),
          ("dsv3", "fp8", FEW_TOKENS), ("qwen15", "bf16", FEW_TOKENS))
MANY_TOKENS = (1024, 2048, 4096, 8192, 16384)
SOME_MANY_TOKENS = (2048, 8192)
PREFILL_POINTS = (("qwen3", "bf16", MANY_TOKENS), ("qwen3", "fp8", MANY_TOKENS),
                  ("mixtral", "bf16", SOME_MANY_TOKENS), ("mixtral", "fp8", SOME_MANY_TOKENS),
                  ("dsv3", "bf16", SOME_MANY_TOKENS), ("dsv3", "fp8", SOME_MANY_TOKENS))


def block_quantise(w):
    """e4m3 with one scale per 128 x 128 block."""
    rows, cols = w.shape
    blocks = w.float().view(rows // BLOCK, BLOCK, cols // BLOCK, BLOCK)
    scale = blocks.abs().amax((1, 3)).clamp_min(1e-12) / torch.finfo(E4M3).max
    return (blocks / scale[:, None, :, None]).view(rows, cols).to(E4M3), scale


def block_dequantise(q, scale):
    return q.float() * scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)


@dataclasses.dataclass
class Weights:
    """w1 [E, 2I, H], the gate's rows first, and w2 [E, H, I]; fp8: with scales s1, s2."""
    w1: torch.Tensor
    w2: torch.Tensor
    s1: torch.Tensor | None = None
    s2: torch.Tensor | None = None

    def clone(self):
        return Weights(*(None if t is None else t.clone() for t in (self.w1, self.w2, self.s1, self.s2)))

    def float_expert(self, e):
        if self.s1 is None:
            return self.w1[e].float(), self.w2[e].float()
        return block_dequantise(self.w1[e], self.s1[e]), block_dequantise(self.w2[e], self.s2[e])


def random_weights(shape, dtype):
    def matrices(rows, cols):
        if dtype == "bf16":
            out = torch.empty(shape.experts, rows, cols, dtype=torch.bfloat16, device="cuda")
            for e in range(shape.experts):
                out[e] = torch.randn(rows, cols, device="cuda") * cols ** -0.5
            return out, None
        out = torch.empty(shape.experts, rows, cols, dtype=E4M3, device="cuda")
        scale = torch.empty(shape.experts, rows // BLOCK, cols // BLOCK, device="cuda")
        for e in range(shape.experts):
            out[e], scale[e] = block_quantise(torch.randn(rows, cols, device="cuda") * cols ** -0.5)
        return out, scale

    w1, s1 = matrices(2 * shape.intermediate, shape.hidden)
    w2, s2 = matrices(shape.hidden, shape.intermediate)
    return Weights(w1, w2, s1, s2)


@dataclasses.dataclass
class Call:
    copy: int
    x: torch.Tensor  # [T, H] bf16
    router: torch.Tensor  # [E, H] bf16, this call's own
    ids: torch.Tensor  # [T, k] int32
    weights: torch.Tensor  # [T, k] float32


def plan(shape, tokens, element_bytes):
    """The experts of every call, [CALLS][T, k], and the number of copies."""
    E, k, rows = shape.experts, shape.top_k, tokens * shape.top_k
    expert_bytes = 3 * shape.hidden * shape.intermediate * element_bytes
    shared_bytes = 3 * shape.hidden * shape.shared * element_bytes
    for copies in (1, 2, 4, 8):
        calls, orders = [], {}
        for call in range(CALLS):
            copy, first = call % copies, call // copies * rows
            if rows >= E or copy not in orders:  # small calls on one copy go on where the last stopped
                orders[copy], first = torch.randperm(E), 0
            places = (first + torch.arange(rows)) % E
            calls.append(orders[copy][places].view(tokens, k))
        used = [{(i % copies, e) for e in ids.flatten().tolist()} for i, ids in enumerate(calls)]
        if shape.shared:
            for i in range(CALLS):
                used[i].add((i % copies, -1))
        size = [sum(shared_bytes if e < 0 else expert_bytes for _, e in use) for use in used]
        if min(bytes_to_next_use(used, size, i) for i in range(CALLS)) >= COLD_BYTES:
            return calls, copies
    raise RuntimeError("this layer is too small to be kept out of the cache")


def bytes_to_next_use(used, size, i):
    """What the calls between call i and the next that shares an expert with it read."""
    between = 0
    for j in range(i + 1, i + CALLS):
        if used[i] & used[j % CALLS]:
            break
        between += size[j % CALLS]
    return between


def make_calls(shape, planned, copies):
    calls = []
    for i, ids in enumerate(planned):
        tokens = ids.shape[0]
        ids = ids.cuda()
        x = torch.randn(tokens, shape.hidden, device="cuda", dtype=torch.bfloat16)
        gate = torch.rand(tokens, shape.experts, device="cuda") - 1
        gate.scatter_add_(1, ids, torch.full(ids.shape, 2.0, device="cuda"))
        x[:, :shape.experts] = gate.to(torch.bfloat16)
        router = torch.zeros(shape.experts, shape.hidden, device="cuda", dtype=torch.bfloat16)
        router[:, :shape.experts] = torch.eye(shape.experts, device="cuda")
        scores = torch.softmax(x[:, :shape.experts].float(), -1)
        weights = scores.gather(1, ids)
        if shape.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        calls.append(Call(i % copies, x, router, ids.to(torch.int32), weights.contiguous()))
    return calls


def expected_rows(call, weights, rows, shared=None):
    """The layer of some rows in float32: [len(rows), H]."""
    out = torch.zeros(len(rows), call.x.shape[1], device="cuda")
    for i, t in enumerate(rows):
        x = call.x[t].float()
        for e, w in zip(call.ids[t].tolist(), call.weights[t].tolist()):
            w1, w2 = weights.float_expert(e)
            gate, up = (w1 @ x).chunk(2)
            out[i] += w * (w2 @ (torch.nn.functional.silu(gate) * up))
        if shared is not None:
            gate, up, down, scalar = (m.float() for m in shared)
            out[i] += torch.sigmoid(scalar @ x) * (down @ (torch.nn.functional.silu(gate @ x) * (up @ x)))
    return out
