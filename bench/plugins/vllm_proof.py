#!/usr/bin/env python3
"""Shows that vLLM really runs the kernel, and nothing of ours when told not to.

    vllm_proof.py [--dtypes bf16,fp8] [--layers 4] [--attention BACKEND] [--tensor-parallel N [--expert-parallel]]

For each dtype, four engines side by side, on the same random weights and prompts: stock; MOEOPT_MODE=off,
whose tokens and log probabilities must be stock's to the last bit; require, whose kernel must count steps x
layers, on every rank; require with MOEOPT_POISON=1, whose output must break. Exit code 0: all of that held.
With several ranks all reduce through NCCL alone.
"""

import argparse
import sys

import vllm_engine

BATCH, PROMPT, NEW = 8, 40, 24
MODES = {
    "stock": vllm_engine.STOCK,
    "off": {"MOEOPT_MODE": "off", "VLLM_PLUGINS": "moeopt"},
    "require": vllm_engine.OURS,
    "poison": vllm_engine.OURS | {"MOEOPT_POISON": "1"},
}


def run(mode, dtype, options):
    """The answer of one engine, {"error": text} where it died."""
    try:
        return answer_of(mode, dtype, options)
    except RuntimeError as problem:
        return {"error": str(problem)}


def answer_of(mode, dtype, options):
    folder = vllm_engine.model_folder(options.layers, dtype)
    arguments = vllm_engine.RANDOM_WEIGHTS | dict(
        model=folder, max_model_len=2048, gpu_memory_utilization=0.1, kv_cache_memory_bytes=1 << 30, max_num_seqs=16,
        max_num_batched_tokens=2048, compilation_config={"cudagraph_capture_sizes": [1, 8, 16]})
    if options.attention:
        arguments["attention_backend"] = options.attention
    if options.tensor_parallel > 1:
        arguments |= dict(tensor_parallel_size=options.tensor_parallel, disable_custom_all_reduce=True,
                          enable_expert_parallel=options.expert_parallel)
    environment = MODES[mode] | {"VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
                                 "VLLM_CACHE_ROOT": f"{options.logs}/cache-{dtype}-{mode}"}
    engine = vllm_engine.Engine(mode, arguments, environment, f"{options.logs}/proof-{dtype}-{mode}.log")
    try:
        return engine.generate(BATCH, PROMPT, NEW, logprobs=0) | {"status": engine.started["status"]}
    finally:
        engine.stop()


def verdict(mode, answer, stock):
    """What was found, and whether it is as it must be."""
    values = [float(v) for row in answer.get("logprobs", []) for v in row]
    same = answer.get("tokens") == stock.get("tokens") and answer.get("logprobs") == stock.get("logprobs")
    alike = sum(a == b for x, y in zip(answer.get("tokens", []), stock.get("tokens", [])) for a, b in zip(x, y))
    found = f"steps {answer.get('steps')}, launches {answer.get('launches')}, tokens as stock {alike}/{BATCH * NEW}"
    if "error" in answer:
        return answer["error"].splitlines()[0][:100], False
    if mode == "stock":
        return found, answer["launches"] == 0
    if mode == "off":
        return found + (", bit-identical" if same else ", DIFFERENT"), same and answer["launches"] == 0
    counted = answer["launches"] == answer["steps"] * answer["layers"] > 0
    if mode == "require":
        return found + f", layers {answer['layers']}, ranks {answer['status']['ranks']}", counted and all(v == v for v in values)
    broken = any(v != v for v in values) or alike < BATCH * NEW // 4
    return found + f", NaN log probabilities {sum(v != v for v in values)}", counted and broken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dtypes", default="bf16,fp8")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--attention", default="")
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument("--expert-parallel", action="store_true", help="experts whole, and shared out among the ranks")
    parser.add_argument("--logs", default="/tmp")
    options = parser.parse_args()
    lines, good = [], True
    for dtype in options.dtypes.split(","):
        answers = vllm_engine.side_by_side(lambda mode: run(mode, dtype, options), MODES)
        for mode, answer in answers.items():
            if "error" in answer:
                print(answer["error"], flush=True)
            text, holds = verdict(mode, answer, answers["stock"])
            good &= holds
            lines.append(f"{dtype:5s} {mode:8s} {'holds' if holds else 'FAILS':6s} {text}")
            print(lines[-1], flush=True)
    print("\ndtype mode     result found")
    print("\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
