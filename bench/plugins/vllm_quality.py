#!/usr/bin/env python3
"""Answers and perplexity of the shipped model in vLLM, stock and with the kernel, bf16 and fp8 blocks.

    vllm_quality.py [--model models/tiny-moe] [--log FILE] [--json FILE]

Four engines side by side. Accuracy is compared by McNemar's exact test on the problems that one has right and the
other wrong, perplexity by the mean of the windows' differences and its standard error. fp8: every expert and
attention matrix as e4m3 with one scale per 128 x 128 block, made here from the bf16 checkpoint.
--log: VLLM_LOG_MOE of the bf16 engine with the kernel. Exit code 0: bf16 within noise (p >= 0.05 and within two
standard errors or 1e-3), fp8 within 2% of perplexity and half a point of accuracy of stock bf16, and the kernel ran.
"""

import argparse
import json
import math
import pathlib
import shutil
import sys
import tempfile

import vllm_engine


def fp8_folder(model):
    """A copy of the checkpoint with its matrices in e4m3 blocks."""
    import torch
    from safetensors.torch import load_file, save_file

    from moeopt import reference
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tiny-fp8-"))
    for file in pathlib.Path(model).iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copy(file, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {
        "quantization_config": vllm_engine.fp8_of(config["num_hidden_layers"])}))
    tensors = {}
    for name, tensor in load_file(f"{model}/model.safetensors").items():
        quantised = tensor.dim() == 2 and name.endswith("_proj.weight")
        if quantised:
            values, scales = reference.quantise_blocks(tensor)
            tensors[name], tensors[name + "_scale_inv"] = values, scales.to(torch.float32)
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def run(kind, environment, model, options):
    arguments = dict(model=model, max_model_len=1024, gpu_memory_utilization=0.05, kv_cache_memory_bytes=1 << 30,
                     max_num_seqs=64)
    if options.attention:
        arguments["attention_backend"] = options.attention
    engine = vllm_engine.Engine(kind, arguments, environment | {"VLLM_CACHE_ROOT": f"{options.logs}/cache-q-{kind}"},
                                f"{options.logs}/quality-{kind}.log")
    try:
        found = engine.ask({"quality": [model, f"{options.model}/eval/answers.jsonl",
                                        f"{options.model}/eval/perplexity.txt"]})
        engine.ask({"stop": True})
        return found
    finally:
        engine.stop()


def mcnemar(a, b):
    """Exact two-sided p of as many problems that only one of two has right."""
    only = sum(x and not y for x, y in zip(a, b)), sum(y and not x for x, y in zip(a, b))
    n = sum(only)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(min(only) + 1)) / 2 ** n), only


def compare(found, base):
    """Against `base`: p of the accuracy, mean difference of the windows' nll and its standard error."""
    p, only = mcnemar(base["right"], found["right"])
    differences = [a[0] - b[0] for a, b in zip(found["nll"], base["nll"])]
    mean = sum(differences) / len(differences)
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (len(differences) - 1) / len(differences))
    return {"p": p, "only": only, "nll": mean, "nll_error": spread}


def perplexity(found):
    return math.exp(sum(mean * n for mean, n in found["nll"]) / sum(n for _, n in found["nll"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="models/tiny-moe")
    parser.add_argument("--attention", default="")
    parser.add_argument("--log", default="")
    parser.add_argument("--logs", default="/tmp")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    fp8 = fp8_folder(options.model)
    log = {"VLLM_LOG_MOE": options.log, "VLLM_LOG_MOE_MODEL_ID": "tiny-moe"} if options.log else {}
    cases = {"bf16-stock": (vllm_engine.STOCK, options.model), "bf16-moeopt": (vllm_engine.OURS | log, options.model),
             "fp8-stock": (vllm_engine.STOCK, fp8), "fp8-moeopt": (vllm_engine.OURS, fp8)}
    found = vllm_engine.side_by_side(lambda kind: run(kind, *cases[kind], options), cases)
    base, good, rows = found["bf16-stock"], True, {}
    for kind, answer in found.items():
        row = {"right": sum(answer["right"]), "asked": len(answer["right"]), "perplexity": perplexity(answer),
               **compare(answer, base)}
        status = answer["status"] or {"launches": 0, "applied": 0}
        row["launches"], row["applied"] = status["launches"], status["applied"]
        rows[kind] = row
        if kind == "bf16-moeopt":
            held = row["p"] >= 0.05 and abs(row["nll"]) <= max(2 * row["nll_error"], 1e-3)
        elif kind == "fp8-moeopt":
            held = (row["perplexity"] <= 1.02 * perplexity(base) and
                    row["right"] >= sum(base["right"]) - 0.005 * row["asked"])
        else:
            held = row["launches"] == 0
        held &= row["launches"] > 0 or not kind.endswith("moeopt")
        good &= held
        print(f"{kind:12s} {'holds' if held else 'FAILS'}  {row['right']} of {row['asked']} right (p {row['p']:.2f}), "
              f"perplexity {row['perplexity']:.6f} (nll {row['nll']:+.1e} +- {row['nll_error']:.1e} a token against "
              f"stock bf16), {row['applied']} layers, {row['launches']} launches")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
