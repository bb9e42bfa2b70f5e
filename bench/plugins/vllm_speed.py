#!/usr/bin/env python3
"""vLLM as it is and with our plugin, side by side on one GPU, their runs taking turns.

    vllm_speed.py [--dtype bf16|fp8] [--layers 48] [--batches 1,16,64,512] [--reps 3] [--json FILE]

Both engines hold Qwen3-30B-A3B with the same random weights, CUDA graphs and torch.compile on. decode: the time
of (prompt 16, 64 new tokens) less that of (16, 16), over 48 steps; prefill: prompts of 2048 tokens. Medians.
A run of ours in which the kernel's counter did not move by steps x layers is NOT APPLIED and has no speed.
Both at once, bf16, need nine tenths of an H200; --layers 24 halves that. They start at the same time.
"""

import argparse
import json
import statistics
import sys

import vllm_engine

PROMPT, SHORT, LONG = 16, 16, 64


class NotApplied(Exception):
    pass


def start(name, options, folder, environment):
    arguments = vllm_engine.TIMED | dict(model=folder, gpu_memory_utilization=options.utilisation,
                                         kv_cache_memory_bytes=int(options.kv_gb * 1e9), enforce_eager=options.eager)
    if not options.eager:
        arguments["compilation_config"] = {"cudagraph_capture_sizes": sorted(options.batches)}
    if options.attention:
        arguments["attention_backend"] = options.attention
    engine = vllm_engine.Engine(name, arguments, environment, f"{options.logs}/vllm-{options.dtype}-{name}.log")
    print(f"{name}: {json.dumps({k: v for k, v in engine.started.items() if k != 'status'})}", flush=True)
    return engine


def generate(engine, *what, **named):
    answer = engine.generate(*what, **named)
    if engine.name == "moeopt":
        if answer["launches"] == 0:
            raise NotApplied("the kernel counted no launch")
        if answer["launches"] != answer["steps"] * answer["layers"]:
            raise NotApplied(f"{answer['launches']} launches in {answer['steps']} steps of {answer['layers']} layers")
    elif answer["launches"]:
        raise RuntimeError("the stock engine ran our kernel")
    return answer


def decode_ms(engine, batch, seed):
    times = [generate(engine, batch, PROMPT, new, seed=seed)["seconds"] for new in (SHORT, LONG)]
    return (times[1] - times[0]) / (LONG - SHORT) * 1e3


def prefill_ms(engine, prompts, length, seed):
    return generate(engine, prompts, length, 1, seed=seed)["seconds"] * 1e3


def compare(case, measure, engines, reps, rows):
    row = {"case": case, "ms": {}, "failed": {}}
    samples = {engine.name: [] for engine in engines}
    for repeat in range(-1, reps):
        for engine in engines:
            if engine.name in row["failed"]:
                continue
            try:
                value = measure(engine, repeat + 7)
                if repeat >= 0:
                    samples[engine.name].append(value)
            except NotApplied as reason:
                row["failed"][engine.name] = f"NOT APPLIED: {reason}"
    row["ms"] = {name: statistics.median(values) for name, values in samples.items()
                 if values and name not in row["failed"]}
    row["samples"] = samples
    rows.append(row)
    print(line_of(row), flush=True)


def line_of(row):
    cells = [f"{row['ms'][name]:10.3f}" if name in row["ms"] else f"{'NOT APPLIED':>11s}" for name in ("stock", "moeopt")]
    gain = f"{row['ms']['stock'] / row['ms']['moeopt']:.3f}x" if len(row["ms"]) == 2 else "-"
    return f"{row['case']:24s} {cells[0]} {cells[1]} {gain:>8s}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dtype", choices=("bf16", "fp8"), default="bf16")
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--batches", default="1,16,64,512")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--utilisation", type=float, default=0.45, help="of the GPU's memory, each engine")
    parser.add_argument("--kv-gb", type=float, default=4.5, help="KV cache of each engine")
    parser.add_argument("--eager", action="store_true", help="without graphs and compilation, to look for faults")
    parser.add_argument("--attention", default="", help="vLLM's attention backend, TRITON_ATTN say")
    parser.add_argument("--logs", default="/tmp")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    options.batches = [int(b) for b in options.batches.split(",")]
    folder = vllm_engine.model_folder(options.layers, options.dtype)
    engines, rows = [], []
    try:
        modes = {"stock": vllm_engine.STOCK, "moeopt": vllm_engine.OURS}
        engines += vllm_engine.side_by_side(lambda name: start(name, options, folder, modes[name] | {
            "VLLM_CACHE_ROOT": f"{options.logs}/cache-{options.dtype}-{name}"}), modes).values()
        print(f"{'case':24s} {'stock ms':>10s} {'moeopt ms':>10s} {'gain':>8s}", flush=True)
        for batch in options.batches:
            compare(f"decode step, batch {batch}", lambda e, seed, b=batch: decode_ms(e, b, seed), engines,
                    options.reps, rows)
        for prompts, length in ((1, 2048), (16, 2048)):
            compare(f"prefill {prompts} x {length}", lambda e, seed, p=prompts, n=length: prefill_ms(e, p, n, seed),
                    engines, options.reps, rows)
        first = [generate(e, 8, 32, 1, seed=99)["tokens"] for e in engines]
        same = sum(a == b for a, b in zip(*first))
        for engine in engines:
            engine.started |= engine.ask({"memory": True})
    finally:
        for engine in engines:
            engine.stop()
    about = {engine.name: {k: v for k, v in engine.started.items() if k != "status"} for engine in engines}
    print(f"\n{about['stock']['gpu']}, vLLM {about['stock']['vllm']}, Qwen3-30B-A3B {options.dtype}, {options.layers} "
          f"layers, random weights, {'eager' if options.eager else 'CUDA graphs'}; ms, medians of {options.reps}")
    print(f"{'case':24s} {'stock':>10s} {'moeopt':>10s} {'gain':>8s}")
    for row in rows:
        print(line_of(row))
    for key, unit in (("startup_s", "s"), ("reserved_gb", "GB of the GPU, by torch"), ("kv_tokens", "tokens")):
        print(f"{key:24s} {about['stock'][key]:10.1f} {about['moeopt'][key]:10.1f} {unit}")
    print(f"first tokens alike: {same} of 8")
    for row in rows:
        for name, reason in row["failed"].items():
            print(f"{row['case']}, {name}: {reason}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            told = {name: value for name, value in vars(options).items() if name not in ("logs", "json")}
            json.dump({"options": told, "engines": about, "rows": rows}, file, indent=1)
    return 0 if all(len(row["ms"]) == 2 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
