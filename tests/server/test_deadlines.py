"""--queue-timeout and --request-timeout as a client meets them: the answer, the queue, what is counted and logged."""

import json
import threading
import time

import pytest
from conftest import QUESTION, SANITIZED, wait_until
from test_hostile import connect, exchange, post, read_all, status
from test_status import metrics

# Of 64 choices that run one after the other: longer than any test here.
ENDLESS = {"prompt": [7] * 100, "stream": True, "n": 64, "max_tokens": 1900, "ignore_eos": True}
LATE = {"prompt": [9] * 37, "max_tokens": 5}


def body_of(answer: bytes) -> dict:
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


def events_of(answer: bytes) -> list[str]:
    return [line[6:].decode() for line in answer.split(b"\n") if line.startswith(b"data: ")]


def labelled(server, name: str) -> dict[str, float]:
    return {key[1][0][1]: value for key, value in metrics(server).items() if key[0] == f"moeopt:{name}"}


def failed(server) -> dict[str, float]:
    """Failed requests by cause, without those for /ready while it was loading."""
    return {cause: value for cause, value in labelled(server, "errors_total").items() if cause != "http_503"}


def completions(body: dict, request_id: str) -> bytes:
    return post(json.dumps(body).encode(), f"X-Request-Id: {request_id}", path="/v1/completions")


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_waits_too_long_for_its_turn(start, stream):
    server = start("--max-num-seqs", "1", "--queue-timeout", "0.5")
    with connect(server) as running:
        running.sendall(completions(ENDLESS, "endless"))
        assert running.recv(100).startswith(b"HTTP/1.1 200")
        wait_until(lambda: metrics(server)["moeopt:generation_tokens_total", ()] > 0)
        began = time.monotonic()
        answer = exchange(server, completions({**LATE, "stream": stream}, "late"), timeout=60)
        assert time.monotonic() - began >= 0.5
        if stream:
            assert status(answer) == 200, "its head was sent while it waited"
            *none, last, done = events_of(answer)
            error = json.loads(last)["error"]
            assert done == "[DONE]" and not none
        else:
            assert status(answer) == 504
            error = body_of(answer)["error"]
        assert error == {
            "message": "the request waited longer than 500 ms for its turn",
            "type": "timeout_error", "param": None, "code": "timeout",
        }  # fmt: skip
        # The one before goes on; between two of its choices there is none.
        wait_until(lambda: metrics(server)["moeopt:num_requests_running", ()] == 1)
        [line] = server.log_lines(" late ")
        assert f" {200 if stream else 504} POST /v1/completions timeout " in line
        assert "37 prompt tokens (0 cached), 0 output (timeout)" in line
    server.idle()
    assert metrics(server)["moeopt:prompt_tokens_total", ()] % 100 == 0, "it left the queue and never ran"
    assert server.log_lines(" endless ")
    assert failed(server) == {"timeout": 1, "client_gone": 1}
    assert labelled(server, "request_success_total")["timeout"] == 1


def test_waiting_is_not_running(start):
    """Who has had its turn is nobody's late guest: its other choices wait longer than the limit, and all end."""
    server = start("--max-num-seqs", "1", "--queue-timeout", "0.4")
    body = {**ENDLESS, "stream": False, "n": 4, "max_tokens": 200 if SANITIZED else 1900}
    answer = exchange(server, completions(body, "all"), timeout=60)
    assert status(answer) == 200 and len(body_of(answer)["choices"]) == 4
    assert server.log_lines(" all ")
    assert failed(server) == {}


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_takes_too_long(start, stream):
    server = start("--request-timeout", "1")
    others: list[bytes] = []
    other = threading.Thread(target=lambda: others.append(exchange(server, completions(LATE, "short"))))
    began = time.monotonic()
    with connect(server, timeout=60) as sock:
        chat = {"messages": [{"role": "user", "content": QUESTION}], "stream": stream, "n": 64, "max_tokens": 1900}
        sock.sendall(post(json.dumps({**chat, "ignore_eos": True}).encode(), "X-Request-Id: long"))
        other.start()
        answer = read_all(sock)
    assert time.monotonic() - began >= 1
    if stream:
        *texts, last, done = events_of(answer)
        assert status(answer) == 200 and done == "[DONE]"
        assert any(choice["delta"].get("content") for text in texts for choice in json.loads(text)["choices"])
        error = json.loads(last)["error"]
    else:
        assert status(answer) == 504
        error = body_of(answer)["error"]
    assert error == {
        "message": "the request took longer than 1000 ms", "type": "timeout_error", "param": None, "code": "timeout"
    }  # fmt: skip
    other.join()
    assert status(others[0]) in (200, 504), "it had its own deadline"
    engine = server.idle()
    assert engine["kv_blocks"]["live"] == 0 and engine["failed_steps"] == 0
    timed_out = 1 + (status(others[0]) == 504)
    assert server.log_lines(" long ") and server.log_lines(" short ")
    assert failed(server) == {"timeout": timed_out}
    ended = labelled(server, "request_success_total")
    assert ended.pop("timeout") + sum(ended.values()) == 65, "every choice ended once"
    assert status(exchange(server, completions({**LATE, "max_tokens": 1}, "after"))) == 200
