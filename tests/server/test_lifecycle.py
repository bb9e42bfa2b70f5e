"""Starting, keys, overload, draining, logs: the server as its operator meets it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest
from conftest import MODEL, PROGRAM, QUESTION, client_of, wait_until
from test_hostile import connect, post, read_all
from test_status import metrics

MESSAGES = [{"role": "user", "content": QUESTION}]
LONG = {"max_tokens": 1900, "extra_body": {"ignore_eos": True}}


def failed_start(*arguments):
    began = time.monotonic()
    done = subprocess.run([PROGRAM, "serve", *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr, time.monotonic() - began


def test_mistakes_end_the_start_with_a_hint(folder):
    empty = folder / "empty-keys"
    empty.write_text("# none\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, code, words in [
            ([MODEL, "--port", port], 8, "another program listens"),
            ([str(folder / "no-such-model")], 5, "hint:"),
            ([MODEL, "--port", "70000"], 2, "port"),
            ([MODEL, "--host", "no.such.host.invalid"], 2, "not an address"),
            ([MODEL, "--host", "8.8.8.8", "--port", "0"], 8, "cannot listen"),
            ([MODEL, "--api-key-file", str(folder / "absent")], 5, "absent"),
            ([MODEL, "--api-key-file", str(empty)], 6, "no keys"),
            ([MODEL, "--chat-template", str(folder / "absent")], 5, "absent"),
            ([MODEL, "--log-file", str(folder)], 8, "log-file"),
            ([MODEL, "--require-flashdmoe"], 4, "flashdmoe"),
            ([MODEL, "--gpu-memory-utilization", "0.05", "--max-num-seqs", "60000"], 3, "what would fit"),
        ]:
            returned, error, seconds = failed_start(*arguments)
            assert returned == code, (arguments, returned, error)
            assert words in error
            assert "hint: " in error or "Run with --help" in error, (arguments, error)
            assert seconds < 2, (arguments, seconds)


def test_dry_run_serves_nothing():
    done = subprocess.run([PROGRAM, "serve", MODEL, "--dry-run"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "KV cache" in done.stdout


def test_keys(start, folder):
    keys = folder / "keys"
    keys.write_text("# two\nfirst-key\nsecond-key\n")
    server = start("--api-key-file", str(keys))
    for key in ("first-key", "second-key"):
        with client_of(server, key) as client:
            client.models.list()
    for key in ("first-ke", "first-keyy", "x", "first-key second-key"):
        with client_of(server, key) as client:
            with pytest.raises(openai.AuthenticationError):
                client.models.list()
            with pytest.raises(openai.AuthenticationError):
                client.chat.completions.create(model="tiny-moe", messages=MESSAGES)
    for path in ("/metrics", "/plan", "/version", "/v1/routing", "/openapi.json"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(server.url + path)
        assert refused.value.code == 401
    for path in ("/health", "/ready"):
        server.get(path)


def test_listens_on_loopback_unless_told_otherwise(start, server):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)
    assert "asks for no key" not in server.stderr()
    everywhere = start("--host", "0.0.0.0")
    socket.create_connection(("127.0.0.2", everywhere.port), timeout=5).close()


def test_warns_when_anyone_can_reach_it(start, folder):
    server = start("--host", "0.0.0.0")
    assert "asks for no key" in server.stderr()
    keys = folder / "warning-keys"
    keys.write_text("a-key\n")
    assert "asks for no key" not in start("--host", "0.0.0.0", "--api-key-file", str(keys)).stderr()


def test_a_full_queue_is_a_429_with_retry_after(start):
    server = start("--max-waiting", "4", "--max-num-seqs", "2")
    bodies, refused = [], []

    def ask():
        with client_of(server) as client:
            try:
                answer = client.chat.completions.create(model="tiny-moe", messages=MESSAGES, max_tokens=300, extra_body={"ignore_eos": True})
                bodies.append(answer.usage.completion_tokens)
            except openai.RateLimitError as error:
                refused.append(error)

    threads = [threading.Thread(target=ask) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bodies) + len(refused) == 30
    assert refused and bodies
    assert all(error.response.headers["Retry-After"] for error in refused)
    assert set(bodies) == {300}
    server.idle()


def test_request_timeout(start):
    server = start("--request-timeout", "0.3")
    with client_of(server) as client:
        with pytest.raises(openai.APIStatusError) as late:
            client.chat.completions.create(model="tiny-moe", messages=MESSAGES, n=8, **LONG)
        assert late.value.status_code == 504
        with pytest.raises(openai.APIError):
            for _ in client.chat.completions.create(model="tiny-moe", messages=MESSAGES, n=8, stream=True, **LONG):
                pass
    server.idle()


def in_background(server, results, **arguments):
    def ask():
        with client_of(server) as client:
            try:
                text = ""
                for chunk in client.chat.completions.create(model="tiny-moe", messages=MESSAGES, stream=True, **arguments):
                    text += "".join(choice.delta.content or "" for choice in chunk.choices)
                results.append(text)
            except Exception as error:  # noqa: BLE001
                results.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 20
    while server.get("/health")["engine"]["running"] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    return thread


def test_sigterm_lets_running_requests_finish(start):
    server = start()
    results = []
    with client_of(server) as client:
        expected = client.chat.completions.create(
            model="tiny-moe", messages=MESSAGES, max_tokens=1500, extra_body={"ignore_eos": True}
        ).choices[0].message.content
    thread = in_background(server, results, max_tokens=1500, extra_body={"ignore_eos": True})
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.get("/ready")
    assert refused.value.code == 503
    with client_of(server) as client, pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="tiny-moe", messages=MESSAGES)
    assert refused.value.status_code == 503
    thread.join()
    assert results == [expected]
    assert server.process.wait(20) == 0


def test_drain_timeout_ends_them_with_an_error(start):
    server = start("--drain-timeout", "0.2")
    results = []
    thread = in_background(server, results, n=8, **LONG)
    server.process.send_signal(signal.SIGTERM)
    thread.join()
    assert isinstance(results[0], openai.APIError) and "shutting down" in str(results[0])
    assert server.process.wait(20) == 0


HALF_SENT = {
    "half a head": b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Half: ",
    "half a body": post(b'{"prompt"', "Content-Length: 100"),
    "half a chunk": post(b'40\r\n{"prompt"', "Transfer-Encoding: chunked"),
    "a refused one": post(b'{"prompt"', "Content-Length: 999999999"),  # the server waits for its end
}


def half_sent(server, stack):
    """A connection for each half of a request."""
    sockets = {name: stack.enter_context(connect(server)) for name in HALF_SENT}
    for name, sock in sockets.items():
        sock.sendall(HALF_SENT[name])
    server.get("/version")  # a later connection is answered: those before were looked at
    return sockets


def check_left(sockets):
    """Who sent a head is told; the connections are closed."""
    for name, sock in sockets.items():
        answer = read_all(sock)
        expected = {"half a head": b"", "a refused one": b"HTTP/1.1 413"}.get(name, b"HTTP/1.1 503")
        assert answer.startswith(expected) and bool(answer) == bool(expected), (name, answer)
        if expected.endswith(b"503"):
            assert b"shutting down" in answer and b"Connection: close" in answer


def test_half_sent_requests_do_not_hold_the_end(start):
    server = start("--drain-timeout", "20")
    with contextlib.ExitStack() as stack:
        sockets = half_sent(server, stack)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 0.8
        check_left(sockets)
    assert "were ended" not in server.stderr(), "nothing ran"
    assert len(server.log_lines(" 503 POST ")) == 2


def test_half_sent_requests_do_not_hold_the_end_of_the_grace_period(start):
    server = start("--drain-timeout", "1")
    results = []
    with contextlib.ExitStack() as stack:
        thread = in_background(server, results, n=8, **LONG)
        sockets, late = half_sent(server, stack), stack.enter_context(connect(server))
        late.sendall(HALF_SENT["half a body"])
        server.get("/version")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "ending" in server.stderr())
        late.sendall(b" " * 91)  # the rest of it: read and answered as long as another one runs
        assert b"no new requests" in read_all(late) and time.monotonic() - began < 0.9
        assert server.process.wait(30) == 0
        assert 1 <= time.monotonic() - began < 1.8
        check_left(sockets)
        thread.join()
    assert isinstance(results[0], openai.APIError) and "shutting down" in str(results[0])


def test_the_second_signal_ends_at_once(start):
    server = start()
    results = []
    thread = in_background(server, results, n=8, **LONG)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert server.process.poll() is None
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2
    thread.join()


def test_json_log_and_sighup(start):
    server = start("--log-format", "json")
    server.get("/version")
    assert server.log_lines("/version")  # written after the answer, so perhaps after what follows
    moved = server.log_path.with_suffix(".old")
    os.rename(server.log_path, moved)
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while not server.log_path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with client_of(server) as client:
        client.chat.completions.create(model="tiny-moe", messages=MESSAGES, max_tokens=3)
    [line] = [json.loads(line) for line in server.log_lines("/v1/chat/completions")]
    assert line["status"] == 200 and line["output_tokens"] == 3 and line["outcome"] == "ok"
    assert line["first_token_ms"] <= line["total_ms"]
    assert any(json.loads(entry)["path"] == "/version" for entry in moved.read_text().splitlines())


def test_a_log_that_nobody_reads_stops_nothing(folder):
    """Standard error is a pipe with its other end idle."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([PROGRAM, "serve", MODEL, "--port", str(port)], stderr=subprocess.PIPE)
    process.stderr.read(6)
    try:
        for _ in range(3000):  # more lines than a pipe holds
            urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=10).close()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()


def test_a_full_disk_costs_log_lines_and_nothing_else(start):
    server = start(log="/dev/full")
    with client_of(server) as client:
        for _ in range(3):
            client.chat.completions.create(model="tiny-moe", messages=MESSAGES, max_tokens=2)
    lost, deadline = 0, time.monotonic() + 10
    while lost < 3 and time.monotonic() < deadline:
        lost = metrics(server)["moeopt:log_lines_lost_total", ()]
    assert lost >= 3
