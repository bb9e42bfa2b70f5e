"""The soak's clients: what they send, and what became of each request.

Invariant: every request that was sent ends in exactly one outcome. `Load.broken` lists those that got neither a
whole answer nor a clear refusal, `Load.answered` and `Load.vanished` hold the ids that the server's log must know.
"""

import asyncio
import collections
import dataclasses
import json
import random

from conftest import QUESTION

SECONDS_PER_REQUEST = 120


@dataclasses.dataclass
class Sent:
    """One request on the wire and what may come back."""

    raw: bytes
    statuses: tuple[int, ...]
    stream: bool = False
    leave_after_bytes: int | None = None  # the client vanishes once it has read as much
    leave_after_s: float | None = None  # or after this time, whatever came


def http(request_id: str, path: str, body, method: str = "POST", length: int | None = None) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: soak\r\nX-Request-Id: {request_id}\r\nConnection: close\r\n"
    if method == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(data) if length is None else length}\r\n"
    return head.encode() + b"\r\n" + data


def chat(rng: random.Random, **more) -> dict:
    return {
        "messages": [{"role": "user", "content": f"{QUESTION} ({rng.randrange(1000)})"}],
        "max_tokens": rng.randrange(2, 60), "temperature": rng.choice((0, 1)), "seed": rng.randrange(1 << 30), **more,
    }  # fmt: skip


def make_stream(rng, request_id):
    options = {"include_usage": rng.random() < 0.5}
    return Sent(http(request_id, "/v1/chat/completions", chat(rng, stream=True, stream_options=options)), (200,), True)


def make_long(rng, request_id):
    """Its blocks grow past what admission left free: others are preempted."""
    body = chat(rng, stream=True) | {"max_tokens": rng.randrange(200, 600), "ignore_eos": True}
    return Sent(http(request_id, "/v1/chat/completions", body), (200,), True)


def make_whole(rng, request_id):
    more = {"logprobs": True, "top_logprobs": 3} if rng.random() < 0.3 else {"stop": ["legs", "."]}
    return Sent(http(request_id, "/v1/chat/completions", chat(rng, **more)), (200,))


def make_shared_prefix(rng, request_id):
    prefix = f"Story {rng.randrange(12)}. " + "The farmer counts the horses and the hens. " * rng.randrange(5, 60)
    body = {"prompt": prefix + str(rng.random()), "max_tokens": rng.randrange(1, 40), "stream": rng.random() < 0.5}
    return Sent(http(request_id, "/v1/completions", body), (200,), body["stream"])


def make_choices(rng, request_id):
    body = chat(rng, n=rng.randrange(2, 7), stream=rng.random() < 0.5)
    return Sent(http(request_id, "/v1/chat/completions", body), (200,), body["stream"])


def make_structured(rng, request_id):
    names = [f"k{rng.randrange(40)}" for _ in range(rng.randrange(1, 4))]
    schema = {"type": "object", "properties": {name: {"type": "integer", "minimum": 0, "maximum": 99} for name in names},
              "required": sorted(set(names)), "additionalProperties": False}  # fmt: skip
    if rng.random() < 0.5:
        more = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    else:
        function = {"name": "count", "parameters": schema}
        more = {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    body = chat(rng, stream=rng.random() < 0.5, **more)
    return Sent(http(request_id, "/v1/chat/completions", body), (200,), body["stream"])


def make_vanishing(rng, request_id):
    body = chat(rng, stream=rng.random() < 0.7, n=rng.choice((1, 1, 4)), max_tokens=1500, ignore_eos=True)
    sent = Sent(http(request_id, "/v1/chat/completions", body), (200,), body["stream"])
    if body["stream"] and rng.random() < 0.8:
        sent.leave_after_bytes = rng.randrange(1, 20000)
    else:
        sent.leave_after_s = rng.random()
    return sent


def make_oversized(rng, request_id):
    if rng.random() < 0.3:
        return Sent(http(request_id, "/v1/completions", b"", length=64 << 20), (413,))
    body = {"prompt": "horse " * 5000} if rng.random() < 0.5 else chat(rng, max_tokens=10**9)
    return Sent(http(request_id, "/v1/completions" if "prompt" in body else "/v1/chat/completions", body), (400,))


BROKEN = (b"", b"{", b"[]", b'{"messages": [', b"[" * 100_000, b'{"messages": "\xff"}', b'{"messages": [], "n": NaN}',
          b'{"messages": [{"role": "user", "content": "a"}], "temperature": -1}',
          b'{"messages": [{"role": "nobody", "content": "a"}]}')  # fmt: skip


def make_broken(rng, request_id):
    if rng.random() < 0.2:  # half a body, then gone
        raw = http(request_id, "/v1/chat/completions", b'{"messages"', length=100)
        return Sent(raw, (), leave_after_s=rng.random())
    if rng.random() < 0.2:
        return Sent(b"GARBAGE \x00\r\n\r\n", (400,))
    return Sent(http(request_id, "/v1/chat/completions", rng.choice(BROKEN)), (400,))


def make_glance(rng, request_id):
    path = rng.choice(("/health", "/ready", "/metrics", "/v1/models", "/v1/routing", "/nothing", "/"))
    return Sent(http(request_id, path, None, "GET"), (404,) if path == "/nothing" else (200,))


def make_tokenize(rng, request_id):
    return Sent(http(request_id, "/tokenize", {"prompt": QUESTION * rng.randrange(1, 200)}), (200,))


def make_silent(rng, request_id):
    return Sent(b"", (), leave_after_s=2 * rng.random())


MIX = {make_stream: 25, make_long: 5, make_whole: 12, make_shared_prefix: 15, make_choices: 6, make_structured: 8,
       make_vanishing: 12, make_oversized: 4, make_broken: 6, make_glance: 3, make_tokenize: 2, make_silent: 2}  # fmt: skip


def verdict(sent: Sent, data: bytes) -> tuple[str, int]:
    """answered, failed (the server said so), refused (429, 503) or broken; and the status."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/1.1 "):
        return "broken", 0
    status = int(head[9:12])
    if b"transfer-encoding: chunked" in head.lower():
        whole = body.endswith(b"\r\n0\r\n\r\n") and (not sent.stream or b"data: [DONE]\n\n" in body[-40:])
        failed = b'data: {"error"' in body
    else:
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        whole = len(lengths) == 1 and int(lengths[0][15:]) == len(body)
        failed = status in (500, 504)
    if not whole:
        return "broken", status
    if failed:
        return "failed", status
    if status in (429, 503):
        return "refused", status
    return ("answered" if status in sent.statuses else "broken"), status


class Load:
    """`clients` of them, each sending one request after the other while `go` is set."""

    def __init__(self, port: int, clients: int, seed: int):
        self.port, self.clients, self.seed = port, clients, seed
        self.go = asyncio.Event()
        self.ended = False
        self.n_sent = self.in_flight = 0
        self.outcomes: collections.Counter[str] = collections.Counter()  # "kind outcome"
        self.broken: list[str] = []
        self.answered: dict[str, int] = {}  # id -> status, of everything that got one
        self.vanished: dict[str, bool] = {}  # id -> whether an answer had begun

    async def read(self, sent: Sent, reader: asyncio.StreamReader) -> tuple[bytes, bool]:
        """What came, and whether the client left before the end."""
        data = bytearray()
        while sent.leave_after_bytes is None or len(data) < sent.leave_after_bytes:
            part = await reader.read(65536)
            if not part:
                return bytes(data), False
            data += part
        return bytes(data), True

    async def send(self, sent: Sent, request_id: str) -> tuple[str, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        left, data = True, b""
        try:
            writer.write(sent.raw)
            seconds = SECONDS_PER_REQUEST if sent.leave_after_s is None else sent.leave_after_s
            try:
                data, left = await asyncio.wait_for(self.read(sent, reader), seconds)
            except asyncio.TimeoutError:
                if sent.leave_after_s is None:
                    return "broken", 0
            if left or not sent.statuses:
                if b" /v1/chat/completions " in sent.raw:
                    self.vanished[request_id] = bool(data)
                return "left", 0
            return verdict(sent, data)
        finally:
            writer.transport.abort() if left else writer.close()

    async def one(self, rng: random.Random, number: int) -> None:
        kind = rng.choices(list(MIX), MIX.values())[0]
        request_id = f"soak-{number}"
        sent = kind(rng, request_id)
        try:
            outcome, status = await self.send(sent, request_id)
        except OSError as error:
            outcome, status = "broken", 0
            self.broken.append(f"{kind.__name__} {request_id}: {error!r}")
        else:
            if outcome == "broken":
                self.broken.append(f"{kind.__name__} {request_id}: status {status}")
        self.outcomes[f"{kind.__name__.removeprefix('make_')} {outcome}"] += 1
        if status and request_id.encode() in sent.raw:
            self.answered[request_id] = status

    async def client(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        while True:
            await self.go.wait()
            if self.ended:
                return
            self.n_sent += 1
            self.in_flight += 1
            try:
                await self.one(rng, self.n_sent)
            finally:
                self.in_flight -= 1

    async def quiet(self) -> None:
        """Lets no client begin another request, waits for those under way."""
        self.go.clear()
        while self.in_flight:
            await asyncio.sleep(0.05)

    def end(self) -> None:
        self.ended = True
        self.go.set()

    def lost(self, log: str) -> list[str]:
        """What the server's log does not bear out: one line a request, with the status that the client saw."""
        lines: dict[str, list[int]] = collections.defaultdict(list)
        for line in log.splitlines():
            words = line.split(" ", 3)
            if len(words) == 4 and words[1].startswith("soak-"):
                lines[words[1]].append(int(words[2]))
        wrong = [f"{request_id}: the client saw {status}, the log {lines[request_id]}"
                 for request_id, status in self.answered.items() if lines[request_id] != [status]]  # fmt: skip
        wrong += [f"{request_id}: the client left, the log has {lines[request_id]}"
                  for request_id, begun in self.vanished.items() if len(lines[request_id]) > 1 or (begun and not lines[request_id])]  # fmt: skip
        return wrong
