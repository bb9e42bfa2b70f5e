"""What strangers send: each gets a clear answer or a closed socket, and the server goes on."""

import json
import socket
import time

import pytest
from conftest import QUESTION, SANITIZED

CHAT = {"messages": [{"role": "user", "content": QUESTION}]}


def connect(server, timeout=10):
    return socket.create_connection(("127.0.0.1", server.port), timeout=timeout)


def read_all(sock) -> bytes:
    data = b""
    try:
        while part := sock.recv(65536):
            data += part
    except (TimeoutError, ConnectionResetError):
        pass
    return data


def exchange(server, raw: bytes, timeout=10) -> bytes:
    """Sends `raw`, reads until the server closes."""
    with connect(server, timeout) as sock:
        try:
            sock.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_all(sock)


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer[9:12])


def post(body: bytes, *headers: str, path="/v1/chat/completions", close=True) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


GET = b"GET /version HTTP/1.1\r\nHost: x\r\n"
SMUGGLING = {
    "length and encoding": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x",
    "encoding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /x",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two equal lengths": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "signed length": b"Content-Length: +5\r\n\r\nhello",
    "negative length": b"Content-Length: -1\r\n\r\nhello",
    "hexadecimal length": b"Content-Length: 0x5\r\n\r\nhello",
    "huge length": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "unknown encoding": b"Transfer-Encoding: identity\r\n\r\n",
    "chunked in a list": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two encodings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "xchunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "tab in a name": b"Content\tLength: 5\r\n\r\nhello",
    "NUL in a value": b"X-A: a\x00b\r\n\r\n",
    "bare line feeds": b"X-A: a\nX-B: b\r\n\r\n",
    "carriage return in a value": b"X-A: a\rX-B: b\r\n\r\n",
    "two hosts": b"Host: y\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_smuggling_shapes_are_refused(server, name):
    answer = exchange(server, GET + SMUGGLING[name])
    if answer:
        assert status(answer) in (400, 413), answer[:200]
        assert answer.count(b"HTTP/1.1 ") == 1, "nothing after it is read as a request"
        assert b"Connection: close" in answer
        json.loads(answer.split(b"\r\n\r\n", 1)[1])


REQUEST_LINES = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00", {0, 400}),
    "no host": (b"GET /version HTTP/1.1\r\n\r\n", {400}),
    "http 0.9": (b"GET /version\r\n\r\n", {400}),
    "http 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "absolute target": (b"GET http://x/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {400}),
    "unknown path": (b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {404}),
    "path tricks": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {404}),
    "wrong method": (b"DELETE /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {405}),
    "odd method": (b"BREW /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {405}),
    "get of a post": (b"GET /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {405}),
    "options without cors": (b"OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {405}),
    "long target": (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {431}),
    "long header": (GET + b"X-A: " + b"a" * 20000 + b"\r\n\r\n", {431}),
    "many headers": (GET + b"".join(b"X-%d: a\r\n" % i for i in range(200)) + b"\r\n", {431}),
    "header flood": (GET + b"".join(b"X-%d: a\r\n" % i for i in range(100000)) + b"\r\n", {431}),
    "http 1.0": (b"GET /version HTTP/1.0\r\n\r\n", {200}),
    "head": (b"HEAD /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {200}),
}


@pytest.mark.parametrize("name", REQUEST_LINES)
def test_request_lines(server, name):
    raw, expected = REQUEST_LINES[name]
    answer = exchange(server, raw)
    assert (status(answer) if answer else 0) in expected, answer[:200]
    if name == "head":
        assert answer.endswith(b"\r\n\r\n")


def deep(n):
    return b'{"messages":' + b"[" * n + b"]" * n + b"}"


BODIES = {
    "empty": b"",
    "cut": b'{"messages": [',
    "two values": b"{}{}",
    "a list": b"[]",
    "a number": b"5",
    "nan": b'{"temperature": NaN}',
    "infinity": b'{"temperature": Infinity}',
    "too large a number": b'{"temperature": 1e400}',
    "duplicate key": b'{"n": 1, "n": 2}',
    "deep lists": deep(100_000),
    "deep objects": b'{"a":' * 100_000,
    "invalid utf-8": b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "overlong utf-8": b'{"messages": [{"role": "user", "content": "\xc0\xaf"}]}',
    "lone surrogate": rb'{"messages": [{"role": "user", "content": "\ud800"}]}',
    "surrogates reversed": rb'{"messages": [{"role": "user", "content": "\udc00\ud800"}]}',
    "NUL byte": b'{"messages": "\x00"}',
    "byte order mark of utf-16": b"\xff\xfe{\x00}\x00",
    "a million numbers": b'{"prompt": [' + b"1," * 1_000_000 + b"1]}",
    "many keys": b"{" + b",".join(b'"k%d":1' % i for i in range(200_000)) + b"}",
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(server, name):
    answer = exchange(server, post(BODIES[name]), timeout=30)
    assert status(answer) == 400, answer[:300]
    error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
    assert error["message"] and error["type"] == "invalid_request_error"
    assert len(answer) < 4096


def test_a_nul_in_a_prompt_is_text(server):
    body = rb'{"messages": [{"role": "user", "content": "a\u0000b"}], "max_tokens": 2}'
    assert status(exchange(server, post(body))) == 200


def test_too_large_a_body(server):
    answer = exchange(server, post(b"", f"Content-Length: {64 << 20}", "X-Request-Id: too-large"))
    assert status(answer) == 413, "before it is sent"
    assert b"X-Request-Id: too-large\r\n" in answer
    assert [" 413 POST /v1/chat/completions " in line for line in server.log_lines(" too-large ")] == [True]
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = exchange(server, post(chunk * 200, "Transfer-Encoding: chunked"))
    assert status(answer) == 413


def test_announced_bodies_take_nothing_from_others(server):
    """More than all bodies together may hold is announced, and almost nothing is sent."""
    before = server.rss_bytes()
    held = [connect(server) for _ in range(40)]
    for i, sock in enumerate(held):
        chunked = b"7fffff\r\n{" if i % 2 else b"{"
        sock.sendall(post(chunked, "Transfer-Encoding: chunked" if i % 2 else f"Content-Length: {8 << 20}"))
    body = json.dumps({**CHAT, "max_tokens": 2}).encode()
    assert [status(exchange(server, post(body))) for _ in range(20)] == [200] * 20
    assert SANITIZED or server.rss_bytes() - before < 16 << 20
    for sock in held:
        sock.close()


def send_large(server, raw):
    """A socket on which `raw` was sent, or as much as the server took before it refused; reads wait little."""
    sock = connect(server, timeout=60)
    try:
        sock.sendall(raw)
    except (BrokenPipeError, ConnectionResetError):
        pass
    sock.settimeout(0.2)
    return sock


@pytest.mark.parametrize("encoding", (f"Content-Length: {8 << 20}", "Transfer-Encoding: chunked"))
def test_bodies_that_are_sent_are_bounded(start, encoding):
    server = start()
    before, most = server.rss_bytes(), 0
    data = b" " * ((8 << 20) - 64)
    if "chunked" in encoding:
        data = b"%x\r\n" % len(data) + data
    held = []
    for _ in range(48):
        held.append(send_large(server, post(data, encoding)))
        most = max(most, server.rss_bytes() - before)
    answers = [read_all(sock) for sock in held]
    refused = [answer for answer in answers if answer]
    assert {status(answer) for answer in refused} == {503} and b"too many large requests" in refused[0]
    assert 16 <= len(refused) < 48 - 16, "256 MiB are shared by bodies that take 8 to 16"
    print(f"\n{len(answers) - len(refused)} bodies of 8 MiB took {most / 2**20:.0f} MiB at most")
    assert SANITIZED or most < 320 << 20
    for sock in held:
        sock.close()
    body = json.dumps({**CHAT, "max_tokens": 2}).encode()
    deadline = time.monotonic() + 10
    while (got := status(exchange(server, post(body)))) == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert got == 200


def test_large_bodies_that_stall_give_way(start):
    """All that bodies may hold is held by clients that send no more; others get in all the same."""
    server = start()
    data = post(b" " * ((8 << 20) - 64), f"Content-Length: {8 << 20}")
    held = [send_large(server, data) for _ in range(40)]
    time.sleep(1.1)
    body = json.dumps({**CHAT, "max_tokens": 2}).encode() + b" " * (1 << 20)
    assert [status(exchange(server, post(body))) for _ in range(12)] == [200] * 12
    assert any(b"this one came slowest" in read_all(sock) for sock in held)
    for sock in held:
        sock.close()


def test_chunked_bodies(server):
    body = json.dumps({**CHAT, "max_tokens": 2}).encode()
    parts = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert status(exchange(server, post(parts, "Transfer-Encoding: chunked"))) == 200
    bad = b"zz\r\nhello\r\n0\r\n\r\n"
    assert status(exchange(server, post(bad, "Transfer-Encoding: chunked"))) == 400
    huge = b"ffffffffffffffffff\r\nhello"
    assert status(exchange(server, post(huge, "Transfer-Encoding: chunked"))) in (400, 413)


def test_wrong_content_type(server):
    raw = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n"
    for header in (b"", b"Content-Type: text/plain\r\n", b"Content-Type: application/x-www-form-urlencoded\r\n"):
        assert status(exchange(server, raw + header + b"\r\n{}")) == 415


def test_expect_continue(server):
    body = json.dumps({**CHAT, "max_tokens": 2}).encode()
    with connect(server) as sock:
        sock.sendall(post(b"", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert status(read_all(sock)) == 200


def test_pipelined_requests_are_answered_in_order(server):
    one = post(json.dumps({**CHAT, "max_tokens": 3}).encode(), "X-Request-Id: p1", close=False)
    two = GET + b"X-Request-Id: p2\r\n\r\n"
    last = GET + b"X-Request-Id: p3\r\nConnection: close\r\n\r\n"
    answer = exchange(server, one + two + last)
    assert answer.count(b"HTTP/1.1 200") == 3
    places = [answer.index(b"X-Request-Id: p%d" % i) for i in (1, 2, 3)]
    assert places == sorted(places)


def test_half_closed_socket(server):
    with connect(server) as sock:
        sock.sendall(post(json.dumps({**CHAT, "max_tokens": 5}).encode()))
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
    assert answer == b"" or status(answer) == 200
    server.idle()


def test_slow_headers_are_cut_off(start):
    server = start("--header-timeout", "1", "--body-timeout", "1")
    began = time.monotonic()
    with connect(server) as sock:
        sock.sendall(GET)
        answer = read_all(sock)
    assert status(answer) == 408 and time.monotonic() - began < 5
    with connect(server) as sock:  # one byte at a time does not buy time
        began = time.monotonic()
        try:
            while time.monotonic() - began < 8:
                sock.sendall(b"G")
                time.sleep(0.2)
        except OSError:
            pass
        assert time.monotonic() - began < 5
    with connect(server) as sock:
        sock.sendall(post(b"{", "Content-Length: 100"))
        assert status(read_all(sock)) == 408


def test_idle_connections_end_and_cost_little(start):
    server = start("--idle-timeout", "3", "--max-connections", "3000")
    before = server.rss_bytes()
    sockets = [connect(server) for _ in range(2000)]
    assert server.get("/ready")["status"] == "ready"
    used = server.rss_bytes() - before
    print(f"\n2,000 idle connections: {used / 2**20:.1f} MiB")
    assert SANITIZED or used < 64 << 20
    deadline = time.monotonic() + 30
    while server.n_files() > 100 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert server.n_files() <= 100
    for sock in sockets:
        sock.close()


def test_too_many_connections_get_an_answer(start):
    server = start("--max-connections", "4")
    held = [connect(server) for _ in range(4)]
    time.sleep(0.2)
    with connect(server) as sock:
        assert status(read_all(sock)) == 503
    for sock in held:
        sock.close()


def test_a_slow_reader_is_dropped(start):
    """64 choices of 1,900 tokens each: more than the sockets' buffers hold, and never read."""
    server = start("--write-timeout", "2")
    before = most = server.rss_bytes()
    body = {**CHAT, "stream": True, "n": 64, "max_tokens": 1900, "ignore_eos": True, "logprobs": True, "top_logprobs": 20}
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(30)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(post(json.dumps(body).encode()))
        deadline = time.monotonic() + 60
        while "slow reader" not in server.log() and time.monotonic() < deadline:
            most = max(most, server.rss_bytes())
            time.sleep(0.02)
    assert " 499 POST /v1/chat/completions slow reader" in server.log()
    server.idle()
    print(f"\na reader that takes nothing: {(most - before) / 2**20:.1f} MiB at most")
    assert SANITIZED or most - before < 16 << 20


def test_a_reader_that_pauses_gets_everything(server):
    """Its stream waits in the server, is not cut, and nothing of it is lost."""
    body = {**CHAT, "stream": True, "max_tokens": 1900, "ignore_eos": True, "stream_options": {"include_usage": True}}
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(post(json.dumps(body).encode(), "X-Request-Id: pausing"))
        answer = b""
        for _ in range(2):
            answer += sock.recv(1024)
            time.sleep(1.5)
        answer += read_all(sock)
    events = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: {")]
    assert b"data: [DONE]" in answer and json.loads(events[-1])["usage"]["completion_tokens"] == 1900
    server.idle()
    assert " 200 " in server.log_lines("pausing")[0] and " ok" in server.log_lines("pausing")[0]


def test_a_client_that_goes_is_cancelled(server):
    for stream in (True, False):
        body = {**CHAT, "stream": stream, "max_tokens": 1900, "ignore_eos": True, "n": 8}
        with connect(server) as sock:
            sock.sendall(post(json.dumps(body).encode(), f"X-Request-Id: gone-{stream}"))
            deadline = time.monotonic() + 10
            while server.get("/health")["engine"]["running"] == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
        began = time.monotonic()
        server.idle()
        assert time.monotonic() - began < 5
        lines = server.log_lines(f"gone-{stream}")
        assert len(lines) == 1 and " 499 " in lines[0] and "client gone" in lines[0]


def test_the_server_is_still_well(server, client):
    assert server.idle()["failed_steps"] == 0
    assert server.n_files() < 64
