"""Transformers' experts interface: every family against Transformers' own experts, and every way out."""

import copy
import gc
import logging

import pytest
import torch
from common import CUDA, DEVICE

import moeopt
from moeopt import status

transformers = pytest.importorskip("transformers")
plugin = pytest.importorskip("moeopt.transformers")

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
HIDDEN, INTERMEDIATE = (256, 128) if CUDA else (128, 64)
BASE = dict(vocab_size=256, hidden_size=HIDDEN, intermediate_size=2 * HIDDEN, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
MLA = dict(num_key_value_heads=4, kv_lora_rank=32, q_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16,
           v_head_dim=16, first_k_dense_replace=1, n_shared_experts=1, n_routed_experts=16)
EXPERTS = dict(moe_intermediate_size=INTERMEDIATE, num_experts_per_tok=4)
FAMILIES = {
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(**BASE, **EXPERTS, head_dim=32, num_experts=16,
                                                     norm_topk_prob=True),
    "qwen2_moe": lambda: transformers.Qwen2MoeConfig(**BASE, **EXPERTS, num_experts=16,
                                                     shared_expert_intermediate_size=HIDDEN),
    "mixtral": lambda: transformers.MixtralConfig(**BASE, num_local_experts=8, num_experts_per_tok=2),
    "deepseek_v2": lambda: transformers.DeepseekV2Config(**(BASE | MLA), **EXPERTS, n_group=4, topk_group=2,
                                                         topk_method="group_limited_greedy"),
    "deepseek_v3": lambda: transformers.DeepseekV3Config(**(BASE | MLA), **EXPERTS, n_group=4, topk_group=2),
}
LAYERS = {"qwen3_moe": 3, "qwen2_moe": 3, "mixtral": 3, "deepseek_v2": 2, "deepseek_v3": 2}


def model_of(family, dtype=torch.bfloat16, implementation="eager", seed=0, **changes):
    torch.manual_seed(seed)
    config = FAMILIES[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.device(DEVICE):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype,
                                                              experts_implementation=implementation).eval()
    with torch.no_grad():  # Transformers starts some routers and biases at zero: every choice would be a tie
        for name, parameter in model.named_parameters():
            if "gate.weight" in name:
                parameter.normal_(0, 0.3)
    return model


def tokens_of(count=24, rows=2):
    return torch.randint(0, 256, (rows, count), generator=torch.Generator().manual_seed(5)).to(DEVICE)


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits.float()


def difference(a, b):
    return float((a - b).norm() / b.norm())


def total_launches():
    return sum(s.launches for s in status.report())


@pytest.mark.parametrize("family", FAMILIES)
def test_family_equals_transformers_own_experts(family):
    model = model_of(family)
    ids = tokens_of()
    exact = logits(copy.deepcopy(model).float(), ids)
    eager = logits(model, ids)
    model.set_experts_implementation("moeopt")
    ours = logits(model, ids)
    layers = [s for s in status.report() if s.engine == "transformers"]
    assert [s.state for s in layers] == ["applied"] * LAYERS[family] and all(s.launches == 1 for s in layers)
    # A choice of experts that is close may fall the other way; the middle row says what the experts do.
    rows = (ours - exact).norm(dim=-1) / exact.norm(dim=-1)
    eager_rows = (eager - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert rows.median() <= 1.5 * eager_rows.median() + 1e-3, (float(rows.median()), float(eager_rows.median()))


@pytest.mark.skipif(CUDA, reason="f32 runs on the CPU alone")
@pytest.mark.parametrize("family", FAMILIES)
def test_family_in_float32_is_the_same_sum(family):
    model = model_of(family, torch.float32)
    ids = tokens_of()
    eager = logits(model, ids)
    model.set_experts_implementation("moeopt")
    assert difference(logits(model, ids), eager) < 2e-6


def test_launches_are_steps_times_layers():
    model = model_of("qwen3_moe", implementation="moeopt")
    names = [s.name for s in plugin.prepare(model)]
    assert len(set(names)) == 3 and all("experts" in name for name in names)
    steps = []
    model.model.register_forward_hook(lambda *_: steps.append(1))
    before = total_launches()
    out = model.generate(tokens_of(), max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert out.shape[1] == 32 and len(steps) == 8
    assert total_launches() - before == len(steps) * 3


def test_poison_visibly_breaks(monkeypatch):
    model = model_of("qwen3_moe", implementation="moeopt")
    healthy = logits(model, tokens_of())
    plugin.release(model)
    monkeypatch.setenv("MOEOPT_POISON", "1")
    broken = logits(model, tokens_of())
    assert torch.isfinite(healthy).all() and torch.isnan(broken).all()
    assert all(s.nan_tokens == s.tokens > 0 for s in status.report() if s.state == "applied")


def test_off_is_bit_identical_to_transformers(monkeypatch):
    model = model_of("qwen3_moe", implementation="grouped_mm")
    stock = logits(model, tokens_of())
    monkeypatch.setenv("MOEOPT_MODE", "off")
    model.set_experts_implementation("moeopt")
    assert torch.equal(logits(model, tokens_of()), stock)
    states = [(s.state, s.reason, s.launches) for s in status.report()]
    assert states == [("declined", "MOEOPT_MODE is off", 0)] * 3


def test_refused_modules_fall_back_with_one_warning_or_raise(monkeypatch, caplog):
    model = model_of("qwen3_moe", implementation="grouped_mm", moe_intermediate_size=96)
    stock = logits(model, tokens_of())
    model.set_experts_implementation("moeopt")
    with pytest.raises(moeopt.NotApplied, match="intermediate is 96"):
        logits(model, tokens_of())
    monkeypatch.setenv("MOEOPT_MODE", "prefer")
    plugin._warned.clear()
    with caplog.at_level(logging.WARNING, "moeopt"):
        assert torch.equal(logits(model, tokens_of()), stock)
    assert len([r for r in caplog.records if "instead of the kernel" in r.message]) == 1
    assert {s.state for s in status.report()} == {"declined"}


def compiled_logits(model, ids):
    torch._dynamo.reset()
    with torch.no_grad():
        return torch.compile(model, fullgraph=True, backend="aot_eager")(ids, use_cache=False).logits.float()


def moved_by_compiling_stock(ids):
    """How far a compiled model with stock experts is from itself; skips where this torch cannot compile one."""
    stock = model_of("qwen3_moe", implementation="batched_mm")
    try:
        return difference(compiled_logits(stock, ids), logits(stock, ids))
    except torch._dynamo.exc.Unsupported as unsupported:
        pytest.skip(f"torch {torch.__version__} cannot compile Transformers' own model: {str(unsupported)[:80]}")


def test_compile_fullgraph():
    ids = tokens_of()
    # Before 2.10 torch rounds otherwise when it compiles, and tells the type of what was raised without its text.
    moved, told = (0.0, "prepare") if TORCH >= (2, 10) else (moved_by_compiling_stock(ids), "ArgumentError")
    model = model_of("qwen3_moe", implementation="moeopt")
    with pytest.raises(Exception, match=told):
        compiled_logits(model, ids)
    plugin.prepare(model)
    eager = logits(model, ids)
    before = total_launches()
    compiled = compiled_logits(model, ids)
    assert total_launches() - before == 3
    assert difference(compiled, eager) < (1e-2 if CUDA else 1e-3) + moved
    torch._dynamo.reset()  # what it keeps of a model would keep its layers, too
    gc.collect()


def test_training_is_refused_or_left_to_transformers(monkeypatch):
    model = model_of("qwen3_moe", implementation="moeopt")
    plugin.prepare(model)
    with pytest.raises(moeopt.ArgumentError, match="inference"):
        model(tokens_of())
    monkeypatch.setenv("MOEOPT_MODE", "prefer")
    model(tokens_of()).logits.float().sum().backward()
    assert model.model.layers[0].mlp.experts.down_proj.grad is not None


def test_freed_originals():
    model = model_of("qwen3_moe", implementation="moeopt")
    ids = tokens_of()
    wanted = logits(model, ids)
    plugin.release(model)
    module = model.model.layers[1].mlp.experts
    size = sum(p.numel() * p.element_size() for p in (module.gate_up_proj, module.down_proj))
    if CUDA:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    plugin.prepare(model, free_original=True)
    if CUDA:
        peak, after = torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before
        controls = sum(s._backend.control_bytes for s in packed_layers(model))
        assert peak <= controls + size / 16 + 2**21, f"{peak} above, an expert is {size // 16}"
        assert after <= controls + 2**21
    assert module.gate_up_proj.numel() == 0
    assert torch.equal(logits(model, ids), wanted)
    with pytest.raises(moeopt.ArgumentError, match="inference"):
        model(ids)


def packed_layers(model):
    return [m.__dict__["_moeopt"].layer for _, m in plugin.experts_modules(model)]


def test_two_models_in_one_process():
    a, b = (model_of(family, implementation="moeopt", seed=s) for s, family in enumerate(("qwen3_moe", "mixtral")))
    c = model_of("qwen3_moe", implementation="moeopt", seed=7)  # with the names of the first one's layers
    ids = tokens_of()
    for model in (a, c):
        plugin.prepare(model)
    first = [logits(m, ids) for m in (a, b, c)]
    again = [logits(m, ids) for m in (a, b, c)]
    assert all(torch.equal(x, y) for x, y in zip(first, again))
    layers = [s for s in status.report() if s.engine == "transformers"]
    assert len(layers) == 9 and all(s.launches == 2 for s in layers)
    del b
    gc.collect()
    assert len(status.report()) == 6
    assert torch.equal(logits(a, ids), first[0])


def test_sentinels_of_expert_parallel_models():
    """Ids from num_experts on mark experts of other ranks; their slots add nothing."""
    model = model_of("qwen3_moe", implementation="moeopt")
    module = model.model.layers[0].mlp.experts
    x = torch.randn(6, HIDDEN, device=DEVICE).to(torch.bfloat16)
    ids = torch.arange(24, device=DEVICE).view(6, 4) % 16
    weights = torch.rand(6, 4, device=DEVICE).to(torch.bfloat16)
    with torch.no_grad():
        some = module(x, torch.where(ids % 3 == 0, 16, ids), torch.where(ids % 3 == 0, 0, weights))
        none = module(x, ids, torch.where(ids % 3 == 0, 0, weights))
    assert torch.isfinite(some).all() and difference(some.float(), none.float()) < 2e-3


@pytest.mark.skipif(not CUDA, reason="needs a GPU")
def test_graph_of_a_moe_block():
    model = model_of("qwen3_moe", implementation="moeopt")
    plugin.prepare(model)
    block = model.model.layers[0].mlp
    x = torch.randn(1, 4, HIDDEN, device=DEVICE, dtype=torch.bfloat16)
    with torch.no_grad():
        wanted = block(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = block(x)
        before = total_launches()
        for _ in range(6):
            graph.replay()
    assert total_launches() - before == 6
    assert torch.equal(out, wanted)
