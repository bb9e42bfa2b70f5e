"""vLLM's plugin where torch may be absent: the probe of the contract, the modes, the entry points."""

import dataclasses
import logging
import sys

import pytest
from conftest import HAS_TORCH, ROOT
from fake_vllm import Fake

import moeopt

MOE = "vllm.model_executor.layers.fused_moe"


@pytest.fixture(params=["new", "old"])
def fake(request):
    with Fake(request.param) as installed:
        yield installed


def probe():
    from moeopt._vllm import contract
    return contract.probe()


def test_probe_accepts_both_styles(fake):
    found = probe()
    assert found.triton_experts is fake.triton and found.block_fp8_keys == ("block", "dynamic")
    assert (found.unquantized_oracle is not None) == (fake.style == "new") == found.defer_is_property
    assert (found.unquantized_method is not None) == (fake.style == "old")


def other(**changes):
    return dataclasses.make_dataclass("FusedMoEConfig", ["num_experts"])


BREAKS = {
    "TritonExperts.apply lost hidden_states": lambda f: setattr(f.triton, "apply", lambda self, output: None),
    "TritonExperts.workspace_shapes": lambda f: setattr(f.triton, "workspace_shapes", lambda self, M, N: None),
    "TritonExperts.is_supported_config": lambda f: setattr(f.triton, "is_supported_config", lambda cls, config: None),
    "expects_unquantized_inputs": lambda f: setattr(f.triton, "expects_unquantized_inputs", True),
    "FusedMoEConfig has no experts_per_token": lambda f: setattr(f.modules[f"{MOE}.config"], "FusedMoEConfig", other()),
    "oracle.fp8.backend_to_kernel_cls takes": lambda f: setattr(f.oracle("fp8"), "backend_to_kernel_cls",
                                                                lambda backend, config: None),
    "has no TRITON": lambda f: setattr(f.oracle("fp8"), "Fp8MoeBackend", type("Fp8MoeBackend", (), {})),
    "has no kFp8Dynamic128Sym": lambda f: delattr(
        f.modules["vllm.model_executor.layers.quantization.utils.quant_utils"], "kFp8Dynamic128Sym"),
    "has no Worker": lambda f: delattr(f.modules["vllm.v1.worker.gpu_worker"], "Worker"),
    "Worker.compile_or_warm_up_model gained": lambda f: setattr(
        f.modules["vllm.v1.worker.gpu_worker"].Worker, "compile_or_warm_up_model", lambda self, sizes: None),
}


@pytest.mark.parametrize("text", BREAKS)
def test_an_unknown_contract_is_refused_by_name_and_nothing_is_patched(fake, text, monkeypatch, caplog):
    BREAKS[text](fake)
    from moeopt._vllm import contract
    with pytest.raises(contract.UnknownContract) as caught:
        contract.probe()
    assert text in str(caught.value) and "vLLM 0.0-fake" in str(caught.value)
    before = fake.oracle("fp8").backend_to_kernel_cls
    if not HAS_TORCH:
        return  # register() imports the experts class
    from moeopt import vllm_plugin
    monkeypatch.setenv("MOEOPT_MODE", "require")
    with pytest.raises(moeopt.NotApplied, match="require"):
        vllm_plugin.register()
    monkeypatch.setenv("MOEOPT_MODE", "prefer")
    with caplog.at_level(logging.WARNING, "moeopt"):
        vllm_plugin.register()
    assert "vLLM is left as it is" in caplog.text
    assert fake.oracle("fp8").backend_to_kernel_cls is before and not fake.registered


def test_new_parameters_with_defaults_are_fine(fake):
    wrapped = fake.triton.apply
    fake.triton.apply = lambda self, output, hidden_states, w1, w2, topk_weights, topk_ids, activation, \
        global_num_experts, expert_map, a1q_scale, a2_scale, workspace13, workspace2, expert_tokens_meta, \
        apply_router_weight_on_input, extra=None: wrapped(self, output)
    probe()


def test_a_missing_module_is_named(fake):
    del sys.modules["vllm.v1.worker.gpu_worker"]
    from moeopt._vllm import contract
    with pytest.raises(contract.UnknownContract, match="no module vllm.v1.worker.gpu_worker"):
        contract.probe()


def test_off_touches_nothing(fake, monkeypatch):
    before = fake.oracle("fp8").backend_to_kernel_cls
    monkeypatch.setenv("MOEOPT_MODE", "off")
    from moeopt import vllm_plugin
    vllm_plugin.register()
    assert fake.oracle("fp8").backend_to_kernel_cls is before
    assert "moeopt._vllm.install" not in sys.modules


def test_the_entry_module_imports_the_standard_library_alone():
    """vLLM drops a plugin whose import fails, and says so in its log alone."""
    import ast
    tree = ast.parse((ROOT / "python" / "moeopt" / "vllm_plugin.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Import):
            assert all(alias.name in sys.stdlib_module_names for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module in sys.stdlib_module_names


def test_modes_by_name(monkeypatch):
    from moeopt import settings, vllm_plugin
    assert settings.mode(named=False) is settings.Mode.PREFER and settings.mode(named=True) is settings.Mode.REQUIRE
    monkeypatch.setenv("VLLM_PLUGINS", "a, moeopt")
    assert vllm_plugin.named_by_user()
    monkeypatch.setenv("VLLM_PLUGINS", "a")
    assert not vllm_plugin.named_by_user()
    monkeypatch.setenv("MOEOPT_MODE", "sometimes")
    with pytest.raises(moeopt.ArgumentError, match="MOEOPT_MODE is 'sometimes'"):
        settings.mode(named=True)
    monkeypatch.setenv("MOEOPT_POISON", "yes")
    with pytest.raises(moeopt.ArgumentError, match="MOEOPT_POISON"):
        settings.poison()
