#!/usr/bin/env python3
"""moeopt bench against the real server: its counts are the server's (its times: bench_times_test.py).

    MOEOPT_PROGRAM=build/release/moeopt pytest tests/server/bench_test.py
"""

import contextlib
import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOEOPT = os.environ.get("MOEOPT_PROGRAM", str(ROOT / "build/release/moeopt"))
MODEL = str(ROOT / "models/tiny-moe")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    url = f"http://127.0.0.1:{free_port()}"
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen([MOEOPT, "serve", MODEL, "--port", url.rsplit(":", 1)[1]],
                                   stdout=out, stderr=out)
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            try:
                get(url + "/ready")
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail(log.read_text())
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


def counter(metrics: str, name: str) -> float:
    """The value of a counter, summed over its labels; a counter that is not there is an error."""
    values = re.findall(rf"^moeopt:{name}(?:\{{.*\}})? (\S+)$", metrics, re.MULTILINE)
    assert values, name
    return sum(map(float, values))


def bench(*arguments: str, rc: int = 0) -> dict:
    done = subprocess.run([MOEOPT, "bench", "--json", *arguments], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == rc, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.mark.parametrize("load", [["--concurrency", "6"], ["--batch", "10"], ["--rate", "40"]])
def test_counts_are_the_servers(server, load):
    before = get(server + "/metrics")
    result = bench("--url", server, *load, "--requests", "30", "--prompt-tokens", "uniform:5-60",
                   "--output-tokens", "uniform:1-20", "--warmup", "0", "--seed", str(len(load[0])))
    after = get(server + "/metrics")
    moved = {name: counter(after, name) - counter(before, name)
             for name in ("prompt_tokens_total", "generation_tokens_total", "prefix_cache_hits_total")}
    summary = result["summary"]
    assert summary["requests"] == summary["answered"] == 30
    assert summary["errors"] == {}
    assert summary["prompt_tokens"] == moved["prompt_tokens_total"]
    assert summary["output_tokens"] == moved["generation_tokens_total"]
    assert summary["cached_tokens"] == moved["prefix_cache_hits_total"]
    inside = result["server"]["counters_moved"]
    assert inside["moeopt:generation_tokens_total"] == summary["output_tokens"]
    assert not [text for text in result["warnings"] if "counted" in text]
    requests = result["requests"]
    assert sum(r["output_tokens"] for r in requests) == summary["output_tokens"]
    # Prompts of ids are as long as they were drawn, answers as long as asked.
    assert all(5 <= r["prompt_tokens"] <= 60 for r in requests)
    assert all(1 <= r["output_tokens"] <= 20 for r in requests)
    assert all(r["finish_reason"] == "length" for r in requests)
    assert all(r["text_events"] <= r["output_tokens"] for r in requests)
    assert all(0 <= r["start_us"] <= r["sent_us"] <= r["end_us"] for r in requests)
    assert "ids of words" in result["workload"]["prompts"]


def test_server_states_are_kept(server):
    result = bench("--url", server, "--requests", "4", "--output-tokens", "4")
    health = json.loads(get(server + "/health"))
    assert result["server"]["version"] == json.loads(get(server + "/version"))
    states = {row["name"]: row for row in result["server"]["optimisations"]}
    for row in health["optimisations"]:
        assert states[row["name"]]["state"] == row["state"]
        assert states[row["name"]]["reason"] == row["reason"]
    assert any(row["state"] == "declined" for row in states.values())


def test_a_shared_prefix_comes_from_the_cache(server):
    result = bench("--url", server, "--requests", "8", "--concurrency", "1", "--prompt-tokens", "200",
                   "--shared-prefix", "180", "--output-tokens", "2", "--seed", "99")
    states = {row["name"]: row["state"] for row in result["server"]["optimisations"]}
    assert states["prefix-cache"] == "applied"
    # The warm-up had the prefix: every request finds its whole blocks, and not more.
    for request in result["requests"]:
        assert 100 < request["cached_tokens"] <= 180 + 20


def test_refusals_are_counted_by_kind(server, tmp_path):
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"prompt": "good", "output_tokens": 3}\n{"prompt": [99999999]}\n'
                     '{"messages": [{"role": "user", "content": "hi"}], "output_tokens": 2}\n')
    result = bench("--url", server, "--dataset", str(lines), "--requests", "9", "--warmup", "0", rc=1)
    assert result["summary"]["answered"] == 6
    assert list(result["summary"]["errors"]) == ["http 400"]
    assert result["summary"]["errors"]["http 400"]["count"] == 3
    assert "prompt" in result["summary"]["errors"]["http 400"]["example"]


def test_progress_is_drawn_on_a_terminal_alone(server):
    command = [MOEOPT, "bench", "--url", server, "--concurrency", "2", "--requests", "40", "--output-tokens", "200"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            while part := os.read(ours, 4096):
                drawn += part
        on_stdout = process.stdout.read()
        assert process.wait(60) == 0, drawn
    os.close(ours)
    nothing, *bars, after = drawn.split(b"\r\x1b[K")  # each is drawn over the one before
    assert nothing == b"" and after == b"", "and the last one is wiped"
    shown = [re.fullmatch(rb"bench \[(=*)( *)\] +(\d+)% (\d+)/40 ended, (\d) in flight, \d+ tokens/s", bar) for bar in bars]
    assert all(shown) and len(shown) > 1, bars
    ended = [int(bar[4]) for bar in shown]
    assert ended == sorted(ended) and ended[0] < ended[-1], ended
    for bar in shown:
        assert len(bar[1]) + len(bar[2]) == 24 and abs(len(bar[1]) - 24 * int(bar[4]) / 40) <= 0.5
        assert abs(int(bar[3]) - 100 * int(bar[4]) / 40) <= 0.5 and int(bar[5]) <= 2
    piped = subprocess.run(command, capture_output=True, timeout=300, check=True)
    assert piped.stderr == b""
    for text in (on_stdout, piped.stdout):
        assert b"\r" not in text and b"\x1b" not in text and b"workload" in text


def test_results_are_compared_or_not(server, tmp_path):
    files = [str(tmp_path / name) for name in ("a.json", "b.json", "c.json")]
    for file, seed in zip(files, ("3", "3", "4")):
        bench("--url", server, "--requests", "20", "--output-tokens", "8", "--seed", seed, "--out", file)
    comparison = bench("--compare", files[0], files[1])
    assert comparison["comparable"]
    assert {f["name"] for f in comparison["figures"]} >= {"output tokens/s", "first token ms, p50"}
    assert all(f["low"] <= f["high"] for f in comparison["figures"])
    comparison = bench("--compare", files[0], files[2], rc=1)
    assert not comparison["comparable"] and comparison["figures"] == []
    assert any("seed" in text for text in comparison["obstacles"])


def test_ablation_shows_figures_of_what_was_applied_alone():
    # Steps of 64 tokens hold a prompt of 50, and of the next one a chunk.
    result = bench("--ablate", MODEL, "--rounds", "2", "--requests", "16", "--batch", "16",
                   "--prompt-tokens", "50", "--shared-prefix", "32", "--output-tokens", "8",
                   "--", "--threads", "2", "--max-num-batched-tokens", "64")
    gains = {row["name"]: row for row in result["gains"]}
    assert "flashdmoe" in gains
    applied = 0
    for row in result["gains"]:
        assert bool(row["reason"]) != ("output_tokens_per_s" in row)
        if row["reason"]:
            continue
        applied += 1
        if row["name"] == "all of them":
            continue
        for run in result["runs"]:
            state = next(s for s in run["optimisations"] if s["name"] == row["name"])
            if run["configuration"] == "all on":
                assert state["state"] == "applied" and state["launches_in_run"] > 0
            if run["configuration"] in (f"{row['name']} off", "all off"):
                assert state["state"] == "off"
    assert gains["flashdmoe"]["reason"].startswith("NOT APPLIED")
    assert applied > 0, result["gains"]
