"""Times that the server tells, of requests whose client has a clock of its own: none is more than the client saw, and
none is nothing."""

import json
import socket
import time

import pytest
from test_hostile import CHAT, connect, post
from test_status import metrics

TOKENS = 1800  # so that the answer takes far longer than the way to it
SLACK_MS = 100  # of a clock that is read late


def first_and_total_ms(sock: socket.socket, raw: bytes) -> tuple[float, float]:
    """By this clock: until the first content, until the end."""
    sent = time.monotonic()
    sock.sendall(raw)
    first, data = 0.0, b""
    while part := sock.recv(65536):
        data += part
        if not first and b'"content":"' in data:
            first = time.monotonic() - sent
    assert data.startswith(b"HTTP/1.1 200"), data[:200]
    return 1000 * first, 1000 * (time.monotonic() - sent)


@pytest.mark.parametrize("stream", [True, False])
def test_the_log_says_how_long_it_took(start, stream):
    server = start("--log-format", "json")
    body = json.dumps({**CHAT, "stream": stream, "max_tokens": TOKENS, "ignore_eos": True}).encode()
    for turn in range(2):
        request_id = f"timed-{turn}"
        with connect(server, timeout=60) as sock:
            first, total = first_and_total_ms(sock, post(body, f"X-Request-Id: {request_id}"))
        [line] = map(json.loads, server.log_lines(f'"{request_id}"'))
        assert line["output_tokens"] == TOKENS
        assert 0 < line["first_token_ms"] <= line["total_ms"]
        assert total / 2 <= line["total_ms"] <= total + SLACK_MS
        assert line["first_token_ms"] <= first + SLACK_MS
        assert line["first_token_ms"] < line["total_ms"] / 2, "one step of many"


def histogram(figures: dict, name: str) -> tuple[float, float, list[tuple[float, float]]]:
    """Its count, its sum, and its buckets: upper bound and how many are under it."""
    buckets = [
        (float(dict(key[1])["le"]), value) for key, value in figures.items() if key[0] == f"moeopt:{name}_bucket"
    ]
    return figures[f"moeopt:{name}_count", ()], figures[f"moeopt:{name}_sum", ()], sorted(buckets)


def test_the_histograms_add_up(start):
    server = start()
    body = json.dumps({**CHAT, "stream": True, "max_tokens": TOKENS, "ignore_eos": True}).encode()
    requests, took_ms = 3, 0.0
    for turn in range(requests):
        with connect(server, timeout=60) as sock:
            took_ms += first_and_total_ms(sock, post(body, f"X-Request-Id: timed-{turn}"))[1]
        assert server.log_lines(f"timed-{turn}")
    server.idle()
    figures = metrics(server)
    counts = {
        "time_to_first_token_seconds": requests,
        "inter_token_latency_seconds": requests * (TOKENS - 1),
        "e2e_request_latency_seconds": requests,
        "step_time_seconds": requests * TOKENS,
        "request_prompt_tokens": requests,
        "request_generation_tokens": requests,
    }
    sums = {}
    for name, wanted in counts.items():
        count, total, buckets = histogram(figures, name)
        assert count == wanted, name
        assert buckets[-1] == (float("inf"), count), name
        least = most = lower = below = 0.0
        for upper, value in buckets:
            assert value >= below, f"{name}: a bucket holds those before it"
            least += (value - below) * lower
            most += (value - below) * upper if value > below else 0
            lower, below = upper, value
        assert least <= total <= most and total > 0, f"{name}: what is in the buckets makes the sum"
        sums[name] = total
    later = sums["e2e_request_latency_seconds"] - sums["time_to_first_token_seconds"]
    assert 0 < sums["inter_token_latency_seconds"] <= later
    assert sums["inter_token_latency_seconds"] > 0.8 * later, "after the first token there is nothing but others"
    assert took_ms / 2 <= 1000 * sums["e2e_request_latency_seconds"] <= took_ms + requests * SLACK_MS
    assert sums["step_time_seconds"] <= sums["e2e_request_latency_seconds"]
