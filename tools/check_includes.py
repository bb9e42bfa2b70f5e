#!/usr/bin/env python3
"""Fails when an #include breaks the arrows of the house.

A folder of src/ may include itself and the folders that it reaches through ARROWS; a few outside
libraries are kept in the folders named in OUTSIDE.
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
    "kv": ["tensor"],
    "routing": ["base"],
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
    "cuda": {"cuda"},
    "flashinfer/": {"cuda"},
    "cutlass/": {"cuda"},
    "cute/": {"cuda"},
}

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


def complaints(path: pathlib.Path) -> list[str]:
    relative = path.relative_to(ROOT / "src")
    folder = relative.parts[0]
    if folder not in ARROWS:
        return [f"src/{relative}: folder '{folder}' has no arrows in tools/check_includes.py"]
    allowed = reachable(folder)
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        target = header.split("/")[0]
        if quote == '"' and target in ARROWS and target not in allowed:
            found.append(f"src/{relative}:{number}: {folder} may not include {target} ({header})")
        for prefix, owners in OUTSIDE.items():
            if header.startswith(prefix) and quote == "<":
                if folder not in owners and str(relative) not in owners:
                    found.append(f"src/{relative}:{number}: {header} belongs to {', '.join(sorted(owners))}")
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
