#!/usr/bin/env python3
"""Times Transformers on torch CPU: prefill and greedy decoding of a checkpoint, one line of JSON.

    time_transformers.py FOLDER THREADS PREFILL DECODE
"""

import json
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    folder, threads, prefill, decode = sys.argv[1], *map(int, sys.argv[2:5])
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    ids = torch.tensor([[(i * 7919 + 13) % model.config.vocab_size for i in range(prefill)]])
    prefills, decodes = [], []
    with torch.inference_mode():
        for repeat in range(4):
            start = time.perf_counter()
            out = model(ids, use_cache=True, logits_to_keep=1)
            token, cache = out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values
            took = time.perf_counter() - start
            steps = []
            for _ in range(decode):
                start = time.perf_counter()
                out = model(token, past_key_values=cache, use_cache=True)
                token = out.logits[:, -1].argmax(-1, keepdim=True)
                steps.append(time.perf_counter() - start)
            if repeat > 0:  # the first reads the weights
                prefills.append(took)
                decodes.append(statistics.median(steps))
    import transformers
    print(json.dumps({"name": f"transformers {transformers.__version__}, torch {torch.__version__}",
                      "prefill_s": statistics.median(prefills),
                      "decode_s": statistics.median(decodes)}))


if __name__ == "__main__":
    main()
