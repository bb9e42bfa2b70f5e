"""What /health and /metrics say, to the number: every request has a known cost in steps, rows and blocks."""

import concurrent.futures
import json
import time

import pytest
from conftest import Server, client_of
from test_hostile import CHAT, connect, exchange, post, status
from test_status import metrics

LAYERS, TOP_K, BLOCK = 4, 4, 16
STEP = 64  # tokens


@pytest.fixture(scope="module")
def counted(folder):
    made = Server(
        folder, "--served-model-name", "counted", "--max-num-batched-tokens", str(STEP), "--require-chunked-prefill"
    )
    yield made
    made.end()
    assert "Sanitizer" not in made.stderr(), made.stderr()


def prompt(length: int, first: int) -> list[int]:
    """Of ids, another one for each `first`."""
    return [first, *[20 + i * i % 1000 for i in range(length - 1)]]


def ask(server, ids: list[int], max_tokens: int):
    with client_of(server) as client:
        return client.completions.create(
            model="counted", prompt=ids, max_tokens=max_tokens, temperature=0, extra_body={"ignore_eos": True}
        )


class Grown:
    """By how much the counters of /metrics and /health grew since it was made; all while idle."""

    def __init__(self, server):
        self.server = server
        self.before = self.read()

    def read(self) -> dict[str, float]:
        backend = self.server.idle()["backend"]
        health = self.server.get("/health")["optimisations"]
        figures: dict[str, float] = {f"backend {name}": value for name, value in backend.items()}
        figures.update({f"launches {one['name']}": one["launches"] for one in health})
        for (name, labels), value in metrics(self.server).items():
            if name == "moeopt:expert_rows_total":
                key = f"expert rows of layer {dict(labels)['layer']}"
                figures[key] = figures.get(key, 0) + value
            else:
                figures[" ".join([name.removeprefix("moeopt:"), *(value for _, value in labels)])] = value
        return figures

    def by(self) -> dict[str, float]:
        after = self.read()
        return {name: after[name] - self.before.get(name, 0) for name in after if after[name] != self.before.get(name, 0)}


def test_health_says_what_was_asked_and_what_became_of_it(start):
    server = start("--require-chunked-prefill", "--disable-prefix-cache", "--enable-expert-placement")
    health = server.get("/health")
    assert health["model"] == "tiny-moe" and health["architecture"] == "Qwen3MoeForCausalLM"
    assert health["backend"].startswith("fast (") and health["version"] == server.get("/version")["version"]
    states = {one["name"]: one for one in health["optimisations"]}
    for name, asked, state, layers, reason in [
        ("chunked-prefill", "require", "applied", LAYERS, ""),
        ("prefix-cache", "off", "off", 0, ""),
        ("expert-placement", "prefer", "declined", 0, "needs two GPUs or more"),
        ("fp8", "prefer", "declined", 0, "the weights are bf16"),
    ]:
        found = states[name]
        assert (found["asked"], found["state"], found["layers"], found["launches"]) == (asked, state, layers, 0), name
        assert reason in found["reason"] and bool(reason) == bool(found["reason"])
        assert found["measured_gain"] is None, "no run has measured it"


def test_the_start_up_step_is_in_no_counter(start):
    """Nothing is counted before the first request, so that after it the counters themselves add up."""
    server = start("--served-model-name", "counted")

    def own_figures(figures) -> dict:
        """But for those of the requests that looked at them."""
        counted = ("_total", "_count", "_sum", "_bucket")
        looked = ("moeopt:http_requests_total", "moeopt:errors_total")
        return {key: value for key, value in figures.items() if key[0].endswith(counted) and key[0] not in looked}

    fresh = server.idle()
    assert fresh["steps"] == 0 and fresh["backend"] == dict.fromkeys(fresh["backend"], 0)
    figures = own_figures(metrics(server))
    assert len(figures) > 100 and set(figures.values()) == {0}
    rows = 0
    for length, max_tokens in ((20, 5), (33, 9)):
        ask(server, prompt(length, length), max_tokens)
        rows += length + max_tokens - 1
    engine = server.idle()
    steps = 5 + 9
    assert engine["steps"] == steps and engine["backend"] == {
        "steps": steps, "tokens": rows, "moe_layer_launches": steps * LAYERS, "expert_rows": rows * LAYERS * TOP_K,
    }  # fmt: skip
    figures = own_figures(metrics(server))
    assert figures["moeopt:engine_steps_total", ()] == steps
    assert figures["moeopt:moe_layer_launches_total", ()] == steps * LAYERS
    by_expert = sum(value for (name, _), value in figures.items() if name == "moeopt:expert_rows_total")
    assert by_expert == rows * LAYERS * TOP_K


def test_uptime_is_the_clock_on_the_wall(counted):
    def look() -> tuple[float, float, float]:
        sent = time.monotonic()
        uptime = counted.get("/health")["uptime_s"]
        return sent, uptime, time.monotonic()

    first_sent, first, first_came = look()
    time.sleep(0.2)
    sent, second, came = look()
    assert sent - first_came <= second - first <= came - first_sent


@pytest.mark.parametrize(("length", "max_tokens"), [(1, 1), (64, 5), (65, 1), (200, 10)])
def test_a_request_costs_its_steps_rows_and_layers(counted, length, max_tokens):
    grown = Grown(counted)
    answer = ask(counted, prompt(length, 100 + length), max_tokens)
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    moved = grown.by()
    prefill_steps = -(-length // STEP)
    steps = prefill_steps + max_tokens - 1  # the last prefill step samples the first token
    rows = length + max_tokens - 1
    chunks = prefill_steps if prefill_steps > 1 else 0
    expected = {
        "backend steps": steps,
        "engine_steps_total": steps,
        "step_time_seconds_count": steps,
        "backend moe_layer_launches": steps * LAYERS,
        "moe_layer_launches_total": steps * LAYERS,
        "backend tokens": rows,
        "backend expert_rows": rows * LAYERS * TOP_K,
        "launches chunked-prefill": chunks,
        "optimisation_launches_total chunked-prefill": chunks,
        "prompt_tokens_total": length,
        "prefill_tokens_total": length,
        "prefix_cache_queries_total": length,
        "prefix_cache_hits_total": 0,
        "generation_tokens_total": max_tokens,
        "request_success_total length": 1,
        **{f"expert rows of layer {layer}": rows * TOP_K for layer in range(LAYERS)},
    }
    assert {name: moved.get(name, 0) for name in expected} == expected


@pytest.mark.parametrize(("length", "found"), [(100, 96), (96, 95), (16, 15), (15, 0)])
def test_a_prompt_that_comes_again_is_found_to_the_token(counted, length, found):
    """Whole blocks; of a prompt that is all there, the last token is computed again."""
    ask(counted, prompt(length, 500 + length), 1)
    grown = Grown(counted)
    answer = ask(counted, prompt(length, 500 + length), 4)
    assert answer.usage.prompt_tokens_details.cached_tokens == found
    moved = grown.by()
    expected = {
        "prefix_cache_queries_total": length,
        "prefix_cache_hits_total": found,
        "launches prefix-cache": found,
        "prefill_tokens_total": length - found,
        "backend tokens": length - found + 3,
        "prompt_tokens_total": length,
    }
    assert {name: moved.get(name, 0) for name in expected} == expected


def test_kv_use_grows_while_it_runs_and_returns(counted):
    def blocks(figures, state: str) -> float:
        return figures["moeopt:kv_blocks", (("state", state),)]

    counted.idle()
    total = sum(blocks(metrics(counted), state) for state in ("free", "live", "cached"))
    body = {**CHAT, "stream": True, "n": 8, "max_tokens": 1900, "ignore_eos": True}
    seen = [0.0]
    with connect(counted) as sock:
        sock.sendall(post(json.dumps(body).encode()))
        deadline = time.monotonic() + 30
        while len(seen) < 5:
            assert time.monotonic() < deadline, seen
            figures = metrics(counted)
            live = blocks(figures, "live")
            assert sum(blocks(figures, state) for state in ("free", "live", "cached")) == total
            assert figures["moeopt:kv_cache_usage_perc", ()] == pytest.approx(live / total, rel=1e-5)
            if live > seen[-1]:
                seen.append(live)
                assert figures["moeopt:num_requests_running", ()] in range(1, 9)
    counted.idle()
    figures = metrics(counted)
    assert figures["moeopt:kv_cache_usage_perc", ()] == blocks(figures, "live") == 0
    assert figures["moeopt:num_requests_running", ()] == figures["moeopt:num_requests_waiting", ()] == 0


def test_choices_that_wait_are_counted(start):
    """One slot: one of 64 choices runs, the others wait for it."""
    server = start("--max-num-seqs", "1")
    body = {**CHAT, "stream": True, "n": 64, "max_tokens": 1900, "ignore_eos": True}

    def counts() -> list[tuple[float, float]]:
        engine, figures = server.get("/health")["engine"], metrics(server)
        return [
            (engine["running"], engine["waiting"]),
            (figures["moeopt:num_requests_running", ()], figures["moeopt:num_requests_waiting", ()]),
        ]

    with connect(server) as sock:
        sock.sendall(post(json.dumps(body).encode()))
        deadline = time.monotonic() + 30
        while (seen := counts()) != [(1, 63), (1, 63)]:
            assert time.monotonic() < deadline, seen
            assert all(running + waiting <= 64 for running, waiting in seen)
    server.idle()
    assert counts() == [(0, 0), (0, 0)]


def streamed(server, ids: list[int], max_tokens: int) -> tuple[str, list, list]:
    """Text, log probabilities and the likeliest tokens of a stream."""
    with client_of(server) as client:
        pieces = client.completions.create(
            model="counted", prompt=ids, max_tokens=max_tokens, temperature=0, logprobs=2, stream=True,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        text, own, top = "", [], []
        for choice in (choice for piece in pieces for choice in piece.choices):
            text += choice.text
            if choice.logprobs:
                own += choice.logprobs.token_logprobs
                top += choice.logprobs.top_logprobs
    assert len(own) == len(top) == max_tokens
    return text, own, top


def test_streams_through_preemption_say_the_same(start):
    """To the last log probability."""
    server = start(
        "--served-model-name", "counted", "--kv-cache-tokens", "640", "--max-model-len", "512", "--max-num-seqs", "4"
    )
    prompts = [prompt(40, first) for first in range(4)]
    alone = [streamed(server, ids, 400) for ids in prompts]
    assert server.idle()["preemptions"] == 0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda ids: streamed(server, ids, 400), prompts))
    assert together == alone
    assert len({str(one) for one in alone}) == 4, "each has something of its own"
    assert server.idle()["preemptions"] > 0


def test_preemptions_are_counted_and_change_no_answer(start):
    server = start(
        "--served-model-name", "counted", "--kv-cache-tokens", "640", "--max-model-len", "512", "--max-num-seqs", "4"
    )
    prompts = [prompt(40, first) for first in range(4)]
    alone = [ask(server, ids, 400).choices[0].text for ids in prompts]
    grown = Grown(server)
    assert metrics(server)["moeopt:num_preemptions_total", ()] == 0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = [answer.choices[0].text for answer in pool.map(lambda ids: ask(server, ids, 400), prompts)]
    assert together == alone
    moved = grown.by()
    assert moved["num_preemptions_total"] == server.get("/health")["engine"]["preemptions"] > 0
    assert moved["generation_tokens_total"] == 4 * 400 and moved["prompt_tokens_total"] == 4 * 40
    # What was taken back is computed again: at least a block of each, at most all of it.
    again = moved["prefill_tokens_total"] + moved["prefix_cache_hits_total"] - 4 * 40
    assert 0 < again <= moved["num_preemptions_total"] * 440
    assert moved["request_success_total length"] == 4


def test_every_failed_request_is_counted_once_by_its_cause(start):
    server = start("--max-num-seqs", "1", "--max-waiting", "0")
    endless = json.dumps({**CHAT, "stream": True, "n": 64, "max_tokens": 1900, "ignore_eos": True}).encode()
    bad = [
        (400, post(b"{")),
        (400, post(b'{"messages": 5}')),
        (400, b"GET /version HTTP/1.1\r\n\r\n"),
        (404, post(b'{"model": "other", "messages": [{"role": "user", "content": "x"}]}')),
        (404, b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        (405, b"GET /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        (413, post(b"", f"Content-Length: {64 << 20}")),
        (415, post(b"{}").replace(b"application/json", b"text/plain")),
        (431, b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    ]
    wanted: dict[str, int] = {}
    for code, raw in bad:
        assert status(exchange(server, raw)) == code
        wanted[f"http_{code}"] = wanted.get(f"http_{code}", 0) + 1
    with connect(server) as sock:
        sock.sendall(post(endless))
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        for _ in range(3):
            assert status(exchange(server, post(endless))) == 429
    wanted |= {"http_429": 3, "client_gone": 1}
    server.idle()
    assert server.log_lines("client gone")
    figures = metrics(server)
    causes = {dict(key[1])["cause"]: n for key, n in figures.items() if key[0] == "moeopt:errors_total"}
    by_status = {dict(key[1])["status"]: n for key, n in figures.items() if key[0] == "moeopt:http_requests_total"}
    assert causes.pop("http_503", 0) == by_status.pop("503", 0), "of /ready while it was loading"
    assert causes == wanted
    assert {f"http_{code}": n for code, n in by_status.items() if code not in ("200", "499")} == {
        cause: n for cause, n in wanted.items() if cause != "client_gone"
    }
    assert by_status["499"] == 1
    assert figures["moeopt:request_success_total", (("finished_reason", "cancelled"),)] == 64
