#!/usr/bin/env python3
"""Shows that the suite kills every deliberate mutation of the CPU's MoE layer.

    tools/mutations/run.py                  all of them; exits 1 if one survives
    tools/mutations/run.py --only renorm    those whose name contains a text
    tools/mutations/run.py --list

Works on a copy of the tree in a scratch folder: copies, builds test_cpu, checks that the unmodified
source passes, then per mutation replaces one text, builds, and runs the same tests until the first
failure. The repository is only read.
"""

import argparse
import filecmp
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from mutations import MUTATIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = ["CMakeLists.txt", "CMakePresets.json", "LICENSE", "cmake", "include", "src", "tests"]
# What a wrong MoE layer must fail. The tests of cpu/fast that compare with the reference are left out:
# a broken reference must be noticed without them.
SUITE = "Router*:Rounding*:*MoeLayer*:*MoeTable*:*OpsTable*:*GoldenTest*"
TEST_SECONDS = 300


def run(command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def copy_tree(to: pathlib.Path):
    listed = run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "--", *PARTS])
    for name in listed.stdout.splitlines():
        here, there = ROOT / name, to / name
        if here.is_file() and not (there.is_file() and filecmp.cmp(here, there, shallow=False)):
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(here, there)


def build(folder: pathlib.Path, jobs: int):
    done = run(["ninja", "-C", str(folder), f"-j{jobs}", "test_cpu"])
    return done.returncode == 0, done.stdout


def test(folder: pathlib.Path):
    """The test that failed, or None when all pass."""
    command = [str(folder / "tests" / "test_cpu"), f"--gtest_filter={SUITE}", "--gtest_fail_fast"]
    try:
        done = run(command, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return "no end"
    if done.returncode == 0:
        if not re.search(r"\[  PASSED  \] [1-9]\d+ tests", done.stdout):
            sys.exit("the suite ran no tests:\n" + done.stdout[-2000:])
        return None
    failed = re.findall(r"^\[  FAILED  \] ([^ ,\n]+)", done.stdout, re.M)
    if failed:
        return failed[0]
    running = re.findall(r"^\[ RUN      \] (\S+)", done.stdout, re.M)
    return f"crash in {running[-1]}" if running else "crash"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutations whose name contains this")
    parser.add_argument("--list", action="store_true", help="names, and nothing else")
    parser.add_argument("--scratch", type=pathlib.Path, help="folder to work in and keep")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if arguments.only in m.name]
    if arguments.list:
        print("\n".join(m.name for m in chosen))
        return 0
    if not chosen:
        sys.exit(f"no mutation's name contains {arguments.only!r}")
    for mutation in chosen:
        found = (ROOT / mutation.file).read_text().count(mutation.search)
        if found != 1:
            sys.exit(f"{mutation.name}: its text occurs {found} times in {mutation.file}; update mutations.py")

    with tempfile.TemporaryDirectory(prefix="moeopt-mutations-") as temporary:
        scratch = arguments.scratch or pathlib.Path(temporary)
        tree, folder = scratch / "tree", scratch / "build"
        copy_tree(tree)
        configured = run(["cmake", "-G", "Ninja", "-S", str(tree), "-B", str(folder),
                          "-DCMAKE_BUILD_TYPE=Release", "-DMOEOPT_TESTS=ON",
                          "-DCMAKE_CXX_FLAGS=-w"])  # a mutation may leave a parameter unused
        if configured.returncode != 0:
            sys.exit(configured.stdout)
        built, output = build(folder, arguments.jobs)
        if not built:
            sys.exit(output[-4000:])
        if (failed := test(folder)) is not None:
            sys.exit(f"the unmodified source fails {failed}")
        print(f"unmodified: passes\n\n{'mutation':<52}  killed by", flush=True)

        survivors = broken = 0
        for mutation in chosen:
            path = tree / mutation.file
            original = path.read_text()
            path.write_text(original.replace(mutation.search, mutation.replace))
            started = time.monotonic()
            built, _ = build(folder, arguments.jobs)
            killer = test(folder) if built else "NOTHING: it does not compile"
            path.write_text(original)
            survivors += killer is None
            broken += not built
            print(f"{mutation.name:<52}  {killer or 'SURVIVES'}  ({time.monotonic() - started:.0f} s)",
                  flush=True)
        print(f"\n{len(chosen) - survivors - broken} of {len(chosen)} killed")
        return 1 if survivors or broken else 0


if __name__ == "__main__":
    sys.exit(main())
