"""The routing log's writer: its two forms, and requests out of an engine's steps. Needs numpy, not torch."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from moeopt import routing_format, routing_writer

PROGRAM = ROOT / "build" / "release" / "moeopt"
HEADER = dict(program="test", model_id="m", n_layers=3, n_experts=8, top_k=2, router="softmax", seed=5,
              started="2026-01-01T00:00:00Z")


def request(weights=None):
    ids = np.array([[[0, 1], [2, 7]], [[3, 4], [5, 255]], [[6, 7], [1, 0]]], np.uint8)
    values = np.array([0.5, 0.25, 1 / 3, 6e-8, 1.0, 0.1, 0.0999, 0, 65504, 0.7, 1e-4, 0.3]).reshape(3, 2, 2)
    spans = (routing_format.Span(0, 2, 0, False), routing_format.Span(2, 1, 1, True))
    return routing_format.Request('a"\n', 2, 0, False, spans, ids, (values if weights is None else weights).astype("<f2"))


@pytest.mark.parametrize("suffix", ["jsonl", "moer"])
def test_both_forms_are_the_programs_own(tmp_path, suffix):
    """What the program makes of a log in the other form is this form, byte for byte."""
    if not PROGRAM.exists():
        pytest.skip("build/release/moeopt is not built")
    header = routing_format.Header(**HEADER, layers=(0, 2))
    files = {}
    for name in ("jsonl", "moer"):
        encode = routing_format.encoder(f"x.{name}")
        totals = {"requests": 1, "tokens": 3, "replayed_tokens": 1}
        files[name] = encode.header(header) + encode.request(header, request()) + encode.totals(totals)
    other = {"jsonl": "moer", "moer": "jsonl"}[suffix]
    (tmp_path / f"in.{other}").write_bytes(files[other])
    run = subprocess.run([PROGRAM, "routing", "convert", f"in.{other}", f"out.{suffix}"], cwd=tmp_path,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / f"out.{suffix}").read_bytes() == files[suffix]


def step(rows, new=None, done=(), layers=2, first=0, **more):
    """A frame and its arrays: token t of the step has ids 2t, 2t + 1 in slot 0, one more in slot 1."""
    count = sum(n for *_, n in rows)
    ids = np.array([[[(first + 2 * t + i + slot) % 8 for i in range(2)] for t in range(count)]
                    for slot in range(layers)], np.uint8)
    weights = np.full(ids.shape, 0.5, "<f2")
    about = {"kind": "step", "rows": rows, "new": new or {}, "done": list(done), **more}
    return about, b"" if more.get("lost") else ids.tobytes() + weights.tobytes()


def written(*steps, memory=1 << 20, close=True):
    out = io.BytesIO()
    writer = routing_writer.Writer(out, "x.jsonl", memory)
    writer.frame({"kind": "meta", "part_of": [2, 0], **HEADER}, b"")
    for about, payload in steps:
        writer.frame(about, payload)
    if close:
        writer.close()
    assert writer.whole == len(out.getvalue())
    return [json.loads(line) for line in out.getvalue().decode().splitlines()]


def test_requests_come_whole_with_positions_phases_and_layers():
    lines = written(step([["a", 0, 3], ["b", 4, 2]], {"a": [3, 0], "b": [6, 4]}),
                    step([["b", 6, 1], ["a", 3, 1]], first=1), step([["b", 7, 1]], done=["a"]),
                    step([], done=["b"]))
    assert [line["type"] for line in lines if line["type"] != "route"] == ["meta", "request", "request", "totals"]
    assert lines[0]["layers_logged"] == [0, 2]
    a = [line for line in lines if line.get("req_id") == "a"]
    assert (a[0]["prompt_tokens"], a[0]["tokens"], a[0]["cached_tokens"]) == (3, 4, 0) and "partial" not in a[0]
    assert [(r["token_idx"], r["layer"], r["phase"]) for r in a[1:]] == [
        (t, layer, "prefill" if t < 3 else "decode") for t in range(4) for layer in (0, 2)]
    # Slot 0 of the arrays is layer 2; the decode row of a was the step's second.
    assert a[1]["topk_ids"] == [1, 2] and a[2]["topk_ids"] == [0, 1] and a[-1]["topk_ids"] == [3, 4]
    b = [line for line in lines if line.get("req_id") == "b"]
    assert [r["token_idx"] for r in b[1::2]] == [4, 5, 6, 7] and b[0]["cached_tokens"] == 4
    assert lines[-1]["requests"] == 2 and lines[-1]["tokens"] == 8


def test_tokens_run_again_are_marked_and_counted():
    lines = written(step([["a", 0, 4]], {"a": [4, 0]}), step([["a", 4, 1]]), step([["a", 5, 1]]),
                    step([["a", 0, 6]]), step([["a", 6, 1]]), step([], done=["a"]))
    about = lines[1]
    routes = [line for line in lines if line.get("type") == "route" and line["layer"] == 0]
    assert about["tokens"] - about["replayed_tokens"] + about["cached_tokens"] == 7 and about["replayed_tokens"] == 6
    assert [(r["token_idx"], r["phase"], r.get("replayed", False)) for r in routes[6:]] == [
        (t, "prefill" if t < 4 else "decode", t < 6) for t in range(7)]


@pytest.mark.parametrize("how", ["lost", "nan", "memory"])
def test_what_cannot_be_kept_goes_whole_and_is_counted(how):
    first, later = step([["a", 0, 2], ["b", 0, 1]], {"a": [2, 0], "b": [1, 0]}), step([["a", 2, 1]])
    memory = 1 << 20
    if how == "lost":
        later = step([["a", 2, 1]], lost=True)
    elif how == "nan":
        later = later[0], later[1][:4] + np.full(4, np.nan, "<f2").tobytes()
    else:
        memory = len(first[1])
    after = step([["a", 3, 1]])
    lines = written(first, later, after, step([], done=["a", "b"]), memory=memory)
    assert {line["req_id"] for line in lines if line["type"] == "route"} == {"b"}
    assert (lines[-1]["requests"], lines[-1]["dropped_requests"], lines[-1]["dropped_tokens"]) == (1, 1, 4)


def test_the_end_of_the_pipe_leaves_partial_requests():
    lines = written(step([["a", 0, 2]], {"a": [2, 0]}))
    assert lines[1]["partial"] is True and lines[-1]["requests"] == 1


def test_a_sender_that_dies_within_a_frame_ends_the_log(tmp_path):
    meta = routing_writer.frame_bytes({"kind": "meta", "part_of": [2, 0], **HEADER})
    about, payload = step([["a", 0, 2]], {"a": [2, 0]})
    whole = routing_writer.frame_bytes(about, len(payload)) + payload
    for cut in (0, 3, 9, len(whole) - 1):
        file = tmp_path / f"{cut}.jsonl"
        run = subprocess.run([sys.executable, "-m", "moeopt.routing_writer", file], input=meta + whole[:cut],
                             env={**os.environ, "PYTHONPATH": str(ROOT / "python")}, timeout=60)
        assert run.returncode == 0
        assert [json.loads(line)["type"] for line in file.read_text().splitlines()] == ["meta", "totals"]


def test_a_full_disk_ends_it_with_a_message():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    meta = routing_writer.frame_bytes({"kind": "meta", "part_of": [0], **HEADER})
    run = subprocess.run([sys.executable, "-m", "moeopt.routing_writer", "/dev/full"], input=meta,
                         env={**os.environ, "PYTHONPATH": str(ROOT / "python")}, capture_output=True, timeout=60)
    assert run.returncode == 1 and b"No space left" in run.stderr
