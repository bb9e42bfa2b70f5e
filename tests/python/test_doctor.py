"""`python -m moeopt.doctor`: what it finds, and that it stops a start that would go without us."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from fake_vllm import Fake

from moeopt import doctor


def run(*arguments, **environment):
    return subprocess.run([sys.executable, "-m", "moeopt.doctor", *arguments], capture_output=True, text=True,
                          timeout=170, env=os.environ | {"PYTHONPATH": str(ROOT / "python")} | environment)


def test_json_names_every_part():
    answer = json.loads(run("--json").stdout)
    assert [f["what"] for f in answer["findings"]] == ["environment", "libmoeopt", "torch", "GPU", "Transformers", "vLLM"]
    assert {f["state"] for f in answer["findings"]} <= {"ok", "no", "absent"}


def test_a_missing_library_is_said_and_required():
    answer = run("--require", "--", sys.executable, "-c", "print('started')", MOEOPT_LIBRARY="/nowhere/libmoeopt.so")
    assert answer.returncode == 1 and "/nowhere/libmoeopt.so" in answer.stdout and "started" not in answer.stdout
    answer = run("--", sys.executable, "-c", "print('started')", MOEOPT_LIBRARY="/nowhere/libmoeopt.so")
    assert answer.returncode == 0 and "started" in answer.stdout


def test_a_wrong_environment_is_said_first():
    answer = run("--require", MOEOPT_MODE="perhaps")
    assert answer.returncode == 1 and "MOEOPT_MODE is 'perhaps'" in answer.stderr


class Point:
    name = "moeopt"

    def load(self):
        return None


@pytest.fixture
def vllm(monkeypatch):
    versions = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0" if name == "vllm" else versions(name))
    points = [Point()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    with Fake("new") as fake:
        fake.points = points
        yield fake


def test_vllm_and_every_way_in_which_it_would_run_without_us(vllm, monkeypatch):
    assert doctor.vllm() == doctor.Finding("vLLM", "ok", "0.0: through the oracles")
    monkeypatch.setenv("VLLM_PLUGINS", "other")
    assert "leaves moeopt out" in doctor.vllm().text and doctor.vllm().state == "no"
    monkeypatch.setenv("VLLM_PLUGINS", "other,moeopt")
    assert doctor.vllm().state == "ok"
    monkeypatch.setenv("MOEOPT_MODE", "off")
    assert "MOEOPT_MODE is off" in doctor.vllm().text
    monkeypatch.delenv("MOEOPT_MODE")
    vllm.triton.apply = lambda self: None
    assert "TritonExperts.apply lost" in doctor.vllm().text
    vllm.points.clear()
    assert "no vllm.general_plugins entry point" in doctor.vllm().text


def test_a_plugin_whose_import_fails_is_said(vllm, monkeypatch):
    def load(self):
        raise ImportError("no such symbol")
    monkeypatch.setattr(Point, "load", load)
    assert doctor.vllm() == doctor.Finding("vLLM", "no", "0.0: ImportError: no such symbol")
