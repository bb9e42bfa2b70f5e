#!/usr/bin/env python3
"""What the routing log costs vLLM, and the log itself: the same prompts without and with it, taking turns.

    vllm_routing.py --out DIR [--layers 48] [--batches 1,32,512] [--pairs 8]

Two engines with the plugin and the same random weights of Qwen3-30B-A3B, CUDA graphs and torch.compile on; one has
VLLM_LOG_MOE=DIR/routing.moer. Overhead per batch: of (prompt 16, 64 new tokens) per request, all of it; a pair is
one run of each, the first of a pair alternates. Then the log is held against what was run: every token of every
request and layer is there once, ids distinct and in range. Writes DIR/timing.json in `moeopt profile`'s form, and
the pictures and report.html where python/moeopt_routing is installed (else: moeopt-routing pictures DIR).
Exit code 0: the log holds, and the kernel counted every step of both engines.
"""

import argparse
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import sys

import numpy as np
import vllm_engine

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "python" / "moeopt_routing"))
from moeopt_routing.log import load  # noqa: E402

PROMPT, NEW, DRAWS = 16, 64, 2000


def start(name, options, folder, environment):
    arguments = vllm_engine.TIMED | dict(model=folder, gpu_memory_utilization=0.45, kv_cache_memory_bytes=4_500_000_000,
                                         compilation_config={"cudagraph_capture_sizes": sorted(options.batches)})
    environment = vllm_engine.OURS | {"VLLM_CACHE_ROOT": f"{options.logs}/cache-r-{name}"} | environment
    return vllm_engine.Engine(name, arguments, environment, f"{options.logs}/routing-{name}.log")


def measure(engine, batch, seed):
    answer = engine.generate(batch, PROMPT, NEW, seed=seed)
    if answer["launches"] != answer["steps"] * answer["layers"] or not answer["launches"]:
        raise RuntimeError(f"NOT APPLIED: {answer['launches']} launches in {answer['steps']} steps")
    return answer["seconds"]


def overhead(ratios):
    """Median of the pairs' ratios less one, and a bootstrap of it, 95%."""
    choose = random.Random(1)
    medians = sorted(statistics.median(choose.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return {"median": statistics.median(ratios), "low": medians[DRAWS // 40], "high": medians[-1 - DRAWS // 40],
            "pairs": ratios}


def check(path, runs):
    """What is wrong with the log of `runs` (batch sizes); "" when nothing is. And its totals."""
    log = load(path, keep_warmup=True)
    tokens, layers = PROMPT + NEW - 1, len(log.layers)
    rows = (log.request * np.int64(tokens) + log.token) * layers + np.searchsorted(log.layers, log.layer)
    faults = {
        "requests, tokens and layers are not each there once":
            len(log.requests) != sum(runs) or log.token.max() >= tokens or
            not np.array_equal(np.sort(rows), np.arange(sum(runs) * tokens * layers)),
        "a prompt token is not marked as prefill, or another one is": ((log.phase == 0) != (log.token < PROMPT)).any(),
        "a token is marked as run again": log.replayed.any(),
        "an id is out of range or comes twice in a token":
            log.ids.max() >= log.n_experts or (np.diff(np.sort(log.ids, -1), axis=-1) == 0).any(),
        "weights do not sum to one": abs(log.weights.astype(float).sum(-1) - 1).max() > 5e-3,
    }
    return "; ".join(text for text, wrong in faults.items() if wrong), log.totals


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--batches", default="1,32,512")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--logs", default="/tmp")
    options = parser.parse_args()
    options.batches = [int(b) for b in options.batches.split(",")]
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "routing.moer"
    folder = vllm_engine.model_folder(options.layers, "bf16")
    environments = {"plain": {}, "logged": {"VLLM_LOG_MOE": str(path), "VLLM_LOG_MOE_MODEL_ID": "Qwen3-30B-A3B-random"}}
    engines = vllm_engine.side_by_side(lambda name: start(name, options, folder, environments[name]), environments)
    runs, rows, logged_batches = [], [], []
    try:
        for batch in options.batches:
            ratios = []
            for pair in range(-1, options.pairs):
                order = ("plain", "logged") if pair % 2 == 0 else ("logged", "plain")
                seconds = {}
                for name in order:
                    seconds[name] = measure(engines[name], batch, seed=pair + 7)
                    if pair >= 0:
                        runs.append({"logged": name == "logged", "batch": batch, "wall_s": seconds[name],
                                     "prompt_tokens": batch * PROMPT, "output_tokens": batch * NEW,
                                     "tokens_per_s": batch * (PROMPT + NEW) / seconds[name]})
                logged_batches.append(batch)
                if pair >= 0:
                    ratios.append(seconds["logged"] / seconds["plain"] - 1)
            rows.append({"batch": batch, **overhead(ratios)})
            row = rows[-1]
            print(f"batch {batch:4d}: overhead {100 * row['median']:.2f}% (95%: {100 * row['low']:.2f}% to "
                  f"{100 * row['high']:.2f}%)", flush=True)
        last = engines["logged"].ask({"stop": True})["status"]
        library = {name: engine.started["status"]["moeopt"] for name, engine in engines.items()}
    finally:
        for engine in engines.values():
            engine.stop()
    wrong, totals = check(path, logged_batches)
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"log: {wrong or 'every token of every request and layer, once'}; {totals}; engine: {last['routing_log']}")
    together = [ratio for row in rows for ratio in row["pairs"]]
    about = {"model": "Qwen3-30B-A3B, random weights", "program": f"moeopt {library['logged']} in vLLM "
             f"{engines['plain'].started['vllm']}", "gpu": engines["plain"].started["gpu"], "prompts": "random ids",
             "layers": "all", "backend": "cuda", "max_tokens": NEW, "pairs": options.pairs, "runs": runs,
             "overhead": overhead(together), "overhead_by_batch": rows}
    (out / "timing.json").write_text(json.dumps(about, indent=1) + "\n")
    if shutil.which("moeopt-routing"):
        subprocess.run(["moeopt-routing", "pictures", str(out)], check=False)
    else:
        print(f"no pictures: pip install python/moeopt_routing && moeopt-routing pictures {out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
