#!/usr/bin/env python3
"""Holds what ptxas made of the kernels of libmoeopt against what is claimed of them.

usage: check_sass.py LIBRARY REPORTS [--cuobjdump PATH]

LIBRARY is libmoeopt.so (or .a, or an object), REPORTS the folder under which the build kept ptxas's
report of each object (*.ptxas, see tools/keep_ptxas_report.sh). Every kernel in the library must have
a report, no stack and no spills, no local loads or stores, and no complaint of ptxas about serialised
wgmma or ignored setmaxnreg; every FlashDMoE kernel must hold the tensor core instruction of its dtype.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

# Dtype in the kernel's template arguments -> wgmma's name in SASS.
MATRIX_INSTRUCTIONS = {"bf16": "HGMMA", "fp8": "QGMMA"}
DTYPES = ["bf16", "fp8"]  # in the order of Dtype in src/cuda/moe/config.h
MOE_KERNEL = re.compile(r"flash_dmoe.*?5DtypeE(\d)E")

FUNCTION = re.compile(r"^\s*Function : (\S+)\s*$")
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)")
ENTRY = re.compile(r"Compiling entry function '([^']+)'")
PROPERTIES = re.compile(r"Function properties for (\S+)")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
COMPLAINT = re.compile(r"\(C\d+\)|Potential Performance Loss|warning", re.IGNORECASE)


def read_sass(text: str) -> dict[str, dict[str, int]]:
    """cuobjdump -sass: kernel -> instruction -> how often."""
    kernels: dict[str, dict[str, int]] = {}
    current = None
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            current = kernels.setdefault(match.group(1), {})
        elif current is not None and (match := INSTRUCTION.match(line)):
            current[match.group(1)] = current.get(match.group(1), 0) + 1
    return kernels


def read_report(text: str) -> tuple[dict[str, dict[str, int]], list[str]]:
    """ptxas -v: entry function -> its figures (of every function in it), and ptxas's complaints."""
    entries: dict[str, dict[str, int]] = {}
    complaints = []
    current = None
    for line in text.splitlines():
        if match := ENTRY.search(line):
            current = entries.setdefault(match.group(1), {"functions": 0})
        elif current is not None and PROPERTIES.search(line):
            current["functions"] += 1
        elif current is not None and (match := FRAME.search(line)):
            for name, value in zip(("stack", "stores", "loads"), match.groups()):
                current[name] = current.get(name, 0) + int(value)
        elif current is not None and (match := REGISTERS.search(line)):
            current["registers"] = int(match.group(1))
        if COMPLAINT.search(line) and not PROPERTIES.search(line) and not ENTRY.search(line):
            complaints.append(line.strip())
    return entries, complaints


def dtype_of(kernel: str) -> str | None:
    """The dtype of a FlashDMoE kernel, None for any other."""
    match = MOE_KERNEL.search(kernel)
    return DTYPES[int(match.group(1))] if match else None


def judge(sass: dict[str, dict[str, int]], reports: list[str]) -> list[str]:
    """What is wrong, one line each."""
    wrong = []
    figures: dict[str, dict[str, int]] = {}
    for text in reports:
        entries, complaints = read_report(text)
        # A report none of whose kernels is in the library is of an object that is no more.
        if entries and not any(kernel in sass for kernel in entries):
            continue
        figures.update(entries)
        wrong += [f"ptxas: {line}" for line in complaints]
    for kernel, instructions in sorted(sass.items()):
        figure = figures.get(kernel)
        if figure is None or "stack" not in figure:
            wrong.append(f"{kernel}: no report of ptxas -v")
        elif figure["stack"] or figure["stores"] or figure["loads"]:
            wrong.append(f"{kernel}: {figure['stack']} bytes of stack, {figure['stores']} of spill "
                         f"stores, {figure['loads']} of spill loads")
        if not instructions:
            wrong.append(f"{kernel}: no instructions in the disassembly")
        local = sum(instructions.get(name, 0) for name in ("LDL", "STL"))
        if local:
            wrong.append(f"{kernel}: {local} accesses to local memory (LDL, STL)")
        dtype = dtype_of(kernel)
        if dtype and not instructions.get(MATRIX_INSTRUCTIONS[dtype]):
            wrong.append(f"{kernel}: a {dtype} kernel without {MATRIX_INSTRUCTIONS[dtype]}")
        elif "flash_dmoe" in kernel and dtype is None:
            wrong.append(f"{kernel}: its dtype cannot be read from its name")
    for dtype in DTYPES:
        if not any(dtype_of(kernel) == dtype for kernel in sass):
            wrong.append(f"no FlashDMoE kernel for {dtype} in the library")
    return wrong


def short_name(kernel: str) -> str:
    demangler = shutil.which("c++filt")
    if demangler is None:
        return kernel
    name = subprocess.run([demangler, kernel], capture_output=True, text=True, check=True).stdout
    name = re.sub(r"moeopt::cuda::moe::|\(anonymous namespace\)::|^\s*void |\(int\)", "", name)
    return name.split("(moe", 1)[0].split("(Params", 1)[0].split("(ExpertLayout", 1)[0].strip()


def find_cuobjdump(given: str | None) -> str:
    toolkit = pathlib.Path(os.environ.get("CUDACXX") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc")
    for candidate in (given, shutil.which("cuobjdump"), str(toolkit.parent / "cuobjdump")):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    sys.exit("cuobjdump not found: it is part of the CUDA toolkit, and of PyPI's nvidia-cuda-cuobjdump "
             "(with nvidia-cuda-nvdisasm); ./dev test installs it")


def disassemble(cuobjdump: str, library: pathlib.Path) -> str:
    # NOTE: it calls nvdisasm by name, which PyPI puts into the same folder.
    path = os.pathsep.join([str(pathlib.Path(cuobjdump).parent), os.environ.get("PATH", "")])
    done = subprocess.run([cuobjdump, "-sass", str(library)], capture_output=True, text=True,
                          env={**os.environ, "PATH": path}, check=False)
    if done.returncode != 0:
        sys.exit(f"cuobjdump -sass {library}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=pathlib.Path)
    parser.add_argument("reports", type=pathlib.Path)
    parser.add_argument("--cuobjdump")
    arguments = parser.parse_args()
    reports = [path.read_text(encoding="utf-8") for path in sorted(arguments.reports.rglob("*.ptxas"))]
    if not arguments.library.is_file() or not reports:
        sys.exit(f"no {arguments.library}, or no *.ptxas under {arguments.reports}: build it first")
    sass = read_sass(disassemble(find_cuobjdump(arguments.cuobjdump), arguments.library))
    figures: dict[str, dict[str, int]] = {}
    for text in reports:
        figures.update(read_report(text)[0])
    print(f"{'registers':>9} {'HGMMA':>6} {'QGMMA':>6} {'SASS':>7}  kernel")
    for kernel, instructions in sorted(sass.items()):
        print(f"{figures.get(kernel, {}).get('registers', 0):>9} {instructions.get('HGMMA', 0):>6} "
              f"{instructions.get('QGMMA', 0):>6} {sum(instructions.values()):>7}  {short_name(kernel)}")
    wrong = judge(sass, reports)
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{len(sass)} kernels, {len(wrong)} complaints")
    return 1 if wrong or not sass else 0


if __name__ == "__main__":
    sys.exit(main())
