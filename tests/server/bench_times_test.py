"""moeopt bench's times: a request's is what curl and the server's own counters say of it, and goodput is what the
stored times of the requests make it."""

import json
import pathlib
import shutil
import statistics
import subprocess
from dataclasses import dataclass

import pytest
from bench_test import bench
from conftest import Server
from test_status import metrics

PROMPT = [20 + i * i % 1000 for i in range(1000)]
TOKENS = 400
# One request, and bench's way of being told it.
REQUEST = {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True, "stream": True}
LINE = {"prompt": PROMPT, "output_tokens": TOKENS}


@dataclass
class Times:
    """Milliseconds of one request, by a client and by the server's counters."""

    ttft: float
    e2e: float
    server_ttft: float
    server_e2e: float


def counted(server: Server) -> dict[str, float]:
    figures = metrics(server)
    return {
        name: figures[f"moeopt:{name}", ()]
        for name in (
            "prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_sum",
            "time_to_first_token_seconds_count", "e2e_request_latency_seconds_sum", "e2e_request_latency_seconds_count",
        )
    }  # fmt: skip


def timed(server: Server, ask) -> Times:
    """What `ask` says of the one request it makes, beside what the server counted of it."""
    before = counted(server)
    ttft, e2e = ask()
    after = counted(server)
    moved = {name: after[name] - before[name] for name in after}
    assert moved["prompt_tokens_total"] == len(PROMPT) and moved["generation_tokens_total"] == TOKENS
    assert moved["time_to_first_token_seconds_count"] == moved["e2e_request_latency_seconds_count"] == 1
    return Times(
        ttft, e2e, moved["time_to_first_token_seconds_sum"] * 1000, moved["e2e_request_latency_seconds_sum"] * 1000
    )


def by_curl(server: Server, folder: pathlib.Path) -> tuple[float, float]:
    """From the head it sent to the first bytes of the body, and all of it."""
    trace = folder / "trace"
    done = subprocess.run(
        ["curl", "-sSN", "-o", folder / "answer", "-w", "%{time_total}", "--trace-ascii", trace, "--trace-time",
         "-H", "Content-Type: application/json", "-d", json.dumps(REQUEST), server.url + "/v1/completions"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (folder / "answer").read_text().count('"text":') >= TOKENS / 2

    def first(words: str) -> float:
        line = next(line for line in trace.read_text(errors="replace").splitlines() if words in line)
        hours, minutes, seconds = line.split()[0].split(":")
        return (int(hours) * 60 + int(minutes)) * 60 + float(seconds)

    day = 24 * 3600
    return (first("<= Recv data") - first("=> Send header")) % day * 1000, float(done.stdout) * 1000


def by_bench(server: Server, folder: pathlib.Path) -> tuple[float, float]:
    lines = folder / "request.jsonl"
    lines.write_text(json.dumps(LINE) + "\n")
    result = bench("--url", server.url, "--dataset", str(lines), "--requests", "1", "--warmup", "0")
    [request] = result["requests"]
    assert (request["prompt_tokens"], request["output_tokens"]) == (len(PROMPT), TOKENS)
    summary = result["summary"]
    ttft, e2e = (request["first_text_us"] - request["start_us"]) / 1000, (request["end_us"] - request["start_us"]) / 1000
    assert summary["ttft_ms"]["p50"] == pytest.approx(ttft) and summary["e2e_ms"]["p50"] == pytest.approx(e2e)
    return ttft, e2e


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_times_are_those_of_curl_and_of_the_server(start, tmp_path):
    """The same request in turns. A busy machine makes one slower than the next, so each is held to what the server
    counted of that very request: then both clients add the same, next to nothing."""
    server = start("--disable-prefix-cache")
    curl, tool = [], []
    for _ in range(9):
        curl.append(timed(server, lambda: by_curl(server, tmp_path)))
        tool.append(timed(server, lambda: by_bench(server, tmp_path)))

    def median(runs: list[Times], name: str) -> float:
        return statistics.median(getattr(one, name) for one in runs)

    for name in ("ttft", "e2e"):
        print(f"{name}: curl {median(curl, name):.2f} ms, bench {median(tool, name):.2f} ms")
        scaled = {}
        for who, runs in (("curl", curl), ("bench", tool)):
            over = statistics.median(getattr(one, name) / getattr(one, f"server_{name}") for one in runs)
            scaled[who] = over * median(tool, f"server_{name}")
            assert scaled[who] == pytest.approx(median(tool, f"server_{name}"), rel=0.2, abs=3), who
        assert scaled["bench"] == pytest.approx(scaled["curl"], rel=0.2, abs=3)
        assert 1 / 2 < median(tool, name) / median(curl, name) < 2, "as they were, on whatever ran beside them"


def good(result: dict, ttft_ms: float, token_ms: float) -> int:
    """Of the stored requests, those that were answered within both."""
    n = 0
    for one in result["requests"]:
        if one["error"] or (one["first_text_us"] - one["start_us"]) / 1000 > ttft_ms:
            continue
        later = one["output_tokens"] - 1
        n += later < 1 or (one["last_text_us"] - one["first_text_us"]) / 1000 / later <= token_ms
    return n


def goodput(server: Server, *flags: str, rc: int = 0) -> dict:
    result = bench("--url", server.url, "--batch", "16", *flags, rc=rc)
    found = result["summary"]["goodput"]
    assert found["requests_per_s"] == pytest.approx(found["requests"] / result["duration_s"], rel=0.01)
    return result


def test_an_slo_of_the_first_token_splits_those_that_wait_for_their_turn(start):
    """One sequence at a time: the first tokens come one answer apart, and half of them beyond the median."""
    server = start("--max-num-seqs", "1")
    load = ("--batch", "16", "--prompt-tokens", "8", "--output-tokens", "200")
    learnt = bench("--url", server.url, *load)["summary"]["ttft_ms"]
    assert learnt["max"] > 3 * learnt["min"]
    slo = learnt["p50"]
    result = goodput(server, *load[2:], "--slo-ttft-ms", str(slo), "--slo-itl-ms", "60000")
    met = result["summary"]["goodput"]["requests"]
    assert met == good(result, slo, 60000)
    assert 0 < met < 16


def test_an_slo_of_later_tokens_and_failures_are_in_no_goodput(start, tmp_path):
    """No twenty tokens come a microsecond apart, and an answer of one token has no later one."""
    server = start()
    result = goodput(server, "--output-tokens", "uniform:1-20", "--slo-itl-ms", "0.001")
    met = result["summary"]["goodput"]["requests"]
    assert met == good(result, 1e9, 0.001) >= sum(one["output_tokens"] == 1 for one in result["requests"])
    assert 0 < met < 16
    lines = tmp_path / "half.jsonl"
    lines.write_text('{"prompt": [30, 31], "output_tokens": 3}\n{"prompt": [99999999]}\n')
    result = goodput(server, "--dataset", str(lines), "--slo-ttft-ms", "60000", rc=1)
    assert result["summary"]["goodput"]["requests"] == good(result, 60000, 1e9) == result["summary"]["answered"] == 8
