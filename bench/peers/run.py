#!/usr/bin/env python3
"""Times the fused MoE layer and its peers in one process on one GPU, on the same inputs.

    run.py --lib libmoeopt.so [--prefill] [--shapes qwen3,...] [--dtypes bf16,fp8] [--tokens 1,8,...]
           [--peers torch,triton,deepgemm] [--reps N] [--json FILE]

The points are those of 1 to 512 tokens, with --prefill those of 1024 to 16384.

A figure is the median over replays of a CUDA graph of 8 calls with different tokens and different
experts, ours and the peers' taking turns in random order; the peers' router product and top-k are in their graphs.
Before it is timed, each is held against a float32 sum. Exit code 0: ours ran and was right.
"""

import argparse
import datetime
import json
import random
import statistics
import sys
import traceback

import torch

import contenders
import library
import problem

# Of the difference from the float32 sum over the same weights: bf16 rounds x, h and the rows; fp8
# rounds x and h to e4m3. A wrong expert or weight is off by far more.
ERROR_LIMITS = {"bf16": 1e-2, "fp8": 8e-2}
CHECKED_ROWS = 3
WARM_UP_REPLAYS = 3


def error_of(contender, call, weights, shared):
    rows = sorted({0, call.x.shape[0] // 2, call.x.shape[0] - 1})[:CHECKED_ROWS]
    out = contender(call)
    out = out[0] if isinstance(out, (list, tuple)) else out
    torch.cuda.synchronize()
    if not bool(torch.isfinite(out.float()).all()):
        return float("inf")
    expected = problem.expected_rows(call, weights, rows, shared)
    return float((out[rows].float() - expected).norm() / expected.norm())


class Graph:
    """The calls of one contender, captured."""

    def __init__(self, contender, calls):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for call in calls:
                contender(call)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.calls, self.us = len(calls), []
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.kept = [contender(call) for call in calls]

    def replay(self):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.graph.replay()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e3 / self.calls


def matrix_tflops(reps):
    """The machine's own rates: TFLOP/s of a dense product of 8192^3 random values, by dtype (fp8: a scale a tensor)."""
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    a8, b8, one = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn), torch.ones((), device="cuda")
    products = {"bf16": lambda _: a @ b.t(),
                "fp8": lambda _: torch._scaled_mm(a8, b8.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)}
    rates = {}
    for dtype, product in products.items():
        try:
            graph = Graph(product, [None] * 4)
            us = [graph.replay() for _ in range(WARM_UP_REPLAYS + reps)][WARM_UP_REPLAYS:]
            rates[dtype] = 2 * n ** 3 / statistics.median(us) * 1e-6
        except Exception:  # without it a roofline has no top
            traceback.print_exc()
    return rates


def failed(results, key, problem_found):
    traceback.print_exc()
    results[key] = {"failed": f"{type(problem_found).__name__}: {problem_found}"[:200]}


def run_point(shape, dtype, tokens, planned, copies, weights, shared, field, reps):
    """field: (key, contender); a dictionary by key of µs and error, or of what went wrong."""
    calls = problem.make_calls(shape, planned, copies)
    results, graphs = {}, {}
    for key, contender in field:
        try:
            error = error_of(contender, calls[0], weights[0], shared if key == "moeopt" else None)
            results[key] = {"error": error}
            if not error <= ERROR_LIMITS[dtype]:
                raise RuntimeError(f"off by {error:.2e} from the float32 sum")
        except Exception as problem_found:  # a peer that cannot run is a cell in the table
            failed(results, key, problem_found)
    # All have run once by now, so that no buffer that a graph holds is outgrown by the next contender.
    for key, contender in field:
        if "failed" not in results[key]:
            try:
                graphs[key] = Graph(contender, calls)
            except Exception as problem_found:
                failed(results, key, problem_found)
    # At the power limit a replay depends on what ran before it: in another order each time.
    order, shuffled = list(graphs.values()), random.Random(0)
    for repeat in range(-WARM_UP_REPLAYS, reps):
        shuffled.shuffle(order)
        for graph in order:
            us = graph.replay()
            if repeat >= 0:
                graph.us.append(us)
    for key, graph in graphs.items():
        results[key]["us"] = statistics.median(graph.us)
    return results


def check_counters(ours, tokens):
    counters = ours.layer(tokens).counters()
    assert counters.tokens == counters.launches * tokens, counters.tokens
    assert counters.rows == counters.tokens * ours.shape.top_k, counters.rows
    assert counters.launches > 0 and counters.nan_tokens == 0 and counters.errors == 0


def run_layer(lib, shape, dtype, token_counts, peers, reps, report):
    element_bytes = 2 if dtype == "bf16" else 1
    plans = {tokens: problem.plan(shape, tokens, element_bytes) for tokens in token_counts}
    weights = [problem.random_weights(shape, dtype)]
    while len(weights) < max(copies for _, copies in plans.values()):
        weights.append(weights[0].clone())
    shared = None
    if shape.shared:
        sizes = ((shape.shared, shape.hidden), (shape.shared, shape.hidden), (shape.hidden, shape.shared))
        shared = [(torch.randn(*s, device="cuda") * s[1] ** -0.5).to(torch.bfloat16) for s in sizes]
        shared.append((torch.randn(shape.hidden, device="cuda") * shape.hidden ** -0.5).to(torch.bfloat16))
    ours = contenders.Ours(lib, shape, dtype, weights, shared)
    field = [("moeopt", ours)]
    for key in peers:
        if dtype not in contenders.PEERS[key].dtypes:
            continue
        try:
            field.append((key, contenders.PEERS[key](shape, weights)))
        except Exception as problem_found:
            traceback.print_exc()
            print(f"{shape.name} {dtype} {key}: {problem_found}", flush=True)
    for tokens, (planned, copies) in plans.items():
        results = run_point(shape, dtype, tokens, planned, copies, weights, shared, field, reps)
        if "us" in results["moeopt"]:
            check_counters(ours, tokens)
        report(shape, dtype, tokens, {key: c.name for key, c in field}, results,
               ours.layer(tokens).config)


def table_line(row):
    timed = {key: r["us"] for key, r in row["results"].items() if "us" in r}
    peers = {key: us for key, us in timed.items() if key != "moeopt"}
    best = min(peers, key=peers.get) if peers else None
    ours = timed.get("moeopt")
    row["best_peer"], row["ahead"] = best, bool(ours and best and ours < peers[best])
    cells = " ".join(f"{key} {r['us']:.1f}" if "us" in r else f"{key} FAILED"
                     for key, r in row["results"].items() if key != "moeopt")
    ratio = f"{ours / peers[best]:6.3f}" if ours and best else "     -"
    return (f"{row['shape']:8s} {row['dtype']:5s} {'ids' if row['given_ids'] else 'gate':4s} "
            f"{row['tokens']:5d} {'FAILED' if ours is None else f'{ours:.1f}':>8s} {ratio} "
            f"{'yes' if row['ahead'] else 'NO':5s} {cells}")


def write_json(path, rates, rows):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
                   "date": datetime.date.today().isoformat(), "matrix_tflops": rates, "rows": rows}, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lib", required=True)
    parser.add_argument("--prefill", action="store_true")
    parser.add_argument("--shapes", default=",".join(problem.SHAPES))
    parser.add_argument("--dtypes", default="bf16,fp8")
    parser.add_argument("--tokens", default="")
    parser.add_argument("--peers", default=",".join(contenders.PEERS))
    parser.add_argument("--reps", type=int, default=20)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    torch.manual_seed(0)
    lib = library.Library(options.lib)
    peers = options.peers.split(",") if options.peers else []
    kept = None
    if {"triton", "deepgemm"} & set(peers):
        try:
            kept = contenders.enter_vllm()
        except ImportError as missing:
            traceback.print_exc()
            print(f"no vLLM here ({missing}): its peers are left out", flush=True)
            peers = [p for p in peers if p == "torch"]
    rates = matrix_tflops(options.reps)
    print("dense products of 8192^3: " + ", ".join(f"{name} {rate:.0f} TFLOP/s" for name, rate in rates.items()),
          flush=True)
    torch.cuda.empty_cache()
    rows = []

    def report(shape, dtype, tokens, names, results, config):
        rows.append({"shape": shape.name, "dtype": dtype, "given_ids": shape.given_ids,
                     "tokens": tokens, "names": names, "results": results, "config": config})
        print(table_line(rows[-1]), flush=True)

    for name, dtype, token_counts in problem.PREFILL_POINTS if options.prefill else problem.POINTS:
        if name not in options.shapes.split(",") or dtype not in options.dtypes.split(","):
            continue
        if options.tokens:
            token_counts = tuple(map(int, options.tokens.split(",")))
        try:
            run_layer(lib, problem.SHAPES[name], dtype, token_counts, peers, options.reps, report)
        except Exception:
            traceback.print_exc()
            rows.append({"shape": name, "dtype": dtype, "given_ids": False, "tokens": 0, "names": {},
                         "results": {"moeopt": {"failed": "see above"}}})
        torch.cuda.empty_cache()
        if options.json:  # as far as it goes, after each layer
            write_json(options.json, rates, rows)
    names = sorted({name for row in rows for name in row["names"].values()})
    print(f"\n{torch.cuda.get_device_name()}, {', '.join(names)}; µs per call")
    print("shape    dtype route     T   moeopt  ours/best ahead  peers")
    for row in rows:
        print(table_line(row))
    del kept
    return 0 if rows and all("us" in row["results"]["moeopt"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
