"""A routing log in memory, as columns of numpy arrays.

Reads both formats of docs/SCHEMA.md and other engines' logs in the same JSONL form. The file is
untrusted: memory stays bounded by its records, an error names file, line and field, and a file that was
cut short is read up to its last full record.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import zlib

import numpy as np

NO_EXPERT = 0xFFFF
PREFILL, DECODE, UNKNOWN = 0, 1, 2
SCHEMA = "moeopt-routing/1"
MAGIC = b"MOEROUTE"
HEADER_FIELDS = (
    "schema", "program", "model_id", "n_layers", "n_experts", "top_k", "router", "layers_logged",
    "seed", "started",
)  # fmt: skip
CONVERT_BYTES = 64 << 20  # below, starting a program costs more than it saves
MAX_TOP_K = 64
MAX_EXPERTS = 32767


class LogError(Exception):
    """What is wrong with a log, with its place."""


@dataclasses.dataclass
class RoutingLog:
    """Records (token, layer) in the file's order; `ids` ends in NO_EXPERT where slots are unused."""

    header: dict
    missing: list  # header fields that the file lacks
    requests: list  # names, by request number
    request: np.ndarray  # int32
    token: np.ndarray  # int32, position in the sequence
    layer: np.ndarray  # int16
    phase: np.ndarray  # uint8
    replayed: np.ndarray  # bool
    ids: np.ndarray  # uint16 [records, top_k]
    weights: np.ndarray | None  # float16 [records, top_k]
    n_experts: int
    totals: dict  # the log's own last count
    truncated: bool = False
    warmup_left_out: int = 0  # records
    path: str = ""

    def __len__(self):
        return len(self.token)

    @property
    def top_k(self):
        return self.ids.shape[1]

    @property
    def layers(self):
        return np.unique(self.layer)

    @property
    def model(self):
        return self.header.get("model_id") or "unknown model"

    def n_tokens(self):
        """Of the layer with most records."""
        return int(np.bincount(self.layer).max()) if len(self) else 0

    def n_prompts(self):
        return len(np.unique(self.request))

    def select(self, mask):
        """The records where `mask` holds."""
        return dataclasses.replace(
            self,
            request=self.request[mask], token=self.token[mask], layer=self.layer[mask],
            phase=self.phase[mask], replayed=self.replayed[mask], ids=self.ids[mask],
            weights=None if self.weights is None else self.weights[mask],
        )  # fmt: skip

    def at_layer(self, layer):
        return self.select(self.layer == layer)

    def counts(self, mask=None):
        """Rows of each expert, [layers, experts], layers as in `layers`."""
        ids = self.ids if mask is None else self.ids[mask]
        layer = self.layer if mask is None else self.layer[mask]
        index = np.searchsorted(self.layers, layer).astype(np.int64)
        n_layers = len(self.layers)
        out = np.zeros(n_layers * (self.n_experts + 1), np.int64)
        for slot in range(self.top_k):  # a slot at a time: no copy of all ids in 64 bits
            column = np.minimum(ids[:, slot], self.n_experts)  # NO_EXPERT to the last column
            out += np.bincount(index * (self.n_experts + 1) + column, minlength=len(out))
        return out.reshape(n_layers, -1)[:, :-1]


class _Columns:
    """Grows by chunks; joined once at the end."""

    def __init__(self):
        self.chunks = {name: [] for name in ("request", "token", "layer", "phase", "replayed", "ids", "weights")}

    def add(self, **columns):
        for name, values in columns.items():
            self.chunks[name].append(values)

    def join(self, name, dtype, width=None):
        chunks = self.chunks[name]
        if width is not None:
            widest = max([c.shape[1] for c in chunks], default=width)
            fill = NO_EXPERT if name == "ids" else 0
            chunks = [
                c if c.shape[1] == widest
                else np.pad(c, ((0, 0), (0, widest - c.shape[1])), constant_values=fill)
                for c in chunks
            ]  # fmt: skip
        joined = np.concatenate(chunks) if chunks else np.zeros((0,) if width is None else (0, width), dtype)
        self.chunks[name] = []
        return joined.astype(dtype, copy=False)


def load(paths, keep_warmup=False, program=None):
    """One log from a file or its parts. Replayed records stay in, marked; warm-up rows of foreign logs
    are left out and counted unless `keep_warmup`. `program`: the moeopt program, whose converter reads
    large JSONL files several times faster than this package does; by default that of MOEOPT_PROGRAM or
    the PATH, if there is one; "" for none."""
    if isinstance(paths, (str, pathlib.Path)):
        paths = [paths]
    if program is None:
        program = os.environ.get("MOEOPT_PROGRAM") or shutil.which("moeopt") or ""
    logs = [_load_file(pathlib.Path(path), program) for path in paths]
    log = logs[0] if len(logs) == 1 else _join(logs)
    if not len(log):
        raise LogError(f"{log.path}: no routes")
    if not keep_warmup:
        from .warmup import warmup_rows

        rows = warmup_rows(log)
        if rows.any():
            kept = log.select(~rows)
            kept.warmup_left_out = int(rows.sum())
            if not len(kept):
                raise LogError(f"{log.path}: all {len(log)} records are warm-up rows; --keep-warmup shows them")
            log = kept
    return log


def _join(logs):
    first = logs[0]
    for log in logs[1:]:
        for field in ("model_id", "n_experts", "top_k", "layers_logged"):
            if log.header.get(field) != first.header.get(field):
                raise LogError(f"{log.path}: another {field} than {first.path}")
    names = {}
    numbers = []
    for log in logs:
        numbers.append(np.array([names.setdefault(name, len(names)) for name in log.requests], np.int32))
    width = max(log.top_k for log in logs)
    if any(log.top_k != width for log in logs):
        raise LogError(f"{first.path}: parts with different top_k")
    with_weights = all(log.weights is not None for log in logs)
    # A part's totals are of the whole recording up to its end: the largest of a recording's count.
    recordings = {}
    for number, log in enumerate(logs):
        mine = recordings.setdefault((log.header.get("started") or number, log.header.get("program")), {})
        for key, value in log.totals.items():
            if isinstance(value, int):
                mine[key] = max(mine.get(key, 0), value)
    totals = {}
    for recording in recordings.values():
        for key, value in recording.items():
            totals[key] = totals.get(key, 0) + value
    return dataclasses.replace(
        first,
        requests=list(names),
        request=np.concatenate([n[log.request] for n, log in zip(numbers, logs)]),
        **{name: np.concatenate([getattr(log, name) for log in logs])
           for name in ("token", "layer", "phase", "replayed", "ids")},
        weights=np.concatenate([log.weights for log in logs]) if with_weights else None,
        n_experts=max(log.n_experts for log in logs),
        totals=totals,
        truncated=any(log.truncated for log in logs),
    )  # fmt: skip


def _load_file(path, program):
    try:
        with open(path, "rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise LogError(f"{path}: {error.strerror}") from None
    if not start:
        raise LogError(f"{path}: the file is empty")
    if start == MAGIC:
        return _load_binary(path)
    if program and path.stat().st_size >= CONVERT_BYTES:
        log = _load_converted(path, program)
        if log is not None:
            return log
    from .jsonl import load_jsonl

    return load_jsonl(path)


def _load_converted(path, program):
    """By way of the binary format; None when the program cannot (this package then says why)."""
    with tempfile.TemporaryDirectory(prefix="moeopt-routing-") as folder:
        binary = pathlib.Path(folder) / "log.moer"
        command = [program, "routing", "convert", str(path), str(binary)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError:
            return None
        if done.returncode != 0 or b"cut short" in done.stdout:
            return None
        log = _load_binary(binary)
    log.path = str(path)
    with open(path, "rb") as file:
        first = _json(file.readline(1 << 20), f"{path}:1")
    if first.get("type") == "meta":  # with fields that the converter does not know
        log.missing = check_header(first, f"{path}:1")
        log.header = {**log.header, **first}
    return log


def check_header(header, where):
    """Which fields are missing; LogError for what is there and wrong."""
    if not isinstance(header, dict):
        raise LogError(f"{where}: the header is not a JSON object")
    if header.get("schema", SCHEMA) != SCHEMA:
        raise LogError(f'{where}: "schema" is {header["schema"]!r}, this package reads {SCHEMA!r}')
    bounds = {"n_experts": MAX_EXPERTS, "top_k": MAX_TOP_K, "n_layers": 100_000}
    for field, most in bounds.items():
        value = header.get(field)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most):
            raise LogError(f'{where}: "{field}" is {value!r}, it must be within 1 ... {most}')
    layers = header.get("layers_logged")
    if layers is not None and not (
        isinstance(layers, list) and layers and len(layers) <= 1024
        and all(isinstance(x, int) and 0 <= x < 32768 for x in layers)
    ):  # fmt: skip
        raise LogError(f'{where}: "layers_logged" is not a list of layer numbers')
    named = header.get("missing", [])  # by the converter, of another engine's log
    named = named if isinstance(named, list) else []
    return [field for field in HEADER_FIELDS if header.get(field) is None or field in named]


def _load_binary(path):
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    header, at = _binary_header(path, data)
    missing = check_header(header, f"{path}: header")
    layers = np.array(header["layers_logged"], np.int16)
    top_k, n_experts = header["top_k"], header["n_experts"]
    id_bytes = 1 if n_experts <= 255 else 2
    has_weights = header.get("weights", True)
    columns, requests, totals, truncated = _Columns(), [], {}, False
    while at < len(data):
        if at + 12 > len(data):
            truncated = True
            break
        tag = data[at : at + 4].tobytes()
        length, checksum = (int(x) for x in data[at + 4 : at + 12].view("<u4"))
        if tag not in (b"RQST", b"RTOT"):
            raise LogError(f"{path}: unknown block {tag!r} at byte {at}")
        if at + 12 + length > len(data):
            truncated = True
            break
        payload = data[at + 12 : at + 12 + length]
        if zlib.crc32(payload) != checksum:
            raise LogError(f"{path}: block at byte {at}: checksum does not match")
        if tag == b"RTOT":
            totals = _json(payload.tobytes(), f"{path}: totals at byte {at}")
        else:
            name = _binary_request(
                payload, f"{path}: block at byte {at}", len(requests), layers, top_k, n_experts,
                id_bytes, has_weights, columns,
            )  # fmt: skip
            requests.append(name)
        at += 12 + length
    return RoutingLog(
        header, missing, requests,
        columns.join("request", np.int32), columns.join("token", np.int32),
        columns.join("layer", np.int16), columns.join("phase", np.uint8),
        columns.join("replayed", bool), columns.join("ids", np.uint16, top_k),
        columns.join("weights", np.float16, top_k) if has_weights else None,
        n_experts, totals, truncated, path=str(path),
    )  # fmt: skip


def _json(text, where):
    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise LogError(f"{where}: not valid JSON: {error}") from None


def _binary_header(path, data):
    if len(data) < 20:
        raise LogError(f"{path}: header: cut short")
    version, length, checksum = (int(x) for x in data[8:20].view("<u4"))
    if version != 1:
        raise LogError(f"{path}: header: version {version}, this package reads 1")
    if length > 1 << 20 or 20 + length > len(data):
        raise LogError(f"{path}: header: cut short")
    text = data[20 : 20 + length].tobytes()
    if zlib.crc32(text) != checksum:
        raise LogError(f"{path}: header: checksum does not match")
    header = _json(text, f"{path}: header")
    check_header(header, f"{path}: header")
    for field in ("n_experts", "top_k", "layers_logged"):
        if header.get(field) is None:
            raise LogError(f'{path}: header: "{field}" is missing')
    return header, 20 + length


def _binary_request(payload, where, number, layers, top_k, n_experts, id_bytes, has_weights, columns):
    def refuse(why):
        raise LogError(f"{where}: {why}")

    if len(payload) < 20:
        refuse("cut short")
    id_length, _, _, _, n_spans = (int(x) for x in payload[:20].view("<u4"))
    spans_end = 20 + id_length + 12 * n_spans
    if id_length > 256 or spans_end > len(payload):
        refuse("spans run past the block")
    name = payload[20 : 20 + id_length].tobytes().decode("utf-8", "replace")
    spans = np.frombuffer(payload[20 + id_length : spans_end].tobytes(), "<u4").reshape(-1, 3)
    n_tokens = int(spans[:, 1].sum(dtype=np.int64))
    cells = n_tokens * len(layers)
    slots = cells * top_k
    wanted = slots * (id_bytes + (2 if has_weights else 0))
    if wanted != len(payload) - spans_end:
        refuse(f"{n_tokens} tokens need {wanted} bytes of routes, {len(payload) - spans_end} are there")
    ids = np.frombuffer(payload[spans_end : spans_end + slots * id_bytes].tobytes(), f"<u{id_bytes}")
    if id_bytes == 1:
        ids = ids.astype(np.uint16)
        ids[ids == 0xFF] = NO_EXPERT
    ids = ids.reshape(cells, top_k)
    if ((ids >= n_experts) & (ids != NO_EXPERT)).any():
        refuse(f"an expert id is not below {n_experts}")
    weights = None
    if has_weights:
        weights = np.frombuffer(payload[spans_end + slots * id_bytes :].tobytes(), "<f2").reshape(cells, top_k)
        if not np.isfinite(weights).all():
            refuse("a weight is not finite")
    token = np.concatenate(
        [np.arange(first, first + n, dtype=np.int64) for first, n, _ in spans.tolist()] or [np.zeros(0, np.int64)]
    )
    kind = np.repeat(spans[:, 2], spans[:, 1])
    full = ids[:, 0] != NO_EXPERT
    columns.add(
        request=np.full(int(full.sum()), number, np.int32),
        token=np.repeat(token, len(layers)).astype(np.int32)[full],
        layer=np.tile(layers, n_tokens)[full],
        phase=np.repeat((kind & 3).astype(np.uint8), len(layers))[full],
        replayed=np.repeat((kind & 0x100) != 0, len(layers))[full],
        ids=ids if full.all() else ids[full],
    )
    if has_weights:
        columns.add(weights=weights if full.all() else weights[full])
    return name
