"""vLLM's plugin from the oracle to the audit, on a stand-in of vLLM and the layer's CPU implementation."""

import pytest
import torch
from fake_vllm import Fake, Fp8, FusedMoEConfig, Parallel, QuantConfig, TritonExperts, Unquantized

import moeopt
from moeopt import reference, status

H, I, E, K = 256, 128, 8, 2


def config(**changes):
    return FusedMoEConfig(**(dict(num_experts=E, experts_per_token=K, hidden_dim=H, num_local_experts=E,
                                  intermediate_size_per_partition=I, in_dtype=torch.bfloat16) | changes))


def install(monkeypatch, mode="prefer"):
    monkeypatch.setenv("MOEOPT_MODE", mode)
    from moeopt import vllm_plugin
    vllm_plugin.register()


class RoutedExperts(torch.nn.Module):
    """A layer as vLLM makes one: parameters, a method, a name."""

    def __init__(self, name, method, seed=0, fp8=False):
        super().__init__()
        torch.manual_seed(seed)
        self.layer_name, self.quant_method = name, method
        w13 = torch.randn(E, 2 * I, H).to(torch.bfloat16) / H ** 0.5
        w2 = torch.randn(E, H, I).to(torch.bfloat16) / I ** 0.5
        if fp8:
            pairs = [[reference.quantise_blocks(w) for w in weight] for weight in (w13, w2)]
            w13, w2 = (torch.stack([q for q, _ in part]) for part in pairs)
            self.w13_scale, self.w2_scale = (torch.stack([s for _, s in part]) for part in pairs)
        self.w13_weight = torch.nn.Parameter(w13, requires_grad=False)
        self.w2_weight = torch.nn.Parameter(w2, requires_grad=False)
        self.original = w13.clone(), w2.clone()

    @property
    def experts(self):
        method = self.quant_method
        return (getattr(method, "moe_kernel", None) or method.kernel).fused_experts

    def run(self, x, ids, weights, expert_map=None, weights_applied=False):
        """What vLLM's modular kernel does around apply()."""
        experts = self.experts
        ws13, ws2, shape = experts.workspace_shapes(x.shape[0], 2 * I, H, K, E, E, None, "silu")
        size = lambda s: int(torch.tensor(s).prod())
        common = torch.full((max(size(ws13), size(shape)),), 3.0, dtype=torch.bfloat16)
        out = common[:size(shape)].view(shape)
        experts.apply(out, x, self.w13_weight, self.w2_weight, weights, ids, "silu", E, expert_map, None, None,
                      common[:size(ws13)].view(ws13), torch.empty(ws2, dtype=torch.bfloat16), None, weights_applied)
        return out.clone()

    def warm_up(self):
        x, ids, weights = tokens(3)
        self.run(x, ids, weights)

    def expected(self, x, ids, weights, dtype="bf16"):
        w13, w2 = self.original
        experts = []
        for e in range(E):
            pieces = [*w13[e].chunk(2), w2[e]]
            if dtype == "fp8":
                pieces += [*self.w13_scale[e].chunk(2), self.w2_scale[e]]
            experts.append(reference.Expert(*pieces))
        description = moeopt.Description(hidden=H, intermediate=I, experts=E, top_k=K, dtype=dtype)
        return reference.moe_layer(x, experts, description, ids=ids, weights=weights)


def tokens(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.rand(count, E, generator=generator).argsort(-1)[:, :K].to(torch.int32)
    return (torch.randn(count, H, generator=generator).to(torch.bfloat16), ids,
            torch.rand(count, K, generator=generator))


class Model(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.moe_layers = torch.nn.ModuleList(layers)


@pytest.fixture(params=["new", "old"])
def fake(request):
    with Fake(request.param) as installed:
        yield installed


def method_of(fake, **changes):
    path = "vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method"
    return fake.modules[path].UnquantizedFusedMoEMethod(config(**changes))


def loaded(fake, name="layers.0", seed=0, **changes):
    layer = RoutedExperts(name, method_of(fake, **changes), seed)
    layer.quant_method.process_weights_after_loading(layer)
    return layer


def loaded_fp8(fake, name="layers.0"):
    method = fake.modules["vllm.model_executor.layers.quantization.fp8"].Fp8MoEMethod(config())
    layer = RoutedExperts(name, method, fp8=True)
    method.process_weights_after_loading(layer)
    return layer


def test_stock_without_the_plugin(fake, monkeypatch):
    install(monkeypatch, "off")
    layer = loaded(fake)
    assert (layer.run(*tokens(4)) == 7).all() and TritonExperts.ran == 1


def test_bf16_runs_the_layer(fake, monkeypatch):
    install(monkeypatch)
    layer = loaded(fake)
    assert type(layer.experts).__name__ == "MoeoptExperts" and isinstance(layer.experts, fake.triton)
    packed = layer.experts.moeopt.layer.packed
    # Nothing is stored twice: the parameters are views of the packed memory, with their shapes.
    assert layer.w13_weight.data_ptr() == packed.data_ptr() and layer.w13_weight.shape == (E, 2 * I, H)
    assert layer.w2_weight.untyped_storage().data_ptr() == packed.untyped_storage().data_ptr()
    for count in (1, 5, 40):
        x, ids, weights = tokens(count, seed=count)
        wanted = layer.expected(x, ids, weights)
        assert (layer.run(x, ids, weights).double() - wanted).norm() <= 1e-3 * wanted.norm()
    assert TritonExperts.ran == 0 and layer.experts.moeopt.layer.counters().launches == 3


def test_fp8_runs_the_layer(fake, monkeypatch):
    install(monkeypatch)
    layer = loaded_fp8(fake)
    experts = layer.experts
    defers = experts.expects_unquantized_inputs
    assert defers is True or defers(config(), experts.quant_config) is True
    x, ids, weights = tokens(12)
    wanted = layer.expected(x, ids, weights, "fp8")
    assert (layer.run(x, ids, weights).double() - wanted).norm() <= 1e-2 * wanted.norm()
    assert TritonExperts.ran == 0


def test_expert_maps_padding_and_applied_weights(fake, monkeypatch):
    install(monkeypatch)
    layer = loaded(fake)
    x, ids, weights = tokens(9)
    wanted = layer.expected(x, ids, torch.ones_like(weights))
    assert (layer.run(x, ids, weights, weights_applied=True).double() - wanted).norm() <= 1e-3 * wanted.norm()
    ids[3] = -1  # a row of padding
    assert (layer.run(x, ids, weights)[3] == 0).all()
    halves = []
    for rank in (0, 1):
        half = RoutedExperts("half", method_of(fake, num_local_experts=E // 2))
        for parameter in (half.w13_weight, half.w2_weight):
            parameter.data = parameter.data[rank * E // 2:(rank + 1) * E // 2].clone()
        half.quant_method.process_weights_after_loading(half)
        expert_map = torch.full((E,), -1, dtype=torch.int32)
        expert_map[rank * E // 2:(rank + 1) * E // 2] = torch.arange(E // 2, dtype=torch.int32)
        halves.append(half.run(x, ids, weights, expert_map=expert_map).double())
    wanted = layer.expected(x, ids, weights)
    assert (sum(halves) - wanted).norm() <= 3e-3 * wanted.norm()


REFUSED = {
    "float16": dict(in_dtype=torch.float16), "activation": dict(activation="gelu"), "LoRA": dict(is_lora_enabled=True),
    "bias": dict(has_bias=True), "EPLB": dict(moe_parallel_config=Parallel(enable_eplb=True)),
    "multiple of 64": dict(intermediate_size_per_partition=96), "top_k": dict(experts_per_token=17, num_experts=32),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_kernel_refuses_runs_vllms_own(fake, monkeypatch, text):
    install(monkeypatch)
    layer = loaded(fake, **REFUSED[text])
    assert (layer.run(*tokens(4)) == 7).all()
    if fake.style == "new":
        _, reasons = fake.choose("unquantized", Unquantized.TRITON, config(**REFUSED[text]))
        assert len(reasons) == 1 and text in reasons[0]
    with pytest.raises(AssertionError):  # and its weights are as they were
        assert layer.w13_weight.shape != (E, 2 * I, H)
    assert torch.equal(layer.w13_weight, layer.original[0])


def test_other_devices_and_schemes_are_refused(fake, monkeypatch):
    install(monkeypatch)
    cls, reasons = fake.choose("fp8", Fp8.TRITON, config(), "tensor", "tensor")
    if fake.style == "new":
        assert cls is fake.triton and "no other quantisation" in reasons[0]
    fake.platform.capability = type("Capability", (), {"major": 10, "minor": 0})
    assert (loaded(fake).run(*tokens(2)) == 7).all()
    fake.platform.capability = None
    assert (loaded(fake).run(*tokens(2)) == 7).all()


def test_a_choice_without_the_check_still_runs_vllms_own(fake, monkeypatch):
    """LoRA takes the slot's first class without asking it."""
    install(monkeypatch)
    found = fake.oracle("fp8").backend_to_kernel_cls(Fp8.TRITON)
    first = found[0] if isinstance(found, list) else found
    experts = first(config(is_lora_enabled=True), QuantConfig())
    assert experts.moeopt.reason == "LoRA is enabled"
    out = torch.zeros(2, H, dtype=torch.bfloat16)
    experts.apply(out, None, None, None, None, None, None, None, None, None, None, None, None, None, False)
    assert (out == 7).all()
    assert experts.workspace_shapes(5, 6, 7, 2, 8, 8, None, None) == ((5, 2, 7), (5, 2, 6), (5, 7))


def worker_of(fake, *layers):
    return fake.modules["vllm.v1.worker.gpu_worker"].Worker(Model(list(layers)))


def test_audit_says_what_runs_every_layer(fake, monkeypatch):
    install(monkeypatch)
    good = loaded(fake, "model.layers.0.mlp.experts")
    bad = loaded(fake, "model.layers.1.mlp.experts", activation="gelu")
    worker = worker_of(fake, good, bad)
    assert worker.compile_or_warm_up_model() == "times"
    report = worker.moeopt_status()
    assert (report["applied"], report["declined"], report["launches"]) == (1, 1, 1)
    states = {layer["name"]: layer for layer in report["layers"]}
    assert states["model.layers.0.mlp.experts"]["used"] == "MoeoptExperts"
    declined = states["model.layers.1.mlp.experts"]
    assert declined["state"] == "declined" and ("activation" in declined["reason"] or "Triton" in declined["reason"])
    before = status.launches()
    for step in range(5):
        good.run(*tokens(step + 1))
    assert status.launches() - before == 5


def test_require_refuses_a_model_that_would_run_without_the_kernel(fake, monkeypatch):
    install(monkeypatch, "require")
    if fake.style == "new":
        with pytest.raises(moeopt.NotApplied, match="activation"):
            loaded(fake, activation="gelu")
    else:
        with pytest.raises(moeopt.NotApplied, match="1 of 1 MoE layers"):
            worker_of(fake, loaded(fake, activation="gelu")).compile_or_warm_up_model()
    with pytest.raises(moeopt.NotApplied, match="no MoE layer"):
        worker_of(fake).compile_or_warm_up_model()
    worker_of(fake, loaded(fake)).compile_or_warm_up_model()


def test_require_refuses_a_layer_whose_kernel_never_ran(fake, monkeypatch):
    install(monkeypatch, "require")
    layer = loaded(fake)
    layer.warm_up = lambda: None
    with pytest.raises(moeopt.NotApplied, match="counted no launch"):
        worker_of(fake, layer).compile_or_warm_up_model()


def test_a_layer_that_another_backend_took_is_noticed(fake, monkeypatch):
    install(monkeypatch, "require")
    layer = loaded(fake)
    other = type("FlashInferExperts", (), {})()
    layer.quant_method.moe_kernel = type("Kernel", (), {"fused_experts": other})()
    with pytest.raises(moeopt.NotApplied, match="vLLM chose FlashInferExperts"):
        layer.warm_up = lambda: None
        worker_of(fake, layer).compile_or_warm_up_model()


def test_weights_are_packed_at_the_first_call_where_loading_did_not(fake, monkeypatch):
    install(monkeypatch)
    layer = loaded(fake)
    again = RoutedExperts("lazy", layer.quant_method, seed=4)
    experts = type(layer.experts)(config(), QuantConfig())
    layer.quant_method.moe_kernel = layer.quant_method.kernel = type("Kernel", (), {"fused_experts": experts})()
    x, ids, weights = tokens(6)
    wanted = again.expected(x, ids, weights)
    assert (again.run(x, ids, weights).double() - wanted).norm() <= 1e-3 * wanted.norm()
    assert again.w13_weight.data_ptr() == experts.moeopt.layer.packed.data_ptr()


def test_registering_twice_changes_nothing(fake, monkeypatch):
    install(monkeypatch)
    wrapped = fake.oracle("fp8").backend_to_kernel_cls
    install(monkeypatch)
    assert fake.oracle("fp8").backend_to_kernel_cls is wrapped


def test_poison(fake, monkeypatch):
    monkeypatch.setenv("MOEOPT_POISON", "1")
    install(monkeypatch)
    assert torch.isnan(loaded(fake).run(*tokens(4))).all()


def test_input_and_output_may_share_memory(fake, monkeypatch):
    install(monkeypatch)
    layer = loaded(fake)
    x, ids, weights = tokens(4)
    wanted = layer.run(x, ids, weights)
    ws2 = torch.empty(layer.experts.workspace_shapes(4, 2 * I, H, K, E, E, None, "silu")[1], dtype=torch.bfloat16)
    layer.experts.apply(x, x, layer.w13_weight, layer.w2_weight, weights, ids, "silu", E, None, None, None,
                        ws2, ws2, None, False)
    assert torch.equal(x, wanted)
