"""The layer against the float64 reference, and every way of calling it wrongly."""

import pytest
import torch
from common import CUDA, DEVICE, Problem, same_bits

import moeopt
from moeopt import reference
from moeopt._cuda import token_buckets

DTYPES = ["bf16", "fp8"]
cuda_only = pytest.mark.skipif(not CUDA, reason="needs a GPU")


@pytest.mark.parametrize("tokens", [1, 3, 17, 200])
@pytest.mark.parametrize("dtype", DTYPES)
def test_given_routes(dtype, tokens):
    p = Problem(dtype)
    x, ids, weights = p.tokens(tokens)
    p.judge(p.layer.forward(x, ids=ids, weights=weights), x, ids=ids, weights=weights)


@cuda_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_qwen3_shape(dtype):
    p = Problem(dtype, hidden=2048, intermediate=768, experts=128, top_k=8)
    for tokens in (1, 16, 130):
        x, ids, weights = p.tokens(tokens)
        p.judge(p.layer.forward(x, ids=ids, weights=weights), x, ids=ids, weights=weights)


def test_bf16_weights_quantised_while_packing():
    p = Problem("fp8", source="bf16")
    x, ids, weights = p.tokens(19)
    p.judge(p.layer.forward(x, ids=ids, weights=weights), x, ids=ids, weights=weights)


ROUTERS = [dict(renormalise=True),
           dict(score="sigmoid", groups=4, top_k_groups=2, group_score="top2", renormalise=True,
                renormalise_epsilon=1e-20, scale=2.5),
           dict(groups=4, top_k_groups=2, scale=0.5)]


@pytest.mark.parametrize("router_kind", ROUTERS, ids=["softmax", "deepseek-v3", "deepseek-v2"])
def test_fused_router(router_kind):
    p = Problem("bf16", **router_kind)
    d = p.description
    x, _, _ = p.tokens(64)
    router = torch.randn(d.experts, d.hidden, device=x.device).to(torch.bfloat16) * d.hidden ** -0.5
    bias = torch.randn(d.experts, device=x.device) * 0.1 if d.score == "sigmoid" else None
    out = p.layer.forward(x, router=router, correction_bias=bias)
    # Rows where the choice is clear: another order of the sum may decide the others.
    logits = x.double() @ router.double().T
    clear = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    for noise in (1e-4, -1e-4):
        moved = reference.route(logits + noise * torch.randn_like(logits), d, bias)[0]
        clear &= (moved.sort(-1).values == reference.route(logits, d, bias)[0].sort(-1).values).all(-1)
    assert clear.sum() > x.shape[0] // 2
    p.judge(out, x, rows=clear, router=router, correction_bias=bias)


def test_shared_expert_and_its_gate():
    for gate in (False, True):
        p = Problem("bf16", shared_intermediate=192, shared_gate=gate)
        x, ids, weights = p.tokens(9)
        out = p.layer.forward(x, ids=ids, weights=weights, shared_gate=p.shared_gate)
        p.judge(out, x, ids=ids, weights=weights)


def test_expert_maps_split_a_layer_between_ranks():
    whole = Problem("bf16")
    halves = [Problem("bf16", slots=8, expert_slice=part) for part in ((0, 8), (8, 16))]
    x, ids, weights = whole.tokens(40)
    ids[:5] = torch.tensor([0, 1, 2, 3], device=ids.device)  # rows without an expert on the second rank
    ids[5, 1] = -1  # and a slot without one on either
    outs = []
    for index, half in enumerate(halves):
        expert_map = torch.full((16,), -1, dtype=torch.int32, device=x.device)
        expert_map[8 * index:8 * index + 8] = torch.arange(8, dtype=torch.int32, device=x.device)
        out = half.layer.forward(x, ids=ids, weights=weights, expert_map=expert_map)
        local = torch.where(ids >= 0, expert_map[ids.clamp_min(0).long()], -1)
        wanted = whole.expected(x, ids=torch.where(local >= 0, ids, -1), weights=weights)
        assert (out.double() - wanted).norm() <= 1e-3 * wanted.norm()
        assert (out[(local < 0).all(-1)] == 0).all()
        outs.append(out.double())
    assert (outs[1][:5] == 0).all()
    wanted = whole.expected(x, ids=ids, weights=weights)
    assert (outs[0] + outs[1] - wanted).norm() <= 3e-3 * wanted.norm()  # two roundings more


def test_absent_slots_ignore_their_weight():
    p = Problem("bf16")
    x, ids, weights = p.tokens(7)
    out = p.layer.forward(x, ids=torch.where(ids % 2 == 0, -1, ids), weights=weights)
    weights = torch.where(ids % 2 == 0, torch.nan, weights)
    again = p.layer.forward(x, ids=torch.where(ids % 2 == 0, -1, ids), weights=weights)
    assert same_bits(out, again)


def test_other_dtypes_of_ids_and_weights():
    p = Problem("bf16")
    x, ids, weights = p.tokens(12)
    weights = weights.to(torch.bfloat16)
    out = p.layer.forward(x, ids=ids, weights=weights.float())
    assert same_bits(out, p.layer.forward(x, ids=ids.long(), weights=weights))
    assert same_bits(out, p.layer.forward(x, ids=ids.long(), weights=weights.double()))


def layouts(x):
    """The same rows, laid out in ways that a caller may have them."""
    rows, hidden = x.shape
    wide = torch.zeros(rows, 3 * hidden, dtype=x.dtype, device=x.device)
    wide[:, hidden:2 * hidden] = x
    yield "columns of a wider matrix", wide[:, hidden:2 * hidden]
    yield "transposed", x.T.contiguous().T
    odd = torch.zeros(rows * hidden + 1, dtype=x.dtype, device=x.device)[1:].view(rows, hidden)
    yield "off by one element", odd.copy_(x)
    skewed = torch.zeros(rows, hidden + 1, dtype=x.dtype, device=x.device)[:, :hidden]
    yield "an odd stride", skewed.copy_(x)
    yield "every other row", torch.stack([x, x], 1).view(2 * rows, hidden)[::2]


def test_layouts_of_the_input():
    p = Problem("bf16")
    x, ids, weights = p.tokens(21)
    wanted = p.layer.forward(x, ids=ids, weights=weights)
    for name, other in layouts(x):
        assert torch.equal(other, x)
        assert same_bits(wanted, p.layer.forward(other, ids=ids, weights=weights)), name
    stretched = torch.stack([ids, ids], 1).view(-1, ids.shape[1])[::2]
    assert same_bits(wanted, p.layer.forward(x, ids=stretched, weights=weights.T.contiguous().T))


def test_output_given():
    p = Problem("bf16")
    x, ids, weights = p.tokens(6)
    wanted = p.layer.forward(x, ids=ids, weights=weights)
    out = torch.full_like(x, torch.nan)
    assert p.layer.forward(x, out, ids=ids, weights=weights) is out
    assert same_bits(out, wanted)
    wide = torch.full((6, 2 * x.shape[1]), 7.0, dtype=x.dtype, device=x.device)
    p.layer.forward(x, wide[:, :x.shape[1]], ids=ids, weights=weights)
    assert same_bits(wide[:, :x.shape[1]], wanted) and (wide[:, x.shape[1]:] == 7).all()


def test_empty_batches_launch_nothing():
    p = Problem("bf16")
    x, ids, weights = p.tokens(0)
    before = p.layer.counters()
    assert p.layer.forward(x, ids=ids, weights=weights).shape == (0, 256)
    assert p.layer.counters() == before
    x, ids, weights = p.tokens(4)
    p.layer.forward(x, ids=ids, weights=weights)
    assert (p.layer.counters() - before).launches == 1


def test_rows_do_not_depend_on_their_batch():
    p = Problem("bf16")
    x, ids, weights = p.tokens(150)
    out = p.layer.forward(x, ids=ids, weights=weights)
    if not CUDA:
        return  # torch's products on the CPU promise no bits
    assert same_bits(out, p.layer.forward(x, ids=ids, weights=weights))
    for row in (0, 77, 149):
        part = slice(row, row + 1)
        assert same_bits(out[part], p.layer.forward(x[part], ids=ids[part], weights=weights[part]))


def test_more_tokens_than_one_launch_takes():
    small, large = Problem("bf16", max_tokens=64), Problem("bf16")
    x, ids, weights = small.tokens(200)
    before = small.layer.counters()
    out = small.layer.forward(x, ids=ids, weights=weights)
    moved = small.layer.counters() - before
    assert (moved.launches, moved.tokens, moved.rows) == (4, 200, 800)
    if CUDA:
        assert same_bits(out, large.layer.forward(x, ids=ids, weights=weights))
    small.judge(out, x, ids=ids, weights=weights)


def test_a_bound_on_the_scratch():
    whole = Problem("bf16")
    limit = whole.layer.scratch_bytes(1000) // 3
    cut = Problem("bf16", scratch_limit=limit)
    x, ids, weights = whole.tokens(1000)
    out = cut.layer.forward(x, ids=ids, weights=weights)
    cut.judge(out, x, ids=ids, weights=weights)
    if not CUDA:
        assert cut.layer.max_tokens == 8192
        return
    assert cut.layer.scratch_bytes(1000) <= limit and cut.layer.max_tokens % 128 == 0
    assert cut.layer.counters().launches == -(-1000 // cut.layer.max_tokens)
    assert same_bits(out, whole.layer.forward(x, ids=ids, weights=weights))
    with pytest.raises(moeopt.Unsupported, match="one token takes"):
        Problem("bf16", scratch_limit=100)


@pytest.mark.parametrize("max_tokens", [8192, 16])
def test_the_decision_that_was_used(max_tokens):
    """Given: as given, in every part of a call; of the router: its own, which gives the same rows when given back."""
    p = Problem("bf16", max_tokens=max_tokens, renormalise=True)
    x, ids, weights = p.tokens(40)
    ids[3, 1] = -1
    used = torch.full_like(ids, 99), torch.full_like(weights, 99)
    p.layer.forward(x, ids=ids, weights=weights, out_ids=used[0], out_weights=used[1])
    assert torch.equal(used[0], ids) and torch.equal(used[1], weights)
    router = torch.randn(p.description.experts, x.shape[1], device=x.device).to(torch.bfloat16) / x.shape[1] ** 0.5
    out = p.layer.forward(x, router=router, out_ids=used[0], out_weights=used[1])
    assert (used[0].sort(-1).values.diff(dim=-1) > 0).all() and (used[1].sum(-1) - 1).abs().max() < 1e-3
    p.judge(out, x, ids=used[0], weights=used[1])


def test_counters_count():
    p = Problem("bf16")
    before = p.layer.counters()
    for tokens in (1, 8, 9, 100):
        x, ids, weights = p.tokens(tokens)
        p.layer.forward(x, ids=ids, weights=weights)
    moved = p.layer.counters() - before
    assert (moved.launches, moved.tokens, moved.rows) == (4, 118, 118 * 4)
    assert (moved.nan_tokens, moved.errors) == (0, 0)


def test_poison_breaks_every_row(monkeypatch):
    monkeypatch.setenv("MOEOPT_POISON", "1")
    p = Problem("bf16")
    monkeypatch.delenv("MOEOPT_POISON")
    x, ids, weights = p.tokens(5)
    out = p.layer.forward(x, ids=ids, weights=weights)
    assert torch.isnan(out).all(-1).all()
    assert p.layer.counters().nan_tokens == 5
    router = torch.randn(16, 256, device=x.device).to(torch.bfloat16)
    assert torch.isnan(p.layer.forward(x, router=router)).all()


def other_device():
    return "cpu" if CUDA else "meta"


WRONG = [
    ("x is", lambda x, i, w: dict(x=x[:, :128])),
    ("x is", lambda x, i, w: dict(x=x[0])),
    ("x is torch.float16", lambda x, i, w: dict(x=x.half())),
    ("x is torch.float32", lambda x, i, w: dict(x=x.float())),
    ("x is on", lambda x, i, w: dict(x=x.to(other_device()))),
    ("ids is on", lambda x, i, w: dict(ids=i.to(other_device()))),
    ("weights is on", lambda x, i, w: dict(weights=w.to(other_device()))),
    ("ids is torch.int16", lambda x, i, w: dict(ids=i.short())),
    ("weights is torch.int64", lambda x, i, w: dict(weights=w.long())),
    ("ids is [5, 3]", lambda x, i, w: dict(ids=i[:, :3])),
    ("weights is [4, 4]", lambda x, i, w: dict(weights=w[:4])),
    ("ids come with weights", lambda x, i, w: dict(weights=None)),
    ("give either router", lambda x, i, w: dict(ids=None, weights=None)),
    ("give either router", lambda x, i, w: dict(router=x.new_zeros(16, 256))),
    ("weights are given without ids", lambda x, i, w: dict(ids=None, router=x.new_zeros(16, 256))),
    ("router is [8, 256]", lambda x, i, w: dict(ids=None, weights=None, router=x.new_zeros(8, 256))),
    ("correction_bias", lambda x, i, w: dict(correction_bias=torch.zeros(16, device=x.device))),
    ("shared_gate is given", lambda x, i, w: dict(shared_gate=x[0])),
    ("expert_map is [15]", lambda x, i, w: dict(expert_map=torch.zeros(15, dtype=torch.int32, device=x.device))),
    ("expert_map is torch.int64", lambda x, i, w: dict(expert_map=torch.arange(16, device=x.device))),
    ("out is [4, 256]", lambda x, i, w: dict(out=torch.empty_like(x[:4]))),
    ("out is torch.float32", lambda x, i, w: dict(out=torch.empty_like(x, dtype=torch.float32))),
    ("out must have rows", lambda x, i, w: dict(out=x.new_empty(256, 5).T)),
    ("out must have rows", lambda x, i, w: dict(out=x.new_empty(5 * 256 + 1)[1:].view(5, 256))),
    ("out_ids is [4, 4]", lambda x, i, w: dict(out_ids=i[:4].clone())),
    ("out_ids is torch.int64", lambda x, i, w: dict(out_ids=i.long())),
    ("out_weights must be dense", lambda x, i, w: dict(out_weights=w.new_empty(4, 5).T)),
    ("experts is", lambda x, i, w: dict(experts=torch.zeros(15, 8, dtype=torch.uint8, device=x.device))),
]


@pytest.mark.parametrize(("text", "change"), WRONG, ids=[f"{i}-{t}" for i, (t, _) in enumerate(WRONG)])
def test_wrong_calls_name_the_fault_and_run_nothing(text, change):
    p = Problem("bf16")
    x, ids, weights = p.tokens(5)
    before = p.layer.counters()
    arguments = dict(x=x, ids=ids, weights=weights) | change(x, ids, weights)
    with pytest.raises(moeopt.ArgumentError) as caught:
        p.layer.forward(**arguments)
    assert text in str(caught.value)
    assert p.layer.counters() == before


def test_overlap_is_refused():
    p = Problem("bf16")
    x, ids, weights = p.tokens(5)
    with pytest.raises(moeopt.ArgumentError, match="out overlaps x"):
        p.layer.forward(x, x, ids=ids, weights=weights)


def test_gradients_are_refused():
    p = Problem("bf16")
    x, ids, weights = p.tokens(3)
    for change in (dict(x=x.clone().requires_grad_()), dict(weights=weights.clone().requires_grad_())):
        with pytest.raises(moeopt.ArgumentError, match="inference"):
            p.layer.forward(**(dict(x=x, ids=ids, weights=weights) | change))
    with torch.no_grad():
        p.layer.forward(x.clone().requires_grad_(), ids=ids, weights=weights)


def test_packing_errors():
    d = moeopt.Description(hidden=256, intermediate=128, experts=4, top_k=2)
    layer = moeopt.MoELayer(d, DEVICE)
    gate = torch.zeros(128, 256, dtype=torch.bfloat16, device=DEVICE)
    down = torch.zeros(256, 128, dtype=torch.bfloat16, device=DEVICE)
    x = torch.zeros(1, 256, dtype=torch.bfloat16, device=DEVICE)
    ids, weights = torch.zeros(1, 2, dtype=torch.int32, device=DEVICE), torch.zeros(1, 2, device=DEVICE)
    with pytest.raises(moeopt.ArgumentError, match="no experts yet"):
        layer.forward(x, ids=ids, weights=weights)
    for arguments, text in (((4, gate, gate, down), "slot is 4"), ((0, gate.T, gate, down), "gate is"),
                            ((0, gate.half(), gate, down), "gate is torch.float16"),
                            ((0, gate, gate, down, gate), "gate_scale is given"),
                            ((0, gate, gate.cpu() if CUDA else gate.to("meta"), down), "up is on")):
        with pytest.raises(moeopt.ArgumentError, match=text):
            layer.pack_expert(*arguments)
    with pytest.raises(moeopt.ArgumentError, match="gate_up is"):
        layer.pack_experts(gate[None], down[None])
    with pytest.raises(moeopt.ArgumentError, match="no shared expert"):
        layer.pack_shared(gate, gate, down)


def test_strided_weights_pack_alike():
    d = moeopt.Description(hidden=256, intermediate=128, experts=2, top_k=1)
    plain, strided = moeopt.MoELayer(d, DEVICE), moeopt.MoELayer(d, DEVICE)
    torch.manual_seed(3)
    gate_up = torch.randn(2, 256, 256, device=DEVICE).to(torch.bfloat16)
    down = torch.randn(2, 256, 128, device=DEVICE).to(torch.bfloat16)
    plain.pack_experts(gate_up, down)
    strided.pack_experts(gate_up.transpose(1, 2).contiguous().transpose(1, 2), torch.stack([down] * 2, -1)[..., 0])
    assert torch.equal(plain.packed, strided.packed)


def test_descriptions_are_refused_by_name():
    for change, kind in ((dict(hidden=100), moeopt.Unsupported), (dict(top_k=17), moeopt.Unsupported),
                         (dict(top_k=0), moeopt.ArgumentError), (dict(dtype="int4"), moeopt.ArgumentError)):
        with pytest.raises(kind, match=next(iter(change))):
            Problem(**({"dtype": "bf16"} | change))
    with pytest.raises(moeopt.Unsupported, match="device meta"):
        moeopt.MoELayer(moeopt.Description(hidden=256, intermediate=128, experts=4, top_k=2), "meta")


def test_buckets_cover_every_count():
    for limit in (1, 2, 31, 32, 33, 100, 8192, 65536):
        sizes = token_buckets(limit)
        assert sizes == sorted(set(sizes)) and sizes[0] == 1 and sizes[-1] == limit
        assert all(b <= 2 * a for a, b in zip(sizes, sizes[1:]))
