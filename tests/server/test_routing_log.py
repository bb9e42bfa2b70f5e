"""`moeopt serve --routing-log`: its counts, what a kill leaves, and a disk that is full."""

import json
import resource
import signal
import subprocess
import time
import urllib.request

import pytest
from conftest import MODEL, PROGRAM
from test_status import metrics

LAYERS, TOP_K = 4, 4  # of the shipped model


def complete(server, prompt, max_tokens):
    body = {"model": "tiny-moe", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True}
    request = urllib.request.Request(
        server.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def written(server, n_requests):
    """The log's state once so many requests have ended in it or been dropped."""
    deadline = time.monotonic() + 20
    while True:
        log = server.get("/v1/routing")["log"]
        if log["requests"] + log["dropped_requests"] >= n_requests:
            return log
        assert time.monotonic() < deadline, log
        time.sleep(0.02)


def stats(path):
    done = subprocess.run([PROGRAM, "routing", "stats", "--json", str(path)], capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["log.jsonl", "log.moer"])
def test_the_log_the_counters_and_the_window_agree(start, folder, name):
    path = folder / name
    server = start("--routing-log", str(path), "--served-model-name", "tiny-moe")
    before = server.get("/v1/routing")
    assert before["rows_total"] == before["rows_window"] == 0, "warm-up is nobody's traffic"
    complete(server, [7] * 33, 5)
    routing = server.get("/v1/routing")
    assert routing["rows_window"] == routing["rows_total"] > 0, "a short burst is in the window at once"
    assert routing["window_s"] == 10
    complete(server, [7] * 33, 5)  # most of its prompt comes from the prefix cache
    log = written(server, 2)
    assert log["state"] == "recording" and log["error"] is None and log["dropped_requests"] == 0
    assert log["tokens"] + log["cached_tokens"] == 2 * (33 + 5 - 1) and log["cached_tokens"] > 0
    total = server.get("/v1/routing")["rows_total"]
    assert total == log["tokens"] * LAYERS * TOP_K
    values = metrics(server)
    assert values["moeopt:routing_log_requests_total", (("state", "written"),)] == 2
    assert values["moeopt:routing_log_requests_total", (("state", "dropped"),)] == 0
    assert values["moeopt:routing_log_failed", ()] == 0
    assert server.stop() == 0
    assert f"{log['tokens']} tokens of 2 requests" in server.stderr()
    read = stats(path)
    assert read["requests"] == 2 and read["tokens"] == log["tokens"] and not read["truncated"]
    assert sum(sum(layer["rows"]) for layer in read["layers"]) == total


def test_without_a_log_there_is_none(server):
    assert server.get("/v1/routing")["log"] is None
    assert not [name for name, _ in metrics(server) if name.startswith("moeopt:routing_log")]


@pytest.mark.parametrize("name", ["killed.jsonl", "killed.moer"])
def test_a_kill_leaves_every_complete_record(start, folder, name):
    path = folder / name
    server = start("--routing-log", str(path), "--served-model-name", "tiny-moe")
    for i in range(5):
        complete(server, [11 + i] * 20, 4)
    log = written(server, 5)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    read = stats(path)
    assert read["requests"] == 5 and read["tokens"] == log["tokens"]
    assert read["records"] == log["tokens"] * LAYERS
    assert [sum(layer["rows"]) for layer in read["layers"]] == [log["tokens"] * TOP_K] * LAYERS
    with open(path, "ab") as file:  # killed within a record
        file.write(path.read_bytes()[-40:-3] if name.endswith("jsonl") else b"RQST\xff\x00\x00")
    again = stats(path)
    assert again["truncated"] and again["records"] == read["records"]


def test_a_full_disk_ends_the_log_and_not_the_server(start, folder):
    path = folder / "full.jsonl"
    server = start("--routing-log", str(path), "--served-model-name", "tiny-moe")
    complete(server, [7] * 20, 4)
    n_bytes = written(server, 1)["bytes"]
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (n_bytes + 1000, n_bytes + 1000))
    complete(server, [8] * 20, 4)
    log = written(server, 2)
    assert log["state"] == "failed" and "full.jsonl" in log["error"] and log["dropped_requests"] == 1
    assert len(complete(server, [9] * 20, 4)["choices"]) == 1
    assert written(server, 3)["dropped_requests"] == 2
    values = metrics(server)
    assert values["moeopt:routing_log_failed", ()] == 1
    assert values["moeopt:routing_log_requests_total", (("state", "dropped"),)] == 2
    assert server.stop() == 0
    assert "ended by an error" in server.stderr()
    read = stats(path)
    assert read["requests"] == 1 and not read["truncated"], "the torn record was cut off"


def test_a_log_that_cannot_be_opened_ends_the_start(folder):
    done = subprocess.run([PROGRAM, "serve", MODEL, "--port", "0", "--routing-log", str(folder / "no" / "log")],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 8 and "cannot be opened" in done.stderr
