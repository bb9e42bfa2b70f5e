#!/usr/bin/env python3
"""Where a step of vLLM goes, kernel by kernel, stock and with the plugin: why a layer's gain does or does not arrive.

    vllm_profile.py [--dtype bf16] [--layers 8] [--cases 1x16+32,4x2048+1] [--json FILE]

A case is prompts x tokens + new tokens. Per step, the microseconds on the GPU of every kernel (torch's profiler),
those that only one of the two engines runs first. Few layers are enough: they are alike.
"""

import argparse
import json
import re
import sys

import vllm_engine

MODES = {"stock": vllm_engine.STOCK, "moeopt": vllm_engine.OURS}


def start(name, options, folder):
    arguments = vllm_engine.TIMED | dict(model=folder, gpu_memory_utilization=0.3, kv_cache_memory_bytes=4_500_000_000,
                                         compilation_config={"cudagraph_capture_sizes": [1, 16, 64, 512]})
    return vllm_engine.Engine(name, arguments, MODES[name] | {"VLLM_CACHE_ROOT": f"{options.logs}/cache-p-{name}"},
                              f"{options.logs}/profile-{name}.log")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dtype", choices=("bf16", "fp8"), default="bf16")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--cases", default="1x16+32,4x2048+1")
    parser.add_argument("--top", type=int, default=14, help="kernels shown of each kind")
    parser.add_argument("--logs", default="/tmp")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    folder = vllm_engine.model_folder(options.layers, options.dtype)
    engines = vllm_engine.side_by_side(lambda name: start(name, options, folder), MODES)
    found = {}
    try:
        for case in options.cases.split(","):
            shape = [int(n) for n in re.fullmatch(r"(\d+)x(\d+)\+(\d+)", case).groups()]
            found[case] = {name: engine.ask({"profile": shape}) for name, engine in engines.items()}
    finally:
        for engine in engines.values():
            engine.stop()
    for case, both in found.items():
        us = {name: {kernel: (calls / of["steps"], total / of["steps"]) for kernel, calls, total in of["kernels"]}
              for name, of in both.items()}
        sums = {name: sum(total for _, total in kernels.values()) for name, kernels in us.items()}
        print(f"\n{case}, {options.layers} layers, us a step on the GPU: stock {sums['stock']:.1f}, "
              f"moeopt {sums['moeopt']:.1f}")
        stock, ours = us["stock"], us["moeopt"]
        alike = {kernel for kernel in stock.keys() & ours.keys() if abs(stock[kernel][0] - ours[kernel][0]) < 0.5}
        for title, names in (("differ", (stock.keys() | ours.keys()) - alike), ("alike", alike)):
            order = sorted(names, key=lambda k: -max(us[n].get(k, (0, 0))[1] for n in us))
            parts = {n: sum(us[n].get(k, (0, 0))[1] for k in names) for n in us}
            print(f"  {title}: stock {parts['stock']:.1f}, moeopt {parts['moeopt']:.1f}")
            for kernel in order[:options.top]:
                cells = [f"{us[n][kernel][0]:6.1f} x {us[n][kernel][1] / us[n][kernel][0]:8.2f}" if kernel in us[n]
                         else " " * 17 for n in us]
                print(f"    {cells[0]} | {cells[1]}  {kernel[:90]}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
