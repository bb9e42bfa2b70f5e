#!/usr/bin/env python3
"""Random texts through `moeopt tokenize` and through `tokenizers`: every id must be the same.

    tools/tokenizer_goldens/differential.py --program build/release/moeopt [--count N] [--seed S]
        [--tokenizer FILE_OR_FOLDER ...]

Without --tokenizer: all styles of tests/text/data/tokenizer. Prints the texts that differ; exits 1
when there are any.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers

import families
import texts

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests/text/data/tokenizer"


def folder_of(path, scratch):
    """A model folder that holds nothing but this tokenizer.json."""
    if path.is_dir():
        return path
    folder = pathlib.Path(scratch) / path.stem
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_bytes(path.read_bytes())
    return folder


def run(program, folder, *arguments, stdin=""):
    command = [program, "tokenize", str(folder), *arguments, "--json"]
    done = subprocess.run(command, input=stdin.encode(), capture_output=True)
    if done.returncode != 0:
        return {"error": done.stderr.decode("utf-8", "replace")}
    return json.loads(done.stdout)


def differences(program, path, count, seed, scratch):
    folder = folder_of(path, scratch)
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    rng = random.Random(seed)
    wrong = 0
    for _ in range(count):
        text = texts.random_text(rng)
        special = rng.random() < 0.5
        expected = theirs.encode(text, add_special_tokens=special).ids
        found = run(program, folder, "-", *([] if special else ["--no-special"]), stdin=text)
        if found.get("ids") != expected:
            wrong += 1
            print(f"{path.stem}: {ascii(text)}\n  tokenizers {expected}\n  moeopt     {found}")
            continue
        if not expected:
            continue
        decoded = run(program, folder, "--decode", ",".join(map(str, expected)))
        if decoded.get("text") != theirs.decode(expected, skip_special_tokens=False):
            wrong += 1
            print(f"{path.stem}: decode {expected}: {decoded}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokenizer", type=pathlib.Path, nargs="*")
    options = parser.parse_args()
    paths = options.tokenizer or [DATA / f"{name}.json" for name in families.FAMILIES]
    with tempfile.TemporaryDirectory() as scratch:
        wrong = 0
        for path in paths:
            found = differences(options.program, path, options.count, options.seed, scratch)
            print(f"{path.stem}: {options.count} texts, {found} differ")
            wrong += found
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
