#!/usr/bin/env python3
"""Times llama.cpp through llama-cpp-python: prefill and greedy decoding, one line of JSON.

    time_llama.py MODEL.gguf THREADS PREFILL DECODE
"""

import ctypes
import json
import statistics
import sys
import time

import llama_cpp as ll


def decode_tokens(context, tokens: list[int]) -> None:
    ids = (ll.llama_token * len(tokens))(*tokens)
    if ll.llama_decode(context, ll.llama_batch_get_one(ids, len(tokens))) != 0:
        raise RuntimeError("llama_decode failed")
    ll.llama_synchronize(context)


def main() -> None:
    path, threads, prefill, decode = sys.argv[1], *map(int, sys.argv[2:5])
    ll.llama_backend_init()
    model = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
    params = ll.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = prefill + decode + 32, prefill, prefill
    params.n_threads = params.n_threads_batch = threads
    context = ll.llama_init_from_model(model, params)
    vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    prompt = [(i * 7919 + 13) % vocab for i in range(prefill)]
    prefills, decodes = [], []
    for repeat in range(4):
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        start = time.perf_counter()
        decode_tokens(context, prompt)
        took = time.perf_counter() - start
        steps = []
        for _ in range(decode):
            logits = ll.llama_get_logits_ith(context, -1)
            row = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * vocab)).contents
            token = max(range(vocab), key=row.__getitem__)
            start = time.perf_counter()
            decode_tokens(context, [token])
            steps.append(time.perf_counter() - start)
        if repeat > 0:  # the first reads the weights
            prefills.append(took)
            decodes.append(statistics.median(steps))
    print(json.dumps({"name": f"llama-cpp-python {ll.__version__}",
                      "prefill_s": statistics.median(prefills),
                      "decode_s": statistics.median(decodes)}))


if __name__ == "__main__":
    main()
