"""Many clients: 500 streams at a time, and 100 that are killed in the middle.

MOEOPT_LOAD_SECONDS (default 10) says how long the load goes on.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

from conftest import QUESTION, SANITIZED, wait_until
from test_status import metrics

SECONDS = float(os.environ.get("MOEOPT_LOAD_SECONDS", "10"))
STREAMS = int(os.environ.get("MOEOPT_LOAD_STREAMS", "500"))


def request(max_tokens, seed, **more):
    body = json.dumps(
        {
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": True,
            "max_tokens": max_tokens,
            "seed": seed,
            "temperature": 1,
            **more,
        }
    )
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()


async def one_stream(server, seed):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request(12, seed))
        data = await reader.read(-1)
    finally:
        writer.close()
    if data.startswith(b"HTTP/1.1 200") and data.rstrip().endswith(b"[DONE]\n\n\r\n0") and b'"error"' not in data:
        return "answered"
    if data.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")):
        return "refused"
    return f"broken: {data[-200:]!r}"


def test_500_streams_at_a_time(start):
    server = start()

    async def load():
        outcomes: dict[str, int] = {}
        end = time.monotonic() + SECONDS

        async def client(number):
            seed = number
            while time.monotonic() < end:
                outcome = await one_stream(server, seed)
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                seed += STREAMS

        await asyncio.gather(*[client(number) for number in range(STREAMS)])
        return outcomes

    asyncio.run(load())  # warm
    server.idle()
    rss, files = server.rss_bytes(), server.n_files()
    outcomes = asyncio.run(load())
    engine = server.idle()
    print(f"\n{outcomes} in {SECONDS:g} s with {STREAMS} streams; RSS {rss >> 20} -> {server.rss_bytes() >> 20} MiB")
    assert set(outcomes) == {"answered"}, outcomes
    assert outcomes["answered"] >= STREAMS
    assert engine["failed_steps"] == 0
    blocks = engine["kv_blocks"]
    assert blocks["live"] == 0 and blocks["free"] + blocks["cached"] == blocks["total"]
    assert server.n_files() <= files + 2
    assert SANITIZED or server.rss_bytes() - rss < 32 << 20
    counted = sum(" 200 POST /v1/chat/completions ok " in line for line in server.log().splitlines())
    assert counted >= outcomes["answered"]


def test_1000_streams_that_wait_cost_little(start):
    """All opened, with their heads sent, while one sequence at a time runs."""
    server = start("--max-num-seqs", "1", "--max-waiting", "1100", "--max-connections", "1200")

    async def hold():
        assert await one_stream(server, 0) == "answered"  # warm
        before, files = server.rss_bytes(), server.n_files()
        held = []
        for seed in range(1000):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request(1900, seed, ignore_eos=True))
            held.append((reader, writer))
        for reader, _ in held:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        engine = (await asyncio.to_thread(server.get, "/health"))["engine"]
        used = server.rss_bytes() - before
        assert engine["running"] + engine["waiting"] > 950 and server.n_files() >= files + 950
        for _, writer in held:
            writer.transport.abort()
        return used

    used = asyncio.run(hold())
    print(f"\n1,000 waiting streams: {used / 2**20:.1f} MiB")
    if not SANITIZED:
        assert used < 64 << 20
    server.idle()


STREAMING = """
import re, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(sys.stdin.buffer.read())
data = b""
while not re.search(b'"content":"[^"]', data):
    data += sock.recv(65536)
print("has a token", flush=True)
while sock.recv(65536):
    pass
print("ended", flush=True)
"""


def kill_100_in_the_middle(server) -> None:
    """100 programs that all have a token of a stream which goes on, ended by SIGKILL."""
    body = request(1900, 1, ignore_eos=True)
    command = [sys.executable, "-S", "-c", STREAMING, str(server.port)]
    clients = []
    for _ in range(100):
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        client.stdin.write(body)
        client.stdin.close()
        clients.append(client)
    for client in clients:
        assert client.stdout.readline() == b"has a token\n"
    assert server.get("/health")["engine"]["running"] == 100, "none of them has ended"
    for client in clients:
        client.send_signal(signal.SIGKILL)
    for client in clients:
        assert client.wait() == -signal.SIGKILL
        assert client.stdout.read() == b"", "it had not ended"
        client.stdout.close()


def test_100_clients_killed_in_the_middle(start):
    server = start("--max-num-seqs", "100", "--max-num-batched-tokens", "512")
    files = server.n_files()
    rss = []
    for killed in (100, 200):
        kill_100_in_the_middle(server)
        engine = server.idle()
        blocks = engine["kv_blocks"]
        assert blocks["live"] == 0 and blocks["free"] + blocks["cached"] == blocks["total"]
        gone = "moeopt:errors_total", (("cause", "client_gone"),)
        wait_until(lambda: metrics(server)[gone] >= killed)
        figures = metrics(server)
        assert figures[gone] == killed
        assert figures["moeopt:request_success_total", (("finished_reason", "cancelled"),)] == killed
        assert server.n_files() <= files + 2
        assert server.get("/ready")["status"] == "ready"
        assert asyncio.run(one_stream(server, killed)) == "answered"
        rss.append(server.rss_bytes())
    print(f"\n100 clients killed, and again: RSS {rss[0] >> 10} -> {rss[1] >> 10} KiB")
    assert SANITIZED or rss[1] - rss[0] < 1 << 20, "10 KiB a client would be too much"
    assert engine["failed_steps"] == 0
