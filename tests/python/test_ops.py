"""The torch operators: their registration, torch.compile, CUDA graphs, streams, memory, processes."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from common import CUDA, DEVICE, Problem, same_bits
from conftest import ROOT

import moeopt
from moeopt import ops

cuda_only = pytest.mark.skipif(not CUDA, reason="needs a GPU")


def arguments_of(p, x, ids, weights):
    return (x, p.layer.packed, None, None, None, None, ids, weights, None, p.layer.key)


def test_registration_holds():
    p = Problem("bf16")
    x, ids, weights = p.tokens(5)
    arguments = arguments_of(p, x, ids, weights)
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.moeopt.moe_layer.default, arguments, test_utils=checks)
    torch.library.opcheck(torch.ops.moeopt.moe_layer_out.default, (*arguments, torch.empty_like(x)),
                          test_utils=checks)


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode
    p = Problem("bf16")
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(7, 256, dtype=torch.bfloat16, device=DEVICE)
        ids = torch.empty(7, 4, dtype=torch.int32, device=DEVICE)
        out = ops.moe_layer(p.layer, x, ids=ids, weights=torch.empty(7, 4, device=DEVICE))
        assert out.shape == (7, 256) and out.dtype == torch.bfloat16
    assert p.layer.counters().launches == 0


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile_fullgraph(backend):
    p = Problem("bf16")

    def block(x, ids, weights):
        return ops.moe_layer(p.layer, x * 2, ids=ids, weights=weights) + x

    compiled = torch.compile(block, fullgraph=True, backend=backend)
    for tokens in (4, 9, 33):
        x, ids, weights = p.tokens(tokens)
        before = p.layer.counters()
        out = compiled(x, ids, weights)
        assert (p.layer.counters() - before).launches == 1
        assert torch.equal(out, block(x, ids, weights))


def test_out_variant_writes_out_and_nothing_else():
    p = Problem("bf16")
    x, ids, weights = p.tokens(5)
    copies = [t.clone() for t in (x, ids, weights, p.layer.packed)]
    out = torch.empty_like(x)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def block(x, out):
        ops.moe_layer(p.layer, x, ids=ids, weights=weights, out=out)
        return out + 0

    assert same_bits(block(x, out), out) and same_bits(out, ops.moe_layer(p.layer, x, ids=ids, weights=weights))
    for before, after in zip(copies, (x, ids, weights, p.layer.packed)):
        assert torch.equal(before, after)


def test_gradient_is_refused_eager_and_compiled():
    p = Problem("bf16")
    x, ids, weights = p.tokens(3)
    x.requires_grad_()
    with pytest.raises(moeopt.ArgumentError, match="inference"):
        ops.moe_layer(p.layer, x, ids=ids, weights=weights)
    with pytest.raises(Exception, match="inference"):
        torch.compile(lambda x: ops.moe_layer(p.layer, x, ids=ids, weights=weights), fullgraph=True,
                      backend="aot_eager")(x)
    with torch.inference_mode():
        ops.moe_layer(p.layer, x, ids=ids, weights=weights)


def test_a_deleted_layer_is_named():
    p = Problem("bf16")
    arguments = arguments_of(p, *p.tokens(2))
    del p
    with pytest.raises(moeopt.ArgumentError, match="no MoE layer"):
        torch.ops.moeopt.moe_layer(*arguments)


def test_two_layers_take_turns():
    """They share scratch memory and nothing else."""
    a, b = Problem("bf16", seed=1), Problem("bf16", seed=2, hidden=512, top_k=2)
    for _ in range(3):
        for p in (a, b):
            x, ids, weights = p.tokens(30)
            p.judge(ops.moe_layer(p.layer, x, ids=ids, weights=weights), x, ids=ids, weights=weights)
    assert a.layer.counters().launches == b.layer.counters().launches == 3


@cuda_only
def test_graph_replays_are_counted_and_read_new_inputs():
    for dtype in ("bf16", "fp8"):
        p = Problem(dtype)
        x, ids, weights = p.tokens(24)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # without a call before: nothing may need one
            out = ops.moe_layer(p.layer, x, ids=ids, weights=weights)
        before = p.layer.counters()
        assert before.launches == 0
        for seed in range(5):
            new = p.tokens(24, seed=seed)
            for place, value in zip((x, ids, weights), new):
                place.copy_(value)
            graph.replay()
            assert same_bits(out, p.layer.forward(*new[:1], ids=new[1], weights=new[2]))
        moved = p.layer.counters() - before
        assert moved.launches == 10 and moved.tokens == 240  # five replays and five calls


@cuda_only
def test_graph_and_eager_calls_do_not_disturb_each_other():
    p = Problem("bf16")
    x, ids, weights = p.tokens(40)
    wanted = p.layer.forward(x, ids=ids, weights=weights)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs = [ops.moe_layer(p.layer, x, ids=ids, weights=weights) for _ in range(3)]
    for _ in range(4):
        graph.replay()
        assert same_bits(p.layer.forward(x, ids=ids, weights=weights), wanted)
    assert all(same_bits(out, wanted) for out in outs)


@cuda_only
def test_streams():
    p, q = Problem("bf16", seed=1), Problem("bf16", seed=2)
    calls = [(layer, layer.tokens(64, seed=s)) for s in range(8) for layer in (p, q)]
    wanted = [layer.layer.forward(x, ids=i, weights=w) for layer, (x, i, w) in calls]
    streams = [torch.cuda.Stream() for _ in range(4)]
    torch.cuda.synchronize()
    outs = []
    for turn, (layer, (x, i, w)) in enumerate(calls):  # the same layer on two streams at once, too
        with torch.cuda.stream(streams[turn % 4]):
            torch.cuda._sleep(20000)
            outs.append(layer.layer.forward(x, ids=i, weights=w))
    torch.cuda.synchronize()
    assert all(same_bits(a, b) for a, b in zip(outs, wanted))
    assert p.layer.counters().launches + q.layer.counters().launches == 32


@cuda_only
def test_scratch_of_the_caller():
    p = Problem("bf16")
    x, ids, weights = p.tokens(40)
    wanted = p.layer.forward(x, ids=ids, weights=weights)
    scratch = torch.full((p.layer.scratch_bytes(40),), 0xFF, dtype=torch.uint8, device=DEVICE)
    for _ in range(2):
        assert same_bits(wanted, p.layer.forward(x, ids=ids, weights=weights, scratch=scratch))
        scratch.fill_(0xA5)
    with pytest.raises(moeopt.ArgumentError, match="scratch is"):
        p.layer.forward(x, ids=ids, weights=weights, scratch=scratch[:-1])


def python(code, **environment):
    """Runs a script in a process of its own, so that what it breaks stays there."""
    path = os.pathsep.join([str(ROOT / "python"), str(ROOT / "tests" / "python"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
                          timeout=170, env=os.environ | {"PYTHONPATH": path} | environment)


def test_fork():
    """A layer on the CPU works in a forked child; one on a GPU refuses with a sentence, and does not hang."""
    run = python("""
        import os, sys, moeopt
        from common import Problem, CUDA
        p = Problem("bf16")
        x, ids, weights = p.tokens(3)
        wanted = p.layer.forward(x, ids=ids, weights=weights)
        child = os.fork()
        if child == 0:
            try:
                p.layer.forward(x, ids=ids, weights=weights)
                os._exit(2 if CUDA else 0)
            except moeopt.MoeoptError as refused:
                os._exit(0 if CUDA and "fork" in str(refused) else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        p.layer.forward(x, ids=ids, weights=weights)
        """, OMP_NUM_THREADS="1")
    assert run.returncode == 0, run.stderr


@cuda_only
def test_unload_and_reload():
    run = python("""
        import gc, torch
        from common import Problem, same_bits
        from moeopt import _library
        p = Problem("bf16")
        x, ids, weights = p.tokens(9)
        first = p.layer.forward(x, ids=ids, weights=weights).cpu()
        torch.cuda.synchronize()
        del p
        gc.collect()
        _library.unload()
        p = Problem("bf16")
        again = p.layer.forward(x, ids=ids, weights=weights).cpu()
        assert same_bits(first, again)
        """)
    assert run.returncode == 0, run.stderr


@cuda_only
def test_another_gpu_is_refused():
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    p = Problem("bf16", device="cuda:1")
    x, ids, weights = p.tokens(3, device="cuda:1")
    p.judge(p.layer.forward(x, ids=ids, weights=weights), x, ids=ids, weights=weights)
    with pytest.raises(moeopt.ArgumentError, match="x is on cuda:0"):
        p.layer.forward(x.to("cuda:0"), ids=ids, weights=weights)


@cuda_only
def test_overhead_of_the_operator_is_bounded():
    """Not a timing: the allocations and kernels of a call, which set its cost on the host."""
    p = Problem("bf16")
    x, ids, weights = p.tokens(8)
    p.layer.forward(x, ids=ids, weights=weights)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        p.layer.forward(x, ids=ids, weights=weights)
        torch.cuda.synchronize()
    kernels = [e.name for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    assert len(kernels) == 1 and "flash_dmoe" in kernels[0], kernels
