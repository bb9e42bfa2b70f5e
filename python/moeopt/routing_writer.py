"""The process that writes a routing log: frames on standard input, a file in either form out.

    python -m moeopt.routing_writer FILE

A process of its own, so that encoding takes nothing from the engine but the bytes of its pipe. A frame is a length
(u32), a JSON object and the object's `bytes` bytes behind it:
    meta  the Header's fields; then at once `part_of`: slot s of a step's arrays is the model's layer part_of[s]
    step  `rows`: [[request, first position, tokens], ...] in the order of the arrays; `new`: {request: [prompt
          tokens, cached tokens]}; `done`: requests that ended before this step; then ids [slots, tokens, k] of the
          header's id_dtype and weights [slots, tokens, k] fp16. `lost`: true, without arrays: a step whose routes
          could not be kept
The end of standard input, however it comes about, ends the log; requests that had not ended are marked partial.
Invariant: a request is in the file whole or not at all; one that lost a step, met a weight that is no number or
would take the memory beyond its bound is dropped and counted.
"""

import dataclasses
import json
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

import numpy as np

from moeopt.routing_format import Header, Request, Span, encoder

MEMORY_BYTES = 1 << 30


@dataclasses.dataclass
class _Open:
    """A request that has not ended."""

    prompt_tokens: int
    cached_tokens: int
    spans: list[Span] = dataclasses.field(default_factory=list)
    ids: list[Any] = dataclasses.field(default_factory=list)
    weights: list[Any] = dataclasses.field(default_factory=list)
    reached: int = 0  # tokens from here on are new, those before it replayed
    tokens: int = 0  # of all its steps, those that came after its loss, too
    lost: bool = False


class Writer:
    """Collects steps into requests. out: where the log goes, opened by the caller."""

    def __init__(self, out: BinaryIO, path: str, memory: int = MEMORY_BYTES):
        self.out, self.encode, self.memory = out, encoder(path), memory
        self.held = 0
        self.whole = 0  # bytes of the file that are whole records
        self.header: Header | None = None
        self.order: list[int] = []  # the slot of each logged layer, ascending by layer
        self.open: dict[str, _Open] = {}
        self.totals: dict[str, int] = {}

    def frame(self, about: dict[str, Any], payload: bytes) -> None:
        if about["kind"] == "meta":
            self._meta(about)
            return
        for name in about["done"]:
            self._end(name, partial=False)
        for name, (prompt, cached) in about["new"].items():
            self.open[name] = _Open(prompt, cached, reached=cached)
        if about.get("lost"):
            for name, _, count in about["rows"]:
                if request := self.open.get(name):
                    request.tokens += count
                    self._lose(request)
        elif about["rows"]:
            self._step(about["rows"], payload)

    def close(self) -> None:
        for name in list(self.open):
            self._end(name, partial=True)
        if self.header is not None:
            self._write(self.encode.totals(self.totals))

    def _write(self, record: bytes) -> None:
        self.out.write(record)
        self.out.flush()
        self.whole += len(record)

    def _meta(self, about: dict[str, Any]) -> None:
        layers = about["part_of"]
        self.order = sorted(range(len(layers)), key=lambda slot: layers[slot])
        fields = {field.name: about[field.name] for field in dataclasses.fields(Header) if field.name != "layers"}
        self.header = Header(**fields, layers=tuple(sorted(layers)))
        self._write(self.encode.header(self.header))

    def _step(self, rows: list[list[Any]], payload: bytes) -> None:
        header = self.header
        assert header is not None
        tokens = sum(count for *_, count in rows)
        shape = (len(self.order), tokens, header.top_k)
        size = int(np.prod(shape))
        ids = np.frombuffer(payload, header.id_dtype, size).reshape(shape)[self.order]
        weights = np.frombuffer(payload, "<f2", size, size * header.id_dtype.itemsize).reshape(shape)[self.order]
        at = 0
        for name, first, count in rows:
            self._rows(name, first, ids[:, at:at + count].swapaxes(0, 1), weights[:, at:at + count].swapaxes(0, 1))
            at += count

    def _rows(self, name: str, first: int, ids: Any, weights: Any) -> None:
        request = self.open.get(name)
        if request is None:
            return
        request.tokens += len(ids)
        if request.lost:
            return
        size = ids.nbytes + weights.nbytes
        if self.held + size > self.memory or not np.isfinite(weights).all():
            self._lose(request)
            return
        self.held += size
        request.ids.append(np.ascontiguousarray(ids))
        request.weights.append(np.ascontiguousarray(weights))
        position, end = first, first + len(ids)
        for border, phase, replayed in ((min(request.prompt_tokens, request.reached), 0, True),
                                        (request.reached, 1, True), (request.prompt_tokens, 0, False),
                                        (end, 1, False)):
            upto = min(border, end)
            if upto > position:
                _extend(request.spans, Span(position, upto - position, phase, replayed))
                position = upto
        request.reached = max(request.reached, end)

    def _lose(self, request: _Open) -> None:
        if not request.lost:
            self.held -= sum(part.nbytes for part in (*request.ids, *request.weights))
            request.lost, request.ids, request.weights = True, [], []

    def _end(self, name: str, partial: bool) -> None:
        request = self.open.pop(name, None)
        if request is None:
            return
        assert self.header is not None
        if request.lost:
            self._count(dropped_requests=1, dropped_tokens=request.tokens)
            return
        if not request.spans:
            return
        done = Request(name, request.prompt_tokens, request.cached_tokens, partial, tuple(request.spans),
                       np.concatenate(request.ids), np.concatenate(request.weights))
        self.held -= done.ids.nbytes + done.weights.nbytes
        self._write(self.encode.request(self.header, done))
        self._count(requests=1, tokens=done.tokens, replayed_tokens=done.replayed_tokens,
                    cached_tokens=done.cached_tokens)

    def _count(self, **more: int) -> None:
        for key, value in more.items():
            self.totals[key] = self.totals.get(key, 0) + value


def _extend(spans: list[Span], span: Span) -> None:
    """Appends a span, to the last one where it goes on."""
    if spans and spans[-1].first + spans[-1].count == span.first and \
            (spans[-1].phase, spans[-1].replayed) == (span.phase, span.replayed):
        spans[-1] = dataclasses.replace(spans[-1], count=spans[-1].count + span.count)
    else:
        spans.append(span)


def frame_bytes(about: dict[str, Any], payload_bytes: int = 0) -> bytes:
    """A frame's length and object; so many bytes are to follow."""
    text = json.dumps(about | {"bytes": payload_bytes}).encode()
    return struct.pack("<I", len(text)) + text


def frames(source: BinaryIO) -> Any:
    """(object, bytes) of every whole frame."""
    while len(head := source.read(4)) == 4:
        text = source.read(struct.unpack("<I", head)[0])
        try:
            about = json.loads(text)
        except ValueError:  # the sender died within it
            return
        payload = source.read(about["bytes"])
        if len(payload) < about["bytes"]:
            return
        yield about, payload


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sender's end ends this, by the pipe
    path, whole = sys.argv[1], 0
    try:
        with open(path, "wb") as out:
            writer = Writer(out, path)
            try:
                for about, payload in frames(sys.stdin.buffer):
                    writer.frame(about, payload)
                writer.close()
            finally:
                whole = writer.whole
    except OSError as problem:
        print(f"moeopt: the routing log {path} ended: {os.strerror(problem.errno or 0)}", file=sys.stderr)
        if os.path.isfile(path):
            os.truncate(path, whole)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
