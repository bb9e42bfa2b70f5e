#!/usr/bin/env python3
"""Fails when an #include breaks the arrows of the house.

A folder of src/ may include itself and the folders that it reaches through ARROWS; a few outside
libraries are kept in the folders named in OUTSIDE; a folder in ALONE may include nothing outside but
what is named there and the C++ standard library.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# folder -> folders directly below it
ARROWS = {
    "base": [],
    "tensor": ["base"],
    "checkpoint": ["tensor"],
    "text": ["base"],
    "model": ["checkpoint"],
    "plan": ["model"],
    "backend": ["plan"],
    "cpu": ["backend"],
    "cuda": ["backend"],
    "cuda/moe": [],
    "kv": ["tensor"],
    "routing": ["tensor"],
    "engine": ["backend", "kv", "text", "routing"],
    "serve": ["engine"],
    "bench": ["base"],
    "cli": ["engine", "cpu", "cuda", "serve", "bench"],
}

# header prefix -> the only folders (or files) that may include it
OUTSIDE = {
    "spdlog/": {"base/log.cpp"},
    "yaml-cpp/": {"plan"},
    "pcre2": {"text"},
    "utf8proc": {"text"},
    "CLI/": {"cli"},
    "histedit": {"cli"},
    "boost/": {"serve", "bench"},
    "cuda": {"cuda", "cuda/moe"},
    "moeopt.h": {"cuda", "cuda/moe"},
    "flashinfer/": {"cuda"},
    "cutlass/": {"cuda"},
    "cute/": {"cuda"},
}

# folder -> what its outside headers may start with: it links without the rest of the house
ALONE = {"cuda/moe": ("cuda", "moeopt.h")}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def reachable(folder: str) -> set[str]:
    seen = {folder}
    stack = [folder]
    while stack:
        for below in ARROWS[stack.pop()]:
            if below not in seen:
                seen.add(below)
                stack.append(below)
    return seen


def room(path: str) -> str | None:
    """The innermost folder with arrows that holds this path of src/."""
    folders = [folder for folder in ARROWS if path.startswith(folder + "/")]
    return max(folders, key=len, default=None)


def complaints(path: pathlib.Path) -> list[str]:
    relative = path.relative_to(ROOT / "src").as_posix()
    folder = room(relative)
    if folder is None:
        return [f"src/{relative}: its folder has no arrows in tools/check_includes.py"]
    allowed = reachable(folder)
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match.group(2)
        target = room(header) if match.group(1) == '"' else None
        where = f"src/{relative}:{number}"
        if target is not None:
            if target not in allowed:
                found.append(f"{where}: {folder} may not include {target} ({header})")
            continue
        for prefix, owners in OUTSIDE.items():
            if header.startswith(prefix) and folder not in owners and relative not in owners:
                found.append(f"{where}: {header} belongs to {', '.join(sorted(owners))}")
        # A header of the C++ standard library has neither a folder nor an ending.
        if folder in ALONE and re.search(r"[./]", header) and not header.startswith(ALONE[folder]):
            found.append(f"{where}: {folder} stands alone and may not include {header}")
    return found


def main() -> int:
    files = [p for p in (ROOT / "src").rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    found = [complaint for path in sorted(files) for complaint in complaints(path)]
    for complaint in found:
        print(complaint)
    print(f"{len(files)} files, {len(found)} arrows broken")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
