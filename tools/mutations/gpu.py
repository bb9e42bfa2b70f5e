#!/usr/bin/env python3
"""Shows that the GPU suite kills every deliberate mutation of the fused MoE kernel.

    tools/mutations/gpu.py --build OUT.tar.xz       builds one libmoeopt.so a mutation; needs no GPU
    tools/mutations/gpu.py --run OUT.tar.xz         on a machine with a GPU: runs the suite on each;
                                                    exits 1 if one survives
    tools/mutations/gpu.py --check                  every mutation's text occurs once; builds nothing
    ... --only renorm                               those whose name contains a text

The suite is one unmodified binary, test_gpu_moe_shared; what differs is the library beside it. --build
works on a copy of the tree in a scratch folder: builds the suite and the unmodified library, then per
mutation replaces one text and builds the library again. --run first demands that the unmodified library
passes.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time

from gpu_mutations import MUTATIONS
from run import PARTS, ROOT, copy_tree, run

SUITE = "test_gpu_moe_shared"
LIBRARY = "libmoeopt.so.0"  # the name that the suite was linked to
NAMES = "mutations.json"
PASS_SECONDS = 300
MUTANT_SECONDS = 120
HANG_SECONDS = 5  # a wait on the device that takes longer is a hang


def folder_of(index: int) -> str:
    return f"mutant-{index:02}"


def pattern(text: str) -> str:
    """Finds the text however clang-format broke its lines."""
    words = [re.escape(word).replace(r"\(", r"\(\s*") for word in text.split()]
    return r"\s+".join(words).replace(r"\(\s*\s+", r"\(\s*")


def mutate(source: str, mutation) -> str:
    return re.sub(pattern(mutation.search), lambda _: mutation.replace, source)


def check(mutations):
    wrong = 0
    for mutation in mutations:
        found = len(re.findall(pattern(mutation.search), (ROOT / mutation.file).read_text()))
        if found != 1:
            print(f"{mutation.name}: its text occurs {found} times in {mutation.file}")
            wrong += 1
    if wrong:
        sys.exit(f"{wrong} of {len(mutations)} mutations do not fit the source; update gpu_mutations.py")


def build(mutations, archive: pathlib.Path, scratch: pathlib.Path, jobs: int):
    tree, folder = scratch / "tree", scratch / "build"
    library = folder / "src" / "cuda" / "moe" / LIBRARY

    def ninja(target):
        done = run(["ninja", "-C", str(folder), f"-j{jobs}", target])
        return done.returncode == 0, done.stdout

    copy_tree(tree, [*PARTS, "tools"])  # the compiler is called through one of them
    configured = run(["cmake", "-G", "Ninja", "-S", str(tree), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release",
                      "-DMOEOPT_CUDA=ON", "-DCMAKE_CXX_FLAGS=-w", "-DCMAKE_CUDA_FLAGS=-w"])  # a mutation may leave a parameter unused
    if configured.returncode != 0:
        sys.exit(configured.stdout)
    for target in (SUITE, "moeopt_shared"):
        built, output = ninja(target)
        if not built:
            sys.exit(output[-4000:])

    names = []
    with tarfile.open(archive, "w:xz") as tar:
        def add_library(name):
            run(["strip", "-o", str(scratch / "stripped.so"), str(library.resolve())])
            tar.add(scratch / "stripped.so", f"{name}/{LIBRARY}")

        tar.add(next(folder.rglob(SUITE)), SUITE)
        add_library("unmodified")
        for mutation in mutations:
            started = time.monotonic()
            path = tree / mutation.file
            original = path.read_text()
            path.write_text(mutate(original, mutation))
            built, output = ninja("moeopt_shared")
            path.write_text(original)
            if not built:
                sys.exit(f"{mutation.name} does not compile:\n{output[-4000:]}")
            add_library(folder_of(len(names)))
            names.append(mutation.name)
            print(f"built {mutation.name} ({time.monotonic() - started:.0f} s)", flush=True)
        listing = scratch / NAMES
        listing.write_text(json.dumps(names, indent=1))
        tar.add(listing, NAMES)
    print(f"{len(names)} mutants in {archive}")


def test(folder: pathlib.Path, library: str, seed: str, arguments, seconds: int):
    """None when the suite passes, else the test that failed and what it said."""
    command = [str(folder / SUITE), "--quick", "--seed", seed, *arguments]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder / library)}
    try:
        done = run(command, env=environment, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "no end", ""
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode == 0:
        if not re.fullmatch(r"[1-9]\d+ passed, 0 failed", last):
            sys.exit("the suite ran no tests:\n" + done.stdout[-2000:])
        return None
    failed = re.search(r"^FAILED (.+?): (.*)", done.stdout, re.M)
    return (failed[1], failed[2]) if failed else ("crash", last)


def run_mutants(archive: pathlib.Path, scratch: pathlib.Path, only: str, seed: str):
    with tarfile.open(archive) as tar:
        tar.extractall(scratch)
    names = json.loads((scratch / NAMES).read_text())
    chosen = [(i, name) for i, name in enumerate(names) if only in name]
    if not chosen:
        sys.exit(f"no mutation's name contains {only!r}")
    if (failed := test(scratch, "unmodified", seed, [], PASS_SECONDS)) is not None:
        sys.exit(f"the unmodified library fails {failed[0]}: {failed[1]}")
    print(f"unmodified: passes (seed {seed})\n\n{'mutation':<50}  killed by", flush=True)
    survivors = 0
    for index, name in chosen:
        started = time.monotonic()
        killer = test(scratch, folder_of(index), seed, ["--fail-fast", "--limit", str(HANG_SECONDS)],
                      MUTANT_SECONDS)
        survivors += killer is None
        said = f"{killer[0]}: {killer[1][:90]}" if killer else "SURVIVES"
        print(f"{name:<50}  {said} ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"\n{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--build", type=pathlib.Path, metavar="OUT.tar.xz")
    what.add_argument("--run", type=pathlib.Path, metavar="OUT.tar.xz")
    what.add_argument("--check", action="store_true")
    parser.add_argument("--only", default="", help="mutations whose name contains this")
    parser.add_argument("--scratch", type=pathlib.Path, help="folder to work in and keep")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", default="1", help="of the suite")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moeopt-mutants-") as temporary:
        scratch = (arguments.scratch or pathlib.Path(temporary)).resolve()
        if arguments.run:
            return run_mutants(arguments.run, scratch, arguments.only, arguments.seed)
        chosen = [m for m in MUTATIONS if arguments.only in m.name]
        if not chosen:
            sys.exit(f"no mutation's name contains {arguments.only!r}")
        check(chosen)
        if arguments.build:
            build(chosen, arguments.build.resolve(), scratch, arguments.jobs)
        else:
            print(f"{len(chosen)} mutations fit the source")
    return 0


if __name__ == "__main__":
    sys.exit(main())
