import json
import pathlib
import struct
import sys
import zlib

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

META = {
    "type": "meta", "schema": "moeopt-routing/1", "program": "test", "model_id": "tiny", "n_layers": 4,
    "n_experts": 16, "top_k": 2, "router": "softmax", "layers_logged": [1, 3], "seed": 0, "started": "2026-11-29T00:00:00Z",
}  # fmt: skip


def route(request, token, layer, ids, weights=None, **more):
    record = {"type": "route", "req_id": request, "token_idx": token, **more, "layer": layer, "topk_ids": [int(x) for x in ids]}
    if weights is not None:
        record["topk_weights"] = [float(x) for x in weights]
    return json.dumps(record)


def write_jsonl(path, records, meta=META):
    lines = ([json.dumps(meta)] if meta else []) + records
    path.write_text("\n".join(lines) + "\n")
    return path


def random_records(n_requests=12, n_prompt=6, n_decode=8, layers=(1, 3), n=16, k=2, seed=0, shares=None):
    rng = np.random.default_rng(seed)
    records = []
    for r in range(n_requests):
        for t in range(n_prompt + n_decode):
            phase = "prefill" if t < n_prompt else "decode"
            for layer in layers:
                ids = rng.choice(n, k, replace=False, p=shares)
                records.append(route(f"r{r}", t, layer, ids, np.sort(rng.random(k).astype(np.float16))[::-1], phase=phase))
    return records


def binary_log(meta, requests):
    """The binary format, written by hand from docs/SCHEMA.md: requests are (id, spans, ids, weights)."""
    text = json.dumps(meta).encode()
    out = b"MOEROUTE" + struct.pack("<III", 1, len(text), zlib.crc32(text)) + text
    for name, spans, ids, weights in requests:
        name = name.encode()
        payload = struct.pack("<IIIII", len(name), 0, 0, 0, len(spans)) + name
        for first, n_tokens, kind in spans:
            payload += struct.pack("<III", first, n_tokens, kind)
        payload += np.asarray(ids, "<u1" if meta["n_experts"] <= 255 else "<u2").tobytes()
        payload += np.asarray(weights, "<f2").tobytes()
        out += b"RQST" + struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
    return out


@pytest.fixture
def log(tmp_path):
    from moeopt_routing import load

    return load(write_jsonl(tmp_path / "log.jsonl", random_records()))
