"""The JSONL form: read in pieces of whole lines by polars, so that memory is that of the columns."""

import json

import numpy as np
import polars as pl

from .log import (
    DECODE, MAX_EXPERTS, MAX_TOP_K, NO_EXPERT, PREFILL, UNKNOWN, LogError, RoutingLog, _Columns, _json,
    check_header,
)  # fmt: skip

PIECE_BYTES = 32 << 20
MAX_LINE_BYTES = 1 << 20
FIELDS = {
    "type": pl.String, "req_id": pl.String, "token_idx": pl.Int64, "phase": pl.String,
    "replayed": pl.Boolean, "layer": pl.Int64, "topk_ids": pl.List(pl.Int64),
    "topk_weights": pl.List(pl.Float64),
}  # fmt: skip
TYPES = ("route", "meta", "request", "totals")


def pieces(file, path):
    """(number of the first line, bytes of whole lines); the last piece may lack its line feed."""
    rest = b""
    line = 1
    while True:
        data = file.read(PIECE_BYTES)
        if not data:
            break
        data = rest + data
        cut = data.rfind(b"\n") + 1
        if len(data) - cut > MAX_LINE_BYTES:
            raise LogError(f"{path}:{line + data.count(bytes([10]))}: the line is longer than {MAX_LINE_BYTES} bytes")
        rest = data[cut:]
        if cut:
            yield line, data[:cut]
            line += data.count(b"\n")
    if rest:
        yield line, rest


def load_jsonl(path):
    with open(path, "rb") as file:
        first = file.readline(MAX_LINE_BYTES + 1)
        if len(first) > MAX_LINE_BYTES:
            raise LogError(f"{path}:1: the line is longer than {MAX_LINE_BYTES} bytes")
        head = _json(first, f"{path}:1")
        kind = head.get("type") if isinstance(head, dict) else None
        if kind not in ("meta", "route"):
            raise LogError(f'{path}:1: not a routing log: "type" is {kind!r}, not "meta"')
        header = head if kind == "meta" else {}
        missing = check_header(header, f"{path}:1")
        file.seek(0)
        reader = _Reader(path, header)
        for line, data in pieces(file, path):
            reader.add(line, data)
    return reader.finish(missing)


class _Reader:
    def __init__(self, path, header):
        self.path, self.header = path, header
        self.columns = _Columns()
        self.names = {}
        self.totals = {}
        self.truncated = False
        self.has_weights = header.get("weights", True)
        self.n_experts = header.get("n_experts")
        self.top_k = header.get("top_k")
        self.most_expert = -1
        self.width = self.top_k or 1
        layers = header.get("layers_logged")
        self.layers = None if layers is None else np.array(sorted(layers))

    def add(self, line, data):
        frame = self.parse(line, data)
        if frame is None:
            return
        kinds = frame.get_column("type")
        other = ~kinds.is_in(TYPES[:1]).fill_null(False)
        if other.any():
            self.other_lines(line, data, frame, other)
            frame = frame.filter(~other)
        if len(frame):
            self.routes(line, data, frame)

    def parse(self, line, data):
        try:
            return pl.read_ndjson(data, schema=FIELDS)
        except Exception:  # noqa: BLE001: polars has many, and none names the line
            return self.parse_slowly(line, data)

    def parse_slowly(self, line, data):
        """Finds the line that polars refused, or a last line that was cut."""
        lines = data.split(b"\n")
        for i, text in enumerate(lines):
            if not text.strip():
                continue
            place = f"{self.path}:{line + i}"
            try:
                self.check_line(_json(text, place), place)
            except LogError:
                if i + 1 == len(lines):  # no line feed: the writer was stopped here
                    self.truncated = True
                    good = b"\n".join(lines[:-1])
                    return pl.read_ndjson(good, schema=FIELDS) if good.strip() else None
                raise
        raise LogError(f"{self.path}: lines {line} to {line + len(lines)} cannot be read")

    def check_line(self, record, place):
        def refuse(field, wanted):
            raise LogError(f'{place}: "{field}" is {json.dumps(record.get(field))[:60]}, it must be {wanted}')

        if not isinstance(record, dict):
            raise LogError(f"{place}: not a JSON object")
        if record.get("type") not in TYPES:
            refuse("type", "meta, request, route or totals")
        if record["type"] != "route":
            return
        if not isinstance(record.get("req_id"), str):
            refuse("req_id", "a text")
        for field, most in (("token_idx", 2**31 - 1), ("layer", 32767)):
            value = record.get(field)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                refuse(field, f"a whole number up to {most}")
        ids = record.get("topk_ids")
        if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_TOP_K:
            refuse("topk_ids", f"a list of 1 ... {MAX_TOP_K} experts")
        most = (self.n_experts or MAX_EXPERTS) - 1
        if any(not isinstance(x, int) or isinstance(x, bool) or not 0 <= x <= most for x in ids):
            refuse("topk_ids", f"experts up to {most}")
        if self.top_k and len(ids) > self.top_k:
            refuse("topk_ids", f"at most {self.top_k} experts")
        if self.layers is not None and record["layer"] not in self.layers:
            refuse("layer", "one that the header lists")
        weights = record.get("topk_weights")
        if weights is None and not self.has_weights:
            return
        finite = isinstance(weights, list) and len(weights) == len(ids) and all(
            isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) < 65504 for x in weights
        )
        if not finite and not (weights is None and "weights" not in self.header):
            refuse("topk_weights", "as many finite numbers as there are experts")
        if record.get("phase") not in (None, "prefill", "decode"):
            refuse("phase", "prefill or decode")

    def complain(self, line, data):
        """A column was not as it must be: the line that is at fault says why."""
        for i, text in enumerate(data.split(b"\n")):
            if text.strip():
                place = f"{self.path}:{line + i}"
                self.check_line(_json(text, place), place)
        raise LogError(f"{self.path}: the lines from {line} on cannot be read")

    def other_lines(self, line, data, frame, other):
        kinds = frame.get_column("type").filter(other)
        if not kinds.is_in(TYPES).fill_null(False).all():
            self.complain(line, data)
        second_header = (kinds == "meta").sum() > (1 if line == 1 else 0)
        if not (kinds == "totals").any() and not second_header:
            return
        for i, text in enumerate(data.split(b"\n")):  # rare lines
            if b'"totals"' in text:
                record = _json(text, f"{self.path}:{line + i}")
                if record.get("type") == "totals":
                    self.totals = record
            elif b'"meta"' in text and line + i > 1:
                record = _json(text, f"{self.path}:{line + i}")
                check_header(record, f"{self.path}:{line + i}")
                for field in ("layers_logged", "n_experts", "top_k", "model_id"):
                    if None not in (record.get(field), self.header.get(field)) and record[field] != self.header[field]:
                        raise LogError(f'{self.path}:{line + i}: a second header with another "{field}"')

    def routes(self, line, data, frame):
        n = len(frame)
        token = frame.get_column("token_idx")
        layer = frame.get_column("layer")
        ids = frame.get_column("topk_ids")
        lengths = ids.list.len()
        flat = ids.list.explode() if hasattr(ids.list, "explode") else ids.explode()
        bad = (
            token.null_count() or layer.null_count() or lengths.null_count() or frame.get_column("req_id").null_count()
            or token.min() < 0 or token.max() > 2**31 - 1 or layer.min() < 0 or layer.max() > 32767
            or lengths.min() < 1 or lengths.max() > (self.top_k or MAX_TOP_K)
            or flat.null_count() or flat.min() < 0 or flat.max() >= (self.n_experts or MAX_EXPERTS)
        )  # fmt: skip
        layer = layer.to_numpy().astype(np.int16)
        if not bad and self.layers is not None:
            bad = not np.isin(layer, self.layers).all()
        weights = frame.get_column("topk_weights")
        if not bad and self.has_weights:
            if weights.null_count() == n and "weights" not in self.header:
                self.has_weights = False
            else:
                flat_weights = weights.explode()
                bad = (
                    weights.null_count() or not (weights.list.len() == lengths).all()
                    or flat_weights.null_count() or not flat_weights.is_finite().all()
                    or flat_weights.abs().max() >= 65504
                )  # fmt: skip
        phase = frame.get_column("phase")
        bad = bad or not phase.drop_nulls().is_in(["prefill", "decode"]).all()
        if bad:
            self.complain(line, data)
        self.most_expert = max(self.most_expert, flat.max())
        width = max(self.width, int(lengths.max()))
        self.width = width
        keep = None
        if lengths.min() != width:
            keep = np.arange(width)[None, :] < lengths.to_numpy()[:, None]

        def matrix(values, dtype, fill):
            values = values.to_numpy().astype(dtype)
            if keep is None:
                return values.reshape(n, width)
            out = np.full((n, width), fill, dtype)
            out[keep] = values
            return out

        replayed = frame.get_column("replayed")
        phases = np.full(n, UNKNOWN, np.uint8)
        if phase.null_count() < n:
            phases[(phase == "prefill").fill_null(False).to_numpy()] = PREFILL
            phases[(phase == "decode").fill_null(False).to_numpy()] = DECODE
        self.columns.add(
            request=self.request_numbers(frame.get_column("req_id")),
            token=token.to_numpy().astype(np.int32),
            layer=layer,
            phase=phases,
            replayed=replayed.fill_null(False).to_numpy() if replayed.null_count() < n else np.zeros(n, bool),
            ids=matrix(flat, np.uint16, NO_EXPERT),
        )
        if self.has_weights:
            self.columns.add(weights=matrix(flat_weights, np.float16, 0))

    def request_numbers(self, names):
        """Runs of one name get one look-up."""
        starts = (names != names.shift(1)).fill_null(True).to_numpy()
        first = names.filter(pl.Series(starts))
        numbers = np.array([self.names.setdefault(name, len(self.names)) for name in first], np.int32)
        return np.repeat(numbers, np.diff(np.append(np.flatnonzero(starts), len(names))))

    def finish(self, missing):
        columns = self.columns
        if self.most_expert < 0 and None in (self.n_experts, self.top_k):
            raise LogError(f"{self.path}: no routes, and the header lacks {', '.join(missing)}")
        width = self.top_k or self.width
        n_experts = self.n_experts or self.most_expert + 1
        return RoutingLog(
            self.header, missing, list(self.names),
            columns.join("request", np.int32), columns.join("token", np.int32),
            columns.join("layer", np.int16), columns.join("phase", np.uint8),
            columns.join("replayed", bool), columns.join("ids", np.uint16, width),
            columns.join("weights", np.float16, width) if self.has_weights else None,
            n_experts, self.totals, self.truncated, path=str(self.path),
        )  # fmt: skip
