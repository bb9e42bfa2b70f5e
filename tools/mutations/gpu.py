#!/usr/bin/env python3
"""Shows that the GPU suite kills every deliberate mutation of the fused MoE kernel.

    tools/mutations/gpu.py --suite build/cuda/tests/gpu/test_gpu_moe_shared
                            on a machine with nvcc, CMake, ninja and a Hopper GPU: builds one libmoeopt.so a
                            mutation and runs the suite on it; exits 1 if one survives
    tools/mutations/gpu.py --check
                            every mutation's text occurs once; builds nothing
    ... --only renorm NaN   those whose name contains one of the texts

The suite is one unmodified binary; what differs is the library that it loads. Several copies of src/cuda/moe
are built side by side, in a scratch folder: per mutation one text is replaced, the library built again and the
text put back. First the unmodified library must pass.
"""

import argparse
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from gpu_mutations import MUTATIONS
from run import ROOT, run

SOURCES = ["CMakeLists.txt", "cmake", "include", "src/cuda/moe", "tools/keep_ptxas_report.sh"]
JOBS = 2  # of a copy's build
PASS_SECONDS = 300
MUTANT_SECONDS = 120
HANG_SECONDS = 5  # a wait on the device that takes longer is a hang


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


class CompileError(RuntimeError):
    pass


class Copy:
    """The library's sources and their build, in a folder of their own."""

    def __init__(self, folder: pathlib.Path):
        self.tree, self.build_folder = folder / "tree", folder / "build"
        for name in SOURCES:
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.tree / name)
            else:
                shutil.copy(ROOT / name, self.tree / name)
        configured = run(["cmake", "-G", "Ninja", "-S", str(self.tree), "-B", str(self.build_folder),
                          "-DCMAKE_BUILD_TYPE=Release", "-DMOEOPT_LIBRARY_ONLY=ON",
                          "-DCMAKE_CXX_FLAGS=-w", "-DCMAKE_CUDA_FLAGS=-w"])  # a mutation may leave a parameter unused
        if configured.returncode != 0:
            raise RuntimeError(configured.stdout)
        self.build("the unmodified library")

    def build(self, what: str):
        done = run(["ninja", "-C", str(self.build_folder), f"-j{JOBS}", "moeopt_shared"])
        if done.returncode != 0:
            raise CompileError(f"{what}:\n{done.stdout[-4000:]}")

    def build_mutant(self, mutation):
        path = self.tree / mutation.file
        original = path.read_text()
        path.write_text(mutate(original, mutation))
        try:
            self.build(mutation.name)
        finally:
            path.write_text(original)

    @property
    def library_folder(self) -> pathlib.Path:
        return self.build_folder / "src" / "cuda" / "moe"


def test(suite: pathlib.Path, library_folder: pathlib.Path, seed: str, arguments, seconds: int):
    """None when the suite passes, else the test that failed and what it said."""
    command = [str(suite), "--quick", "--seed", seed, *arguments]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library_folder)}
    try:
        done = run(command, env=environment, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "no end", ""
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode == 0:
        if not re.fullmatch(r"[1-9]\d+ passed, 0 failed", last):
            raise RuntimeError("the suite ran no tests:\n" + done.stdout[-2000:])
        return None
    failed = re.search(r"^FAILED (.+?): (.*)", done.stdout, re.M)
    return (failed[1], failed[2]) if failed else ("crash", last)


class Trial:
    """All mutations, built by several threads and tested one at a time: the device is one."""

    def __init__(self, suite: pathlib.Path, seed: str, mutations):
        self.suite, self.seed = suite, seed
        self.device = threading.Lock()
        self.left = queue.SimpleQueue()
        for mutation in mutations:
            self.left.put(mutation)
        self.unmodified_passes = False
        self.killed = 0
        self.error = None

    def work(self, folder: pathlib.Path):
        try:
            copy = Copy(folder)
            self.judge_unmodified(copy)
            while self.error is None:
                mutation = self.left.get_nowait()
                try:
                    copy.build_mutant(mutation)
                except CompileError as error:
                    print(f"{mutation.name:<50}  DOES NOT COMPILE: {error}", flush=True)
                else:
                    self.judge(mutation, copy)
        except queue.Empty:
            pass
        except Exception as error:
            self.error = error

    def judge_unmodified(self, copy: Copy):
        with self.device:
            if self.unmodified_passes or self.error is not None:
                return
            failed = test(self.suite, copy.library_folder, self.seed, [], PASS_SECONDS)
            if failed is not None:
                raise RuntimeError(f"the unmodified library fails {failed[0]}: {failed[1]}")
            self.unmodified_passes = True
            print(f"unmodified: passes (seed {self.seed})\n\n{'mutation':<50}  killed by", flush=True)

    def judge(self, mutation, copy: Copy):
        with self.device:
            started = time.monotonic()
            killer = test(self.suite, copy.library_folder, self.seed,
                          ["--fail-fast", "--limit", str(HANG_SECONDS)], MUTANT_SECONDS)
            self.killed += killer is not None
            said = f"{killer[0]}: {killer[1][:90]}" if killer else "SURVIVES"
            print(f"{mutation.name:<50}  {said} ({time.monotonic() - started:.0f} s)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--suite", type=pathlib.Path, help="test_gpu_moe_shared of the unmodified source")
    what.add_argument("--check", action="store_true")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="mutations whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processors to build with")
    parser.add_argument("--seed", default="1", help="of the suite")
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if any(text in m.name for text in arguments.only)]
    if not chosen:
        sys.exit(f"no mutation's name contains {arguments.only!r}")
    check(chosen)
    if arguments.check:
        print(f"{len(chosen)} mutations fit the source")
        return 0
    if not arguments.suite.is_file():
        sys.exit(f"{arguments.suite} is not there: build the target test_gpu_moe_shared")
    trial = Trial(arguments.suite.resolve(), arguments.seed, chosen)
    with tempfile.TemporaryDirectory(prefix="moeopt-mutants-") as scratch:
        threads = [threading.Thread(target=trial.work, args=(pathlib.Path(scratch) / str(n),))
                   for n in range(max(1, min(arguments.jobs // JOBS, len(chosen))))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if trial.error is not None:
        sys.exit(str(trial.error))
    print(f"\n{trial.killed} of {len(chosen)} killed")
    return 0 if trial.killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
