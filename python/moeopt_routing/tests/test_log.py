"""Loading: both formats, foreign logs, warm-up, broken and hostile files."""

import json
import os
import subprocess

import numpy as np
import pytest
from conftest import META, binary_log, random_records, route, write_jsonl
from moeopt_routing import LogError, load, log as log_module

PROGRAM = os.environ.get("MOEOPT_PROGRAM")


def test_jsonl_columns(log):
    assert len(log) == 12 * 14 * 2
    assert log.n_tokens() == 12 * 14 and log.n_prompts() == 12
    assert log.counts().sum() == 12 * 14 * 2 * 2
    assert (log.phase == 1).sum() == 12 * 8 * 2
    assert not log.missing and not log.truncated
    assert log.weights.dtype == np.float16 and (log.weights[:, 0] >= log.weights[:, 1]).all()


def test_counts_are_those_of_a_plain_count(log):
    want = np.zeros((2, 16), int)
    for layer, ids in zip(log.layer, log.ids):
        want[[1, 3].index(layer), ids] += 1
    assert (log.counts() == want).all()


@pytest.mark.parametrize("n_experts", [16, 300])
def test_binary(tmp_path, n_experts):
    meta = {**META, "n_experts": n_experts, "weights": True}
    ids = np.arange(5 * 2 * 2).reshape(5, 2, 2) % 16
    weights = np.linspace(0, 1, 20).reshape(5, 2, 2)
    path = tmp_path / "log.moer"
    path.write_bytes(binary_log(meta, [("a", [(0, 3, 0), (3, 1, 1), (2, 1, 0x101)], ids, weights)]))
    log = load(path)
    assert log.token.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 2, 2]
    assert log.replayed.tolist() == [False] * 8 + [True] * 2
    assert (log.ids == ids.reshape(10, 2)).all()
    assert np.allclose(log.weights, weights.reshape(10, 2), atol=1e-3)


def test_empty_cells_and_short_rows(tmp_path):
    path = tmp_path / "log.moer"
    path.write_bytes(binary_log(META, [("a", [(0, 1, 0)], [3, 255, 255, 255], [1, 0, 0, 0])]))
    log = load(path)
    assert log.ids.tolist() == [[3, log_module.NO_EXPERT]]
    assert log.counts().tolist() == [[0, 0, 0, 1] + [0] * 12]


FOREIGN = {"type": "meta", "model_id": "Qwen/Qwen1.5-MoE-A2.7B", "vllm_version": "0.15.1", "seed": 1234, "layers_logged": [0], "top_k": 4}


def foreign_records(n_warm, n_real, seed=1):
    rng = np.random.default_rng(seed)
    warm = [route("r1", t, 0, [43, 5, 7, 58], [0.1, 0.05, 0.04, 0.03]) for t in range(n_warm)]
    real = [route("r1", t, 0, rng.choice(60, 4, replace=False), np.sort(rng.random(4))[::-1]) for t in range(n_real)]
    return warm + real


def test_foreign_log_names_what_is_missing_and_leaves_warmup_out(tmp_path):
    path = write_jsonl(tmp_path / "f.jsonl", foreign_records(500, 100), FOREIGN)
    log = load(path)
    assert log.missing == ["schema", "program", "n_layers", "n_experts", "router", "started"]
    assert log.warmup_left_out == 500 and len(log) == 100
    assert log.n_experts <= 60
    kept = load(path, keep_warmup=True)
    assert len(kept) == 600 and kept.warmup_left_out == 0


def test_tokens_beyond_the_announced_are_left_out(tmp_path):
    meta = {**FOREIGN, "requests": {"r1": 40}}
    log = load(write_jsonl(tmp_path / "f.jsonl", foreign_records(0, 100), meta))
    assert len(log) == 40 and log.warmup_left_out == 60


def test_own_logs_are_never_cleaned(tmp_path):
    records = [route("r", t, 1, [1, 2], [0.5, 0.5]) for t in range(200)]
    assert len(load(write_jsonl(tmp_path / "l.jsonl", records))) == 200


def test_without_header_and_weights(tmp_path):
    records = [route("a", t, layer, [t % 3, 7]) for layer in (2, 7) for t in range(5)]
    log = load(write_jsonl(tmp_path / "l.jsonl", records, None))
    assert log.layers.tolist() == [2, 7] and log.weights is None and log.n_experts == 8


def test_parts_are_one_log(tmp_path):
    a = write_jsonl(tmp_path / "a", random_records(3, seed=1))
    b = write_jsonl(tmp_path / "b", random_records(3, seed=2))
    log = load([a, b])
    assert len(log) == 2 * 3 * 14 * 2
    # Totals count the recording up to there: those of its last part, not their sum.
    totals = [json.dumps({"type": "totals", "requests": 3 * n, "dropped_requests": 2 * n}) for n in (1, 2)]
    a = write_jsonl(tmp_path / "a", random_records(3, seed=1) + [totals[0]])
    b = write_jsonl(tmp_path / "b", random_records(3, seed=2) + [totals[1]], {**META, "part": 1})
    assert load([a, b]).totals["dropped_requests"] == 4
    c = write_jsonl(tmp_path / "d", random_records(3, seed=2) + [totals[1]], {**META, "started": "2027-01-01T00:00:00Z"})
    assert load([a, c]).totals["dropped_requests"] == 6
    other = write_jsonl(tmp_path / "c", random_records(1), {**META, "model_id": "other"})
    with pytest.raises(LogError, match="another model_id"):
        load([a, other])


BAD = route("r", 0, 1, [1, 2], [0.5, 0.5])


@pytest.mark.parametrize(
    "text,match",
    [
        ("", "empty"),
        ("hello\n", ":1: not valid JSON"),
        ("[]\n", "not a routing log"),
        (json.dumps({**META, "schema": "moeopt-routing/9"}), "moeopt-routing/9"),
        (json.dumps({**META, "n_experts": -1}), "n_experts"),
        (json.dumps({**META, "layers_logged": ["x"]}), "layers_logged"),
        (json.dumps(META), "no routes"),
        (json.dumps({"type": "meta"}) + "\n", "no routes"),
        (json.dumps(META) + "\n" + BAD.replace("[1, 2]", "[1, 16]") + "\n", ":2: .topk_ids"),
        (json.dumps(META) + "\n" + BAD.replace("[1, 2]", "[1, -2]") + "\n", ":2: .topk_ids"),
        (json.dumps(META) + "\n" + BAD.replace("[1, 2]", "[1, 2, 3]") + "\n", ":2: .topk_ids"),
        (json.dumps(META) + "\n" + BAD.replace("[1, 2]", '"x"') + "\n", ":2: .topk_ids"),
        (json.dumps(META) + "\n" + BAD + "\n" + BAD.replace("[0.5", "[NaN") + "\n", ":3: not valid JSON: NaN"),
        (json.dumps(META) + "\n" + BAD.replace("[0.5", "[1e30") + "\n", ":2: .topk_weights"),
        (json.dumps(META) + "\n" + BAD.replace("[0.5, ", "[") + "\n", ":2: .topk_weights"),
        (json.dumps(META) + "\n" + BAD.replace('"layer": 1', '"layer": 2') + "\n", ":2: .layer"),
        (json.dumps(META) + "\n" + BAD.replace('"token_idx": 0', '"token_idx": -1') + "\n", ":2: .token_idx"),
        (json.dumps(META) + "\n" + BAD.replace('"token_idx": 0', '"token_idx": 99999999999') + "\n", ":2: .token_idx"),
        (json.dumps(META) + "\n" + BAD.replace('"req_id": "r", ', "") + "\n", ":2: .req_id"),
        (json.dumps(META) + "\n" + BAD.replace('"route"', '"surprise"') + "\n", ":2: .type"),
        (json.dumps(META) + "\n" + "{" + "\n" + BAD + "\n", ":2: not valid JSON"),
        (json.dumps(META) + "\n" + json.dumps({**META, "n_experts": 8}) + "\n" + BAD + "\n", ":2: a second header"),
        (json.dumps(META) + "\n" + BAD + "\n" + json.dumps({**META, "schema": "moeopt-routing/2"}) + "\n", ":3: .schema"),
        (json.dumps(META) + "\n" + "x" * (40 << 20), "longer than"),
    ],
)  # fmt: skip
def test_broken_logs_say_where_and_what(tmp_path, text, match):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(LogError, match=match):
        load(path, program="")


def test_cut_jsonl_is_read_up_to_its_last_full_record(tmp_path):
    whole = write_jsonl(tmp_path / "w", random_records(2)).read_bytes()
    path = tmp_path / "cut"
    first = whole.index(b"]}") + 2
    for cut in range(first, len(whole), 97):
        path.write_bytes(whole[:cut])
        log = load(path, program="")
        n_whole = whole[:cut].count(b"]}\n") + (whole[:cut].endswith(b"]}"))
        assert len(log) == n_whole
        assert log.truncated == (not whole[:cut].endswith((b"\n", b"]}")))


def test_cut_and_flipped_binary(tmp_path):
    ids, weights = np.ones((4, 2, 2)), np.ones((4, 2, 2))
    one = binary_log(META, [("a", [(0, 4, 0)], ids, weights)])
    two = binary_log(META, [("a", [(0, 4, 0)], ids, weights)] * 2)
    path = tmp_path / "log.moer"
    for cut in range(len(one), len(two)):
        path.write_bytes(two[:cut])
        log = load(path)
        assert len(log) == 8 and log.truncated == (cut != len(one))
    for at in range(8, len(one), 3):
        bad = bytearray(one)
        bad[at] ^= 0x10
        path.write_bytes(bytes(bad))
        with pytest.raises(LogError):
            load(path)


@pytest.mark.skipif(not PROGRAM, reason="MOEOPT_PROGRAM names no program")
def test_the_converter_gives_the_same_log(tmp_path, monkeypatch):
    for name, path in (
        ("own", write_jsonl(tmp_path / "own.jsonl", random_records(20, seed=4))),
        ("foreign", write_jsonl(tmp_path / "foreign.jsonl", foreign_records(300, 200), FOREIGN)),
    ):
        here = load(path, program="")
        monkeypatch.setattr(log_module, "CONVERT_BYTES", 0)
        there = load(path, program=PROGRAM)
        monkeypatch.undo()
        assert here.missing == there.missing, name
        assert here.warmup_left_out == there.warmup_left_out
        for column in ("request", "token", "layer", "phase", "ids", "weights"):
            assert (getattr(here, column) == getattr(there, column)).all(), column
        done = subprocess.run([PROGRAM, "routing", "stats", "--json", str(path)], capture_output=True, check=True)
        rows = [layer["rows"] for layer in json.loads(done.stdout)["layers"]]
        kept = load(path, keep_warmup=True, program="")
        assert (np.array(rows) == kept.counts()).all()
