#!/usr/bin/env python3
"""Transformers with our experts against its own, on a 2-layer model of Qwen3-30B-A3B's shape.

    PYTHONPATH=python python3 bench/plugins/transformers_speed.py [--layers 2] [--reps 15] [--json FILE]

One process, one model, random bf16 weights; the implementations take turns. decode: one token for each of
--batches sequences behind a prompt of 128; as Python runs it, and as a CUDA graph of the same step without
cache where the implementation can be captured. prefill: whole prompts. A figure is a median. Where the
kernel's own counter did not move by steps x layers, ours is NOT APPLIED and has no speed.
"""

import argparse
import json
import statistics
import sys
import traceback

import torch
import transformers

import moeopt
import moeopt.transformers as plugin
from moeopt import status

OURS = "moeopt"
PEERS = ("eager", "batched_mm", "grouped_mm", "deepgemm", "sonicmoe")
PROMPT = 128


def make_model(layers):
    config = transformers.Qwen3MoeConfig(
        vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=layers,
        num_attention_heads=32, num_key_value_heads=4, head_dim=128, moe_intermediate_size=768, num_experts=128,
        num_experts_per_tok=8, norm_topk_prob=True, max_position_embeddings=40960)
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16,
                                                              experts_implementation="eager").eval()
    with torch.no_grad():  # a router of zeros would send every token to the same experts
        for layer in model.model.layers:
            layer.mlp.gate.weight.normal_(0, 2048 ** -0.5)
    return model


def timed(action):
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    action()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop)


class Decode:
    """One step for `batch` sequences behind a prompt; the cache is cut back after each."""

    def __init__(self, model, batch):
        self.model, self.batch = model, batch
        self.prompt = torch.randint(0, 150000, (batch, PROMPT), device="cuda")
        self.token = torch.randint(0, 150000, (batch, 1), device="cuda")
        self.cache = None

    def prepare(self):
        if self.cache is None:
            self.cache = transformers.DynamicCache(config=self.model.config)
            for start in range(0, PROMPT, 32):
                self.model(self.prompt[:, start:start + 32], past_key_values=self.cache, use_cache=True,
                           logits_to_keep=1)
        self.cache.crop(PROMPT)

    def __call__(self):
        self.model(self.token, past_key_values=self.cache, use_cache=True, logits_to_keep=1)


class Prefill:
    def __init__(self, model, prompts, length):
        self.model = model
        self.tokens = torch.randint(0, 150000, (prompts, length), device="cuda")

    def prepare(self):
        pass

    def __call__(self):
        self.model(self.tokens, use_cache=False, logits_to_keep=1)


class Graph:
    """A captured step without cache."""

    def __init__(self, model, batch):
        # A graph reads its input where it was: it must live as long as the graph.
        self.tokens = tokens = torch.randint(0, 150000, (batch, 1), device="cuda")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                model(tokens, use_cache=False)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.kept = model(tokens, use_cache=False)

    def prepare(self):
        pass

    def __call__(self):
        self.graph.replay()


def launches():
    return sum(s.launches for s in status.report())


def compare(model, name, make, implementations, layers, reps, rows):
    """Times `make(model)` under every implementation, taking turns."""
    jobs, row = {}, {"case": name, "ms": {}, "failed": {}}
    for implementation in implementations:
        try:
            model.set_experts_implementation(implementation)
            job = make()
            for _ in range(2):
                job.prepare()
                job()
            torch.cuda.synchronize()
            jobs[implementation] = job
        except Exception as problem:  # an implementation that cannot run is a cell in the table
            row["failed"][implementation] = f"{type(problem).__name__}: {problem}"[:160]
            torch.cuda.synchronize()
    samples = {implementation: [] for implementation in jobs}
    moved = 0
    for _ in range(reps):
        for implementation, job in jobs.items():
            model.set_experts_implementation(implementation)
            job.prepare()
            before = launches() if implementation == OURS else 0
            samples[implementation].append(timed(job))
            if implementation == OURS:
                moved += launches() - before
    row["ms"] = {implementation: statistics.median(times) for implementation, times in samples.items()}
    row["launches"], row["expected"] = moved, reps * layers
    if OURS in row["ms"] and moved == 0:
        row["ms"].pop(OURS)
        row["failed"][OURS] = "NOT APPLIED"
    elif OURS in row["ms"] and moved != reps * layers and not name.startswith("prefill 16"):
        row["failed"][OURS] = f"{moved} launches, {reps * layers} expected"
    rows.append(row)
    print(line_of(row, implementations), flush=True)
    del jobs
    torch.cuda.empty_cache()


def line_of(row, implementations):
    cells = []
    for implementation in implementations:
        if implementation in row["ms"]:
            cells.append(f"{row['ms'][implementation]:10.3f}")
        else:
            cells.append(f"{'NOT APPLIED' if 'NOT APPLIED' in row['failed'].get(implementation, '') else 'FAILED':>10s}")
    peers = [ms for name, ms in row["ms"].items() if name != OURS]
    ours = row["ms"].get(OURS)
    gain = f"{min(peers) / ours:6.2f}x" if peers and ours else "      -"
    return f"{row['case']:26s} " + " ".join(cells) + f" {gain}  launches {row['launches']}/{row['expected']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--reps", type=int, default=15)
    parser.add_argument("--batches", default="1,16,64,512")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    model, rows = make_model(options.layers), []
    implementations = [OURS]
    with torch.inference_mode():
        probe = torch.randint(0, 150000, (2, 16), device="cuda")
        for name in PEERS:
            try:
                model.set_experts_implementation(name)
                model(probe, use_cache=False)
                torch.cuda.synchronize()
                implementations.append(name)
            except Exception as problem:
                print(f"{name}: cannot run here ({type(problem).__name__}: {str(problem)[:120]})", flush=True)
        model.set_experts_implementation(OURS)
        print(status.table(plugin.prepare(model)), flush=True)
        for batch in map(int, options.batches.split(",")):
            compare(model, f"decode {batch}", lambda batch=batch: Decode(model, batch), implementations,
                    options.layers, options.reps, rows)
        for batch in map(int, options.batches.split(",")):
            # eager asks the GPU which experts were hit: it cannot be captured, and a failed capture is rough.
            compare(model, f"graph of a step, {batch}", lambda batch=batch: Graph(model, batch),
                    [i for i in implementations if i != "eager"], options.layers, options.reps, rows)
        for prompts, length in ((1, 512), (1, 2048), (4, 2048), (16, 2048)):
            compare(model, f"prefill {prompts} x {length}",
                    lambda prompts=prompts, length=length: Prefill(model, prompts, length), implementations,
                    options.layers, max(3, options.reps // 3), rows)
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, Transformers {transformers.__version__}, "
          f"moeopt {moeopt.__version__}; ms, medians; the gain is over the best of the others")
    print(f"{'case':26s} " + " ".join(f"{name:>10s}" for name in implementations))
    for row in rows:
        print(line_of(row, implementations))
    for row in rows:
        for name, reason in row["failed"].items():
            print(f"{row['case']}, {name}: {reason}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
                       "transformers": transformers.__version__, "moeopt": moeopt.__version__, "rows": rows}, file,
                      indent=1)
    return 0 if all(OURS in row["ms"] and OURS not in row["failed"] for row in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception:
        traceback.print_exc()
        sys.exit(2)
