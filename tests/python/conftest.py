"""What the tests of python/moeopt share. One suite for both places: on a machine with a Hopper GPU it runs the
kernel, elsewhere the CPU implementation; MOEOPT_TEST_DEVICE=cuda makes a missing GPU a failure.

Needs no network. Without torch only the tests that need none run.
"""

import importlib.util
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

HAS_TORCH = importlib.util.find_spec("torch") is not None
NO_TORCH = {"test_abi.py", "test_describe.py", "test_package.py", "test_doctor.py", "test_vllm_stub.py"}
if importlib.util.find_spec("numpy") is not None:
    NO_TORCH.add("test_routing_writer.py")


def pytest_addoption(parser):
    parser.addoption("--site", default="", help="a folder with vLLM and what it imports, to run its oracle without a GPU")
    parser.addoption("--wheels", default="", help="a folder of vLLM wheels to hold the plugin's contract against")


def pytest_configure(config):
    if HAS_TORCH:
        import torch
        torch.set_num_threads(1)  # layers of toy size: on a busy machine threads wait for each other


def pytest_ignore_collect(collection_path, config):
    if not HAS_TORCH and collection_path.name.startswith("test_") and collection_path.name not in NO_TORCH:
        return True
    return None


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("MOEOPT_MODE", "MOEOPT_POISON", "VLLM_PLUGINS", "VLLM_LOG_MOE", "MOEOPT_LOG_MOE"):
        monkeypatch.delenv(name, raising=False)


def pytest_report_header(config):
    if not HAS_TORCH:
        return "moeopt: torch is not installed; its tests are left out"
    import torch
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU alone"
    return f"moeopt: torch {torch.__version__} on {where}, MOEOPT_LIBRARY={os.environ.get('MOEOPT_LIBRARY', '')}"
