"""vLLM's own oracle and modular kernel, run with the plugin on a machine without a GPU: `pytest
tests/python/test_vllm_import.py --site DIR`, DIR holding vLLM 0.26.0 and what it imports (bench/peers/prepare.sh
--engine makes such a folder).

vLLM is told that the platform is a Hopper GPU; tensors are on the CPU and the layer runs its CPU implementation.
"""

import os
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT

SCRIPT = """
import sys, types
sys.modules["vllm._C_stable_libtorch"] = types.ModuleType("vllm._C_stable_libtorch")
import torch
from moeopt._vllm import contract
contract.probe()
import vllm.platforms
from vllm.platforms.interface import DeviceCapability, Platform, PlatformEnum

class Hopper(Platform):
    _enum = PlatformEnum.CUDA
    device_name = device_type = "cuda"
    @classmethod
    def get_device_capability(cls, device_id=0):
        return DeviceCapability(9, 0)
    @classmethod
    def get_device_name(cls, device_id=0):
        return "Hopper"
    @classmethod
    def supports_fp8(cls):
        return True

vllm.platforms._current_platform = hopper = Hopper()
from moeopt import vllm_plugin
vllm_plugin.register()
from vllm.model_executor.layers.fused_moe import activation, config
from vllm.model_executor.layers.fused_moe.oracle import fp8, unquantized
from vllm.model_executor.layers.quantization.utils.quant_utils import kFp8Dynamic128Sym, kFp8Static128BlockSym
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("vllm") and "current_platform" in vars(module):
        module.current_platform = hopper
from vllm.v1.worker.workspace import init_workspace_manager
init_workspace_manager(torch.device("cpu"))
import moeopt
from moeopt import reference

def moe_config(**changes):
    return config.FusedMoEConfig(**(dict(
        num_experts=8, experts_per_token=2, hidden_dim=256, intermediate_size=128, num_local_experts=8,
        num_logical_experts=8, activation=activation.MoEActivation.SILU, device="cpu",
        routing_method=config.RoutingMethodType.Renormalize, in_dtype=torch.bfloat16,
        moe_parallel_config=config.FusedMoEParallelConfig.make_no_parallel()) | changes))

torch.manual_seed(0)
x = torch.randn(5, 256).to(torch.bfloat16)
ids = torch.stack([torch.randperm(8)[:2] for _ in range(5)]).int()
weights = torch.rand(5, 2)
w13 = torch.randn(8, 256, 256).to(torch.bfloat16) / 16
w2 = torch.randn(8, 256, 128).to(torch.bfloat16) / 11

def check(kernel, stored, scales, dtype):
    w1, down = (torch.nn.Parameter(w.clone(), requires_grad=False) for w in stored)
    out = kernel.apply(x, w1, down, weights, ids, activation.MoEActivation.SILU, 8, None, False)
    pieces = [[*stored[0][e].chunk(2), stored[1][e]] for e in range(8)]
    if scales:
        pieces = [p + [*scales[0][e].chunk(2), scales[1][e]] for e, p in enumerate(pieces)]
    description = moeopt.Description(hidden=256, intermediate=128, experts=8, top_k=2, dtype=dtype)
    wanted = reference.moe_layer(x, [reference.Expert(*p) for p in pieces], description, ids=ids, weights=weights)
    assert (out.double() - wanted).norm() <= 1e-2 * wanted.norm(), dtype
    counted = kernel.fused_experts.moeopt.layer.counters()
    assert (counted.launches, counted.tokens) == (1, 5) and w1.shape == (8, 256, 256)

backend, cls = unquantized.select_unquantized_moe_backend(moe_config())
assert cls.__name__ == "MoeoptExperts" and backend.name == "TRITON", (backend, cls)
check(unquantized.make_unquantized_moe_kernel(config.FUSED_MOE_UNQUANTIZED_CONFIG, moe_config(), backend, cls),
      (w13, w2), None, "bf16")

backend, cls = fp8.select_fp8_moe_backend(moe_config(), kFp8Static128BlockSym, kFp8Dynamic128Sym)
assert cls.__name__ == "MoeoptExperts", (backend, cls)
pairs = [[reference.quantise_blocks(w) for w in weight] for weight in (w13, w2)]
stored = [torch.stack([q for q, _ in part]) for part in pairs]
scales = [torch.stack([s for _, s in part]) for part in pairs]
quant = config.fp8_w8a8_moe_quant_config(w1_scale=scales[0], w2_scale=scales[1], block_shape=[128, 128])
check(fp8.make_fp8_moe_kernel(quant, moe_config(), cls, backend), stored, scales, "fp8")

from vllm.plugins.endpoint_plugins.interface import EndpointPlugin
from moeopt import vllm_endpoint
assert isinstance(vllm_endpoint.Plugin(), EndpointPlugin)

for change in (dict(in_dtype=torch.float16), dict(activation=activation.MoEActivation.GELU), dict(hidden_dim=200)):
    backend, cls = unquantized.select_unquantized_moe_backend(moe_config(**change))
    assert cls.__name__ == "TritonExperts", (change, cls)
print("vLLM", vllm.__version__, "chooses and runs the layer")
"""


@pytest.mark.parametrize("mode", ["prefer", "require", "off"])
def test_oracle_and_kernel(request, mode):
    site = request.config.getoption("--site")
    if not site:
        pytest.skip("no --site DIR")
    script = textwrap.dedent(SCRIPT)
    if mode == "require":  # what is refused ends the start
        script = script.replace("    backend, cls = unquantized.select_unquantized_moe_backend(moe_config(**change))\n"
                                "    assert cls.__name__ == \"TritonExperts\", (change, cls)\n",
                                "    try:\n        unquantized.select_unquantized_moe_backend(moe_config(**change))\n"
                                "    except moeopt.NotApplied:\n        continue\n    raise AssertionError(change)\n")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300,
                         env=os.environ | {"MOEOPT_MODE": mode, "PYTHONPATH": os.pathsep.join(
                             [str(ROOT / "python"), site])})
    if mode == "off":
        assert run.returncode != 0 and "TritonExperts" in run.stderr.splitlines()[-1], run.stderr[-2000:]
    else:
        assert run.returncode == 0 and "chooses and runs" in run.stdout, run.stderr[-2000:]
