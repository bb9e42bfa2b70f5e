"""The program with its switches for tests built in (preset `switches`): steps that fail on purpose. What the
server says of itself must be what happened."""

import json
import time
import urllib.error
import urllib.request

import openai
import pytest
from conftest import client_of, wait_until
from test_hostile import connect, post
from test_status import metrics

MESSAGES = [{"role": "user", "content": "Tell me of the farm. " * 12}]


def health(server):
    """Status code and body."""
    try:
        with urllib.request.urlopen(server.url + "/health", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ask(server):
    with client_of(server) as client:
        return client.chat.completions.create(
            model="tiny-moe", messages=MESSAGES, max_tokens=8, temperature=0, seed=1
        )


@pytest.fixture
def start_with(start, monkeypatch):
    def start_one(faults: str, *flags: str):
        monkeypatch.setenv("MOEOPT_FAULTS", faults)
        return start("--served-model-name", "tiny-moe", *flags)

    return start_one


@pytest.mark.parametrize("fault", ["throw", "alloc", "nan"])
def test_a_failed_step_ends_its_requests_alone(start_with, fault):
    clean = start_with("throw@1000000")
    wanted = ask(clean).choices[0].message.content
    server = start_with(f"{fault}@12")
    failed = 0
    for _ in range(4):
        try:
            assert ask(server).choices[0].message.content == wanted
        except openai.APIStatusError as error:
            assert error.status_code == 500
            assert error.body["message"]
            failed += 1
    assert failed == 1
    code, body = health(server)
    assert code == 200 and body["status"] == "ok"
    server.idle()  # an answer is sent before what it held is given back


def test_a_stuck_step_is_unhealthy_until_it_ends(start_with):
    server = start_with("stall@12:4000", "--stuck-after", "1")
    began = time.monotonic()
    with client_of(server) as client:
        stream = client.chat.completions.create(
            model="tiny-moe", messages=MESSAGES, max_tokens=64, stream=True, extra_body={"ignore_eos": True}
        )
        codes = set()
        while time.monotonic() < began + 20 and codes != {200, 503}:
            code, body = health(server)
            if code == 503:
                assert body["status"] == "unhealthy"
                assert body["engine"]["state"] == "stuck"
            codes.add(code)
            time.sleep(0.05)
        assert codes == {200, 503}
        assert sum(1 for chunk in stream if chunk.choices) > 0
    wait_until(lambda: health(server)[0] == 200)  # healthy again
    assert "stuck" in server.stderr()


def test_clients_that_go_are_in_no_further_step(start_with):
    """They go while a step is held: it and the one that was launched behind it are their last."""
    server = start_with("stall@1500:4000")
    body = {"messages": MESSAGES, "max_tokens": 1700, "ignore_eos": True}
    clients = []
    for stream in (True, False):
        sock = connect(server)
        sock.sendall(post(json.dumps({**body, "stream": stream}).encode(), f"X-Request-Id: gone-{stream}"))
        clients.append(sock)
    wait_until(lambda: health(server)[1]["engine"]["silent_for_ms"] >= 500, seconds=30)
    held = health(server)[1]["engine"]
    assert held["running"] == 2
    tokens = metrics(server)["moeopt:generation_tokens_total", ()]
    received = clients[0].recv(1 << 20).count(b'"content":"')
    assert 0 < received < tokens
    for sock in clients:
        sock.close()
    lines = [line for stream in (True, False) for line in server.log_lines(f"gone-{stream}")]
    assert len(lines) == 2 and all(" 499 " in line and "client gone" in line for line in lines)
    still = health(server)[1]["engine"]
    assert still["steps"] == held["steps"] and still["silent_for_ms"] > held["silent_for_ms"], "before it goes on"
    after = server.idle()
    assert after["steps"] - held["steps"] <= 1
    assert metrics(server)["moeopt:generation_tokens_total", ()] - tokens <= 2, "of the held step, a token each"
    assert metrics(server)["moeopt:request_success_total", (("finished_reason", "cancelled"),)] == 2
