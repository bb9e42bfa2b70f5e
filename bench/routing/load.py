"""How long and how much memory moeopt_routing takes to load a large log, in both formats.

    build/routing-venv/bin/python bench/routing/load.py --program build/release/moeopt [--records 10000000]

Makes a log of a model with 48 layers, 128 experts, top 8 (routing drawn at random), as binary and, by `moeopt
routing convert`, as JSON lines; loads and counts each in a process of its own and prints seconds, seconds of CPU and the
largest resident memory of that process and of the converter that it starts for large JSON lines.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "python/moeopt_routing"
LAYERS, EXPERTS, TOP_K, REQUEST_TOKENS = 48, 128, 8, 500

LOADER = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
start = time.perf_counter()
from moeopt_routing import load
log = load(sys.argv[2], program=sys.argv[3])
seconds = time.perf_counter() - start
assert log.counts().sum() == len(log) * log.top_k
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(len(log), seconds, sum(u.ru_utime + u.ru_stime for u in used), max(u.ru_maxrss for u in used) * 1024)
"""


def write_binary(path, n_records):
    rng = np.random.default_rng(0)
    meta = {
        "type": "meta", "schema": "moeopt-routing/1", "program": "bench/routing/load.py", "model_id": "random",
        "n_layers": LAYERS, "n_experts": EXPERTS, "top_k": TOP_K, "router": "softmax",
        "layers_logged": list(range(LAYERS)), "seed": 0, "started": "2026-01-01T00:00:00Z", "weights": True,
    }  # fmt: skip
    text = json.dumps(meta).encode()
    with open(path, "wb") as file:
        file.write(b"MOEROUTE" + struct.pack("<III", 1, len(text), zlib.crc32(text)) + text)
        number = 0
        while n_records > 0:
            n_tokens = min(REQUEST_TOKENS, -(-n_records // LAYERS))
            cells = n_tokens * LAYERS
            # Distinct ids: a start and steps that sum to less than the number of experts.
            steps = rng.integers(1, EXPERTS // TOP_K, (cells, TOP_K)).cumsum(axis=1)
            ids = ((rng.integers(0, EXPERTS, (cells, 1)) + steps) % EXPERTS).astype("<u1")
            weights = np.sort(rng.random((cells, TOP_K), np.float32).astype("<f2"))[:, ::-1]
            name = f"r{number}".encode()
            n_prompt = n_tokens // 2
            spans = struct.pack("<6I", 0, n_prompt, 0, n_prompt, n_tokens - n_prompt, 1)
            payload = struct.pack("<5I", len(name), n_prompt, 0, 0, 2) + name + spans + ids.tobytes() + weights.tobytes()
            file.write(b"RQST" + struct.pack("<II", len(payload), zlib.crc32(payload)) + payload)
            n_records -= cells
            number += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the moeopt program")
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--without-converter", action="store_true", help="JSON lines by Python alone, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moeopt-routing-load-") as folder:
        binary, lines = pathlib.Path(folder) / "log.moer", pathlib.Path(folder) / "log.jsonl"
        write_binary(binary, args.records)
        subprocess.run([args.program, "routing", "convert", binary, lines], check=True, stdout=subprocess.DEVNULL)
        cases = [("binary", binary, args.program), ("JSON lines", lines, args.program)]
        if args.without_converter:
            cases.append(("JSON lines, Python alone", lines, ""))
        for name, path, program in cases:
            done = subprocess.run([sys.executable, "-c", LOADER, str(PACKAGE), str(path), program],
                                  capture_output=True, text=True, check=True)  # fmt: skip
            n, seconds, cpu_seconds, peak = done.stdout.split()
            print(f"{name}: {int(n):,} records, {path.stat().st_size / 1e6:,.0f} MB file, "
                  f"{float(seconds):.1f} s ({float(cpu_seconds):.1f} s of CPU), peak {int(peak) / 1e9:.2f} GB")  # fmt: skip


main()
