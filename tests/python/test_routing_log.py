"""The routing log of vLLM, the whole way from the layers to the file on a stand-in of vLLM."""

import gc
import json
import types

import numpy as np
import pytest
import torch
from fake_vllm import Fake, NewRequest, SchedulerOutput
from test_vllm_engine import E, H, K, Model, install, loaded

import moeopt
from moeopt._vllm import log_settings, recorder

def test_settings():
    assert log_settings.wanted({}) is None
    found = log_settings.wanted({"VLLM_LOG_MOE": "a.jsonl", "MOEOPT_LOG_MOE": "b.jsonl", "VLLM_LOG_MOE_LAYER": "0,2-3",
                                 "VLLM_LOG_MOE_SEED": "9", "VLLM_LOG_MOE_MODEL_ID": "m", "VLLM_LOG_MOE_REQ_ID": "r"})
    assert found == log_settings.Wanted("b.jsonl", "0,2-3", "m", "r", 9)
    assert found.names("r") and found.names("r-1a2b") and not found.names("r1")
    assert found.of_rank(0) is found and found.of_rank(4).file == "b.rank4.jsonl"
    assert log_settings.selected("0-999999999999,2", range(3)) == [0, 1, 2]
    assert log_settings.selected("0,2-3", range(3)) == [0, 2] and log_settings.selected("all", range(2)) == [0, 1]
    for bad in ({"VLLM_LOG_MOE_LAYER": "1-"}, {"VLLM_LOG_MOE_SEED": "x"}):
        with pytest.raises(moeopt.ArgumentError):
            log_settings.wanted({"VLLM_LOG_MOE": "a", **bad})


def engine_config(layers=2, tokens=16, **parallel):
    text = types.SimpleNamespace(num_hidden_layers=layers)
    return types.SimpleNamespace(
        model_config=types.SimpleNamespace(hf_text_config=text, model="some/model"), speculative_config=None,
        scheduler_config=types.SimpleNamespace(max_num_batched_tokens=tokens, max_num_seqs=4),
        parallel_config=types.SimpleNamespace(**({"tensor_parallel_size": 1, "data_parallel_size": 1} | parallel)))


@pytest.fixture(params=["new", "old"])
def fake(request):
    with Fake(request.param) as installed:
        yield installed
    recorder.active = None
    gc.collect()  # layers that are gone leave no status behind


class Engine:
    """A worker over two layers whose steps run random rows, padded to 16, and remember what they were given."""

    def __init__(self, fake, config=None):
        self.given = {}
        self.seed = 0
        names = [f"model.layers.{n}.mlp.experts" for n in range(2)]
        self.worker = fake.modules["vllm.v1.worker.gpu_worker"].Worker(
            None, config or engine_config(), lambda: Model([loaded(fake, name, seed=i) for i, name in enumerate(names)]),
            self.forward)
        self.worker.load_model()
        self.worker.compile_or_warm_up_model()

    def forward(self, scheduled):
        starts = {r.req_id: r.num_computed_tokens for r in scheduled.scheduled_new_reqs} | scheduled.positions
        for layer, module in enumerate(self.worker.model_runner.model.moe_layers):
            self.seed += 1
            generator = torch.Generator().manual_seed(self.seed)
            ids = torch.rand(16, E, generator=generator).argsort(-1)[:, :K].to(torch.int32)
            weights = torch.rand(16, K, generator=generator)
            module.run(torch.randn(16, H, generator=generator).to(torch.bfloat16), ids, weights)
            row = 0
            for name, count in scheduled.num_scheduled_tokens.items():
                for position in range(starts[name], starts[name] + count):
                    self.given[name, position, layer] = ids[row].tolist(), weights[row].to(torch.float16).tolist()
                    row += 1

    def run(self):
        """Two requests, the second joining in, the first ending first."""
        for scheduled in (SchedulerOutput({"a": 5}, [NewRequest("a", [0] * 5)]),
                          SchedulerOutput({"b": 7, "a": 1}, [NewRequest("b", [0] * 9)], {"a": 5}),
                          SchedulerOutput({"b": 2}, [], {"b": 7}, {"a"}), SchedulerOutput({"b": 1}, [], {"b": 9}),
                          SchedulerOutput({}, finished_req_ids={"b"})):
            self.worker.execute_model(scheduled)
        return self.worker.shutdown()


def routes(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return lines, {(r["req_id"], r["token_idx"], r["layer"]): (r["topk_ids"], r["topk_weights"]) for r in lines
                   if r["type"] == "route"}


def test_the_log_is_what_the_layers_were_given(fake, monkeypatch, tmp_path):
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("VLLM_LOG_MOE", str(path))
    install(monkeypatch, "require")
    engine = Engine(fake)
    assert engine.run() == "down"
    lines, found = routes(path)
    assert set(found) == set(engine.given) and len(found) == 2 * 16
    for key, (ids, weights) in engine.given.items():
        assert found[key][0] == ids and np.array_equal(np.float16(found[key][1]), np.float16(weights))
    assert lines[0]["model_id"] == "some/model" and lines[-1]["tokens"] == 16 and "partial" not in lines[1]
    assert [line["phase"] for line in lines if line.get("req_id") == "b" and line.get("layer") == 0] == \
        ["prefill"] * 9 + ["decode"]
    report = engine.worker.moeopt_status()["routing_log"]
    assert (report["state"], report["tokens"], report["lost_steps"]) == ("closed", 16, 0)


def test_layers_and_one_request(fake, monkeypatch, tmp_path):
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("VLLM_LOG_MOE", str(path))
    monkeypatch.setenv("VLLM_LOG_MOE_LAYER", "1")
    monkeypatch.setenv("VLLM_LOG_MOE_REQ_ID", "b")
    install(monkeypatch, "require")
    engine = Engine(fake)
    engine.run()
    _, found = routes(path)
    assert set(found) == {key for key in engine.given if key[0] == "b" and key[2] == 1}


def test_without_the_variable_nothing_is_made(fake, monkeypatch):
    install(monkeypatch, "require")
    worker = fake.modules["vllm.v1.worker.gpu_worker"].Worker
    assert not hasattr(worker.execute_model, "__wrapped__") and not hasattr(worker.load_model, "__wrapped__")
    engine = Engine(fake)
    engine.run()
    assert recorder.active is None and engine.worker.moeopt_status()["routing_log"] is None
    assert all(layer.experts.moeopt.log is None for layer in engine.worker.model_runner.model.moe_layers)


@pytest.mark.parametrize("text, config", [("data parallelism", engine_config(data_parallel_size=2)),
                                          ("speculative", engine_config())])
def test_what_cannot_be_told_apart_is_declined(fake, monkeypatch, tmp_path, text, config):
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("VLLM_LOG_MOE", str(path))
    install(monkeypatch, "require")
    if text == "speculative":
        config.speculative_config = object()
    engine = Engine(fake, config)
    engine.run()
    report = engine.worker.moeopt_status()["routing_log"]
    assert report["state"] == "declined" and text in report["reason"] and not path.exists()


def test_a_batch_of_unknown_order_is_declined(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("VLLM_LOG_MOE", str(tmp_path / "log.jsonl"))
    install(monkeypatch, "require")
    engine = Engine(fake)
    engine.worker.forward = lambda scheduled: setattr(engine.worker.model_runner, "input_batch", None)
    engine.worker.execute_model(SchedulerOutput({"a": 5}, [NewRequest("a", [0] * 5)]))
    report = engine.worker.moeopt_status()["routing_log"]
    assert report["state"] == "declined" and "where its rows lie" in report["reason"]
    engine.worker.shutdown()


def test_a_step_without_free_memory_is_lost_with_its_requests(fake, monkeypatch, tmp_path):
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("VLLM_LOG_MOE", str(path))
    install(monkeypatch, "require")
    monkeypatch.setattr(recorder.Recorder, "_copy", lambda self, tokens, real=recorder.Recorder._copy:
                        None if tokens == 8 else real(self, tokens))
    engine = Engine(fake)
    engine.run()
    lines, found = routes(path)
    assert not found and (lines[-1]["dropped_requests"], lines[-1]["requests"]) == (2, 0)
    assert engine.worker.moeopt_status()["routing_log"]["lost_steps"] == 1
