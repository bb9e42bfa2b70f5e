#!/usr/bin/env python3
"""Encoding and decoding speed beside `tokenizers`, one thread each, the same tokenizer and text.

    cmake --preset release -DMOEOPT_BENCH=ON && cmake --build build/release -t tokenizer_bench
    bench/tokenizer/run.py

Without --tokenizer and --text it trains a byte-level BPE (Qwen2's splits, 32000 tokens) on the
English documentation of this machine, and measures 1 MB that was not trained on. Nothing is fetched.
Prints one table; each figure is the best of --runs runs, in MB/s.
"""

import argparse
import glob
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools/tokenizer_goldens"))

import tokenizers  # noqa: E402
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

import families  # noqa: E402

VIM = "/usr/share/vim/vim*/doc/"
PERL = "/usr/share/perl/5*/**/*.pod"


def read(patterns):
    files = sorted(f for p in patterns for f in glob.glob(p, recursive=True))
    return [pathlib.Path(f).read_text("utf-8", "ignore") for f in files]


def prepare(work):
    """Trains the tokenizer and cuts the text, once."""
    tokenizer_file, text_file = work / "tokenizer.json", work / "text.txt"
    if not tokenizer_file.exists():
        train = read([VIM + "[a-r]*.txt", PERL])
        held_out = "".join(read([VIM + "[s-u]*.txt"])).encode()[:1_000_000]
        if not train or not held_out:
            sys.exit("no documentation found here: give --tokenizer and --text")
        text_file.write_bytes(held_out.decode("utf-8", "ignore").encode())
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                families.split(families.QWEN2_SPLIT),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=32000,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(train, trainer)
        tokenizer.save(str(tokenizer_file), pretty=False)
    return tokenizer_file, text_file


def best(runs, call):
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - begin)
    return min(times), result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--program", default=str(root / "build/release/bench/tokenizer_bench"))
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/moeopt-tokenizer-bench"))
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.tokenizer is None or options.text is None:
        options.tokenizer, options.text = prepare(options.work)

    text = options.text.read_text("utf-8")
    size_mb = len(text.encode()) / 1e6
    theirs = tokenizers.Tokenizer.from_file(str(options.tokenizer))
    # encode_batch_fast leaves offsets out: the quickest way the library has.
    encode_s, encodings = best(options.runs, lambda: theirs.encode_batch_fast([text], add_special_tokens=False))
    ids = encodings[0].ids
    decode_s, _ = best(options.runs, lambda: theirs.decode(ids, skip_special_tokens=False))

    command = [options.program, str(options.tokenizer), str(options.text), str(options.runs)]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if ours["ids"] != ids:
        sys.exit("the two give different ids")

    print(f"{options.text}: {size_mb:.2f} MB, {len(ids)} tokens; vocabulary {theirs.get_vocab_size()}")
    print(f"{'':26}{'encode MB/s':>14}{'decode MB/s':>14}")
    print(f"{'tokenizers ' + tokenizers.__version__:26}{size_mb / encode_s:14.1f}{size_mb / decode_s:14.1f}")
    print(f"{'moeopt':26}{size_mb / ours['encode_s']:14.1f}{size_mb / ours['decode_s']:14.1f}")
    print(f"{'moeopt, first run':26}{size_mb / ours['first_encode_s']:14.1f}")
    print(f"{'ratio':26}{encode_s / ours['encode_s']:14.1f}{decode_s / ours['decode_s']:14.1f}")


if __name__ == "__main__":
    main()
