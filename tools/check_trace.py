#!/usr/bin/env python3
"""Shows that the stamps of trace.cuh leave nothing behind in ordinary builds.

usage: check_trace.py [VARIANT...]      default: launch_bf16_n32 launch_fp8_n32, of src/cuda/moe

Compiles each variant twice to a cubin with nvcc: as it is, and from a copy of the sources in which every
stamp, tracer and include of trace.cuh is deleted. The two must be the same, byte for byte; with
MOEOPT_MOE_TRACE defined it must be another, or the comparison would see nothing.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = pathlib.Path("src/cuda/moe")
STAMPS = [
    re.compile(r"^__device__ inline void stamp\(Tracer&.*?^}\n", re.S | re.M),
    re.compile(r"^[ \t]*(?:if \([^;\n]*\) )?(?:trace_\.)?stamp(?:_wall)?\([^;{]*\);\n", re.M),
    re.compile(r",\s*trace_\((?:[^()]|\([^()]*\))*\)"),
    re.compile(r"^[ \t]*Tracer trace_;\n", re.M),
    re.compile(r'^#include "cuda/moe/trace.cuh"\n', re.M),
]


def nvcc() -> str:
    found = os.environ.get("CUDACXX") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not os.access(found, os.X_OK):
        sys.exit("nvcc not found")
    return found


def cubin(tree: pathlib.Path, variant: str, *flags: str) -> bytes:
    """Compiled in the tree, so that both see the same paths."""
    out = tree / "out.cubin"
    subprocess.run([nvcc(), "-std=c++20", "-gencode", "arch=compute_90a,code=sm_90a", "-O3", "-w", "-cubin", *flags,
                    "-Isrc", "-Iinclude", "-o", out.name, str(FOLDER / f"{variant}.cu")], cwd=tree, check=True)
    return out.read_bytes()


def main() -> int:
    variants = sys.argv[1:] or ["launch_bf16_n32", "launch_fp8_n32"]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="moeopt-trace-") as scratch:
        tree = pathlib.Path(scratch)
        shutil.copytree(ROOT / FOLDER, tree / FOLDER)
        shutil.copytree(ROOT / "include", tree / "include")
        ordinary = {variant: cubin(tree, variant) for variant in variants}
        traced = cubin(tree, variants[0], "-DMOEOPT_MOE_TRACE")
        removed = 0
        for path in sorted((tree / FOLDER).glob("*.cuh")):
            if path.name == "trace.cuh":
                path.unlink()
                continue
            text = path.read_text(encoding="utf-8")
            for pattern in STAMPS:
                text, count = pattern.subn("", text)
                removed += count
            if re.search(r"\btrace_\b|\bTracer\b|TracePhase", text):
                sys.exit(f"{path.name}: a stamp that this tool does not know")
            path.write_text(text, encoding="utf-8")
        for variant in variants:
            same = cubin(tree, variant) == ordinary[variant]
            wrong += not same
            print(f"{variant}: {'the same' if same else 'NOT the same'} without its stamps "
                  f"({len(ordinary[variant])} bytes)")
    if traced == ordinary[variants[0]]:
        print("with MOEOPT_MOE_TRACE nothing changes: nothing was compared")
        wrong += 1
    print(f"{removed} stamps, tracers and includes removed")
    return 1 if wrong or removed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
