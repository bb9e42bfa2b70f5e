"""The plugin's contract against vLLM's own sources: `pytest tests/python/test_vllm_wheels.py --wheels DIR`, DIR
holding vllm-*.whl as `pip download --no-deps vllm==VERSION` leaves them. Needs neither a GPU nor vLLM's needs.

Only signatures are looked at, of modules that skeleton.py makes from the sources inside the wheel.
"""

import importlib
import pathlib
import re
import sys
import types
import zipfile

import pytest
import skeleton

MOE = "vllm/model_executor/layers/fused_moe"
# Where vLLM's classes that are not in the module that is probed come from: base classes whose methods count.
INHERITED = {"TritonExperts": ("modular_kernel", ("is_supported_config", "expects_unquantized_inputs"))}
FILES = [f"{MOE}/experts/triton_moe.py", f"{MOE}/fused_moe.py", f"{MOE}/config.py", f"{MOE}/modular_kernel.py",
         f"{MOE}/oracle/unquantized.py", f"{MOE}/oracle/fp8.py", f"{MOE}/unquantized_fused_moe_method.py",
         "vllm/model_executor/layers/quantization/fp8.py",
         "vllm/model_executor/layers/quantization/utils/quant_utils.py", "vllm/v1/worker/gpu_worker.py"]


def pytest_generate_tests(metafunc):
    folder = metafunc.config.getoption("--wheels")
    wheels = sorted(pathlib.Path(folder).glob("vllm-*.whl")) if folder else []
    metafunc.parametrize("wheel", wheels or [pytest.param(None, marks=pytest.mark.skip("no --wheels DIR"))],
                         ids=[wheel.name.split("-")[1] for wheel in wheels] or ["none"])


class Sources:
    """A wheel's modules as skeletons, in sys.modules while it is entered."""

    def __init__(self, wheel):
        self.archive = zipfile.ZipFile(wheel)
        self.names = set(self.archive.namelist())
        self.version = wheel.name.split("-")[1]

    def text(self, path):
        return self.archive.read(path).decode()

    def __enter__(self):
        self.hidden = {n: m for n, m in sys.modules.items() if n == "vllm" or n.startswith("vllm.")}
        for name in self.hidden:
            del sys.modules[name]
        made = {}
        for path in FILES:
            if path in self.names:
                name = path[:-3].replace("/", ".")
                for end in [i for i, c in enumerate(name) if c == "."]:
                    made.setdefault(name[:end], self._package(name[:end]))
                made[name] = skeleton.module(name, self.text(path))
        made["vllm"].__version__ = self.version
        self._inherit(made)
        sys.modules.update(made)
        self.made = made
        return self

    def __exit__(self, *_):
        for name in [n for n in sys.modules if n == "vllm" or n.startswith("vllm.")]:
            del sys.modules[name]
        sys.modules.update(self.hidden)

    @staticmethod
    def _package(name):
        package = types.ModuleType(name)
        package.__path__ = []
        return package

    @staticmethod
    def _inherit(made):
        """What TritonExperts gets from its base in modular_kernel, and the methods from theirs."""
        moe = MOE.replace("/", ".")
        kernel = made[f"{moe}.modular_kernel"]
        bases = [c for c in vars(kernel).values() if isinstance(c, type) and hasattr(c, "is_supported_config")]
        for path in (f"{moe}.experts.triton_moe", f"{moe}.fused_moe"):
            experts = getattr(made.get(path), "TritonExperts", None)
            for name in INHERITED["TritonExperts"][1]:
                if experts is not None and name not in vars(experts):
                    setattr(experts, name, next(vars(b)[name] for b in bases if name in vars(b)))
        method = made[f"{moe}.unquantized_fused_moe_method"].UnquantizedFusedMoEMethod
        if not hasattr(method, "register_oot"):
            method.register_oot = classmethod(lambda cls, other=None, name=None: None)


def test_the_contract_holds(wheel):
    from moeopt._vllm import contract
    with Sources(wheel) as sources:
        found = contract.probe()
    assert found.version == sources.version
    old = tuple(map(int, sources.version.split(".")[:2])) < (0, 16)
    assert (found.unquantized_method is not None) == old and (found.unquantized_oracle is None) == old
    assert found.defer_is_property == (not old)


def test_what_the_plugin_reads_elsewhere(wheel):
    """Beyond what probe() looks at: names by which install.py and experts.py find things."""
    with Sources(wheel) as sources:
        method = sources.text(f"{MOE}/unquantized_fused_moe_method.py")
        fp8 = sources.text("vllm/model_executor/layers/quantization/fp8.py")
        kernel = sources.text(f"{MOE}/modular_kernel.py")
        oracles = [sources.text(f"{MOE}/oracle/{name}.py") for name in ("unquantized", "fp8")]
        worker = sources.text("vllm/v1/worker/gpu_worker.py")
    assert re.search(r"self\.(moe_kernel|kernel)\b", method) and re.search(r"self\.(moe_kernel|moe_mk|kernel)\b", fp8)
    assert "w13_weight" in method and "w2_weight" in method and "def process_weights_after_loading" in fp8
    assert "self.fused_experts = fused_experts" in kernel
    # Looked up at every choice, as a global of the module that is patched.
    assert all("backend_to_kernel_cls(backend)" in text for text in oracles if "def backend_to_kernel_cls" in text)
    assert "self.model_runner" in worker
    # The output may lie in workspace13, so that scratch must be workspace2.
    assert re.search(r"fused_out = _resize_cache\(common_workspace", kernel)


def test_the_loader_and_the_endpoints(wheel):
    with Sources(wheel) as sources:
        plugins = sources.text("vllm/plugins/__init__.py")
        has_endpoints = "vllm/plugins/endpoint_plugins/interface.py" in sources.names
        interface = sources.text("vllm/plugins/endpoint_plugins/interface.py") if has_endpoints else ""
    assert '"vllm.general_plugins"' in plugins and "VLLM_PLUGINS" in plugins
    if has_endpoints:
        assert '"vllm.endpoint_plugins"' in plugins
        for name in ("def attach_router(self, app", "async def init_state", "required_tasks", "name: str"):
            assert name in interface


def test_a_changed_contract_is_refused(wheel, monkeypatch):
    """The probe on these very sources, with one argument renamed."""
    from moeopt._vllm import contract
    with Sources(wheel) as sources:
        original = Sources.text
        monkeypatch.setattr(Sources, "text",
                            lambda self, path: original(self, path).replace("topk_ids: torch.Tensor,",
                                                                            "topk_table: torch.Tensor,"))
        with Sources(wheel):
            with pytest.raises(contract.UnknownContract, match="TritonExperts.apply lost topk_ids"):
                contract.probe()
    assert sources.version in wheel.name
    importlib.invalidate_caches()
