#!/usr/bin/env python3
"""Makes tests/text/data/tokenizer: small tokenizers of every style and what `tokenizers` does.

    pip install tokenizers==0.23.3 && python3 tools/tokenizer_goldens/make.py

texts.json holds the texts once; FAMILY.golden.json, for text number i, the result of encoding it
with special tokens added when i is odd, and with special tokens' spellings taken as plain text when
i % 3 == 2: in full for the first texts, as a digest for all; and the
texts of random ids.
"""

import json
import pathlib
import random

import tokenizers

import families
import texts

SEED = 20240607
RANDOM_TEXTS = 1200
FULL = len(texts.FIXED) + len(texts.INVALID)
HERE = pathlib.Path(__file__).resolve().parents[2] / "tests/text/data/tokenizer"


def all_texts():
    rng = random.Random(SEED)
    entries = list(texts.FIXED)
    entries += [{"bytes": raw.hex()} for raw in texts.INVALID]
    entries += [{"repeat": run, "count": 10000 // len(run.encode())} for run in texts.RUNS]
    entries += [texts.random_text(rng, most=8) for _ in range(RANDOM_TEXTS)]
    return entries


def as_text(entry):
    if isinstance(entry, str):
        return entry
    if "bytes" in entry:
        return bytes.fromhex(entry["bytes"]).decode("utf-8", "replace")
    return entry["repeat"] * entry["count"]


def digest(parts):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in "|".join(parts).encode():
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    return f"{value:016x}"


def result(tokenizer, index, text):
    tokenizer.encode_special_tokens = index % 3 == 2
    ids = tokenizer.encode(text, add_special_tokens=index % 2 == 1).ids
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    skipped = tokenizer.decode(ids, skip_special_tokens=True)
    return ids, decoded, skipped


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    entries = all_texts()
    (HERE / "texts.json").write_text(json.dumps(entries, indent=0) + "\n")
    for name, make in families.FAMILIES.items():
        make().save(str(HERE / f"{name}.json"), pretty=False)
        tokenizer = tokenizers.Tokenizer.from_file(str(HERE / f"{name}.json"))
        full, digests = [], []
        for index, entry in enumerate(entries):
            ids, decoded, skipped = result(tokenizer, index, as_text(entry))
            digests.append(digest([",".join(map(str, ids)), decoded, skipped]))
            if index < FULL:
                full.append({"ids": ids, "decoded": decoded, "skipped": skipped})
        rng = random.Random(SEED)
        limit = max(tokenizer.get_vocab().values()) + 3  # a few ids that no token has
        streams = [[rng.randrange(limit) for _ in range(rng.randint(1, 24))] for _ in range(150)]
        golden = {
            "made_with": f"tokenizers {tokenizers.__version__}, seed {SEED}",
            "vocab_size": max(tokenizer.get_vocab().values()) + 1,
            "full": full,
            "digests": digests,
            "decode": [
                {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
                for ids in streams
            ],
        }
        (HERE / f"{name}.golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
        print(name, tokenizer.get_vocab_size(), len(full), len(digests))


if __name__ == "__main__":
    main()
