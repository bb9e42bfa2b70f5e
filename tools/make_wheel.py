#!/usr/bin/env python3
"""Builds moeopt's wheel: python/moeopt as it is, plus libmoeopt.so. Needs Python alone, no network.

    make_wheel.py LIBRARY OUT_DIR

The tag says what the library needs, read from its ELF tables: py3-none-manylinux_2_N_x86_64, N the newest
glibc that it asks for. Refused: a library that needs more than the C library, or whose version is not the
package's. The same files give the same bytes.
"""

import argparse
import base64
import ctypes
import hashlib
import pathlib
import re
import struct
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOWED = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
ENTRY_POINTS = """[vllm.general_plugins]
moeopt = moeopt.vllm_plugin:register

[vllm.endpoint_plugins]
moeopt = moeopt.vllm_endpoint:Plugin
"""
METADATA = """Metadata-Version: 2.1
Name: moeopt
Version: {version}
Summary: FlashDMoE, the fused Mixture-of-Experts layer, for PyTorch, Transformers and vLLM
License: {licence}
Requires-Python: >=3.10
Classifier: Operating System :: POSIX :: Linux
Classifier: Environment :: GPU :: NVIDIA CUDA
Description-Content-Type: text/markdown

{description}
"""


class Elf:
    """What a 64-bit little-endian shared library asks of its system."""

    def __init__(self, data: bytes):
        if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", data, 18)[0] != 62:
            raise SystemExit("not a 64-bit x86 shared library")
        self.data = data
        table, = struct.unpack_from("<Q", data, 0x28)
        size, count, _ = struct.unpack_from("<HHH", data, 0x3A)
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]

    def _section(self, kind: int):
        return next((s for s in self.sections if s[1] == kind), None)

    def _string(self, section: int, offset: int) -> str:
        start = self.sections[section][4] + offset
        return self.data[start:self.data.index(b"\0", start)].decode()

    def needed(self) -> list[str]:
        dynamic = self._section(6)  # SHT_DYNAMIC
        found = []
        for at in range(dynamic[4], dynamic[4] + dynamic[5], 16):
            tag, value = struct.unpack_from("<QQ", self.data, at)
            if tag == 1:  # DT_NEEDED
                found.append(self._string(dynamic[6], value))
        return found

    def versions(self) -> list[str]:
        """Every symbol version that it needs: "GLIBC_2.17"."""
        needs = self._section(0x6FFFFFFE)  # SHT_GNU_verneed
        found, at = [], needs[4]
        for _ in range(needs[7]):
            _, count, _, first, following = struct.unpack_from("<HHIII", self.data, at)
            entry = at + first
            for _ in range(count):
                _, _, _, name, more = struct.unpack_from("<IHHII", self.data, entry)
                found.append(self._string(needs[6], name))
                entry += more
            at += following
        return found


def tag_of(library: bytes) -> str:
    elf = Elf(library)
    others = sorted(set(elf.needed()) - ALLOWED)
    if others:
        raise SystemExit(f"the library needs {', '.join(others)}, which a manylinux wheel may not")
    versions = elf.versions()
    strange = [v for v in versions if not re.fullmatch(r"GLIBC_2\.\d+(\.\d+)?", v)]
    if strange:
        raise SystemExit(f"the library needs {', '.join(strange)}")
    newest = max(int(v.split(".")[1]) for v in versions)
    return f"py3-none-manylinux_2_{max(newest, 17)}_x86_64"


def check_version(library: pathlib.Path, version: str) -> None:
    loaded = ctypes.CDLL(str(library))
    loaded.moeopt_version.restype = ctypes.c_char_p
    found = loaded.moeopt_version().decode()
    if found != version:
        raise SystemExit(f"the library is {found}, the package {version}")


def files_of(library: pathlib.Path, version: str, tag: str) -> dict[str, bytes]:
    package = ROOT / "python" / "moeopt"
    files = {f"moeopt/{path.relative_to(package)}": path.read_bytes() for path in sorted(package.rglob("*"))
             if path.is_file() and (path.suffix == ".py" or path.name == "py.typed")}
    files["moeopt/lib/libmoeopt.so"] = library.read_bytes()
    info = f"moeopt-{version}.dist-info"
    page = ROOT / "docs" / "plugins.md"
    licence = (ROOT / "LICENSE").read_text().splitlines()[0].strip()
    files[f"{info}/METADATA"] = METADATA.format(version=version, licence=licence, description=page.read_text()
                                                if page.exists() else "").encode()
    files[f"{info}/WHEEL"] = (f"Wheel-Version: 1.0\nGenerator: tools/make_wheel.py\nRoot-Is-Purelib: false\n"
                              f"Tag: {tag}\n").encode()
    files[f"{info}/entry_points.txt"] = ENTRY_POINTS.encode()
    files[f"{info}/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    lines.append(f"{info}/RECORD,,")
    files[f"{info}/RECORD"] = ("\n".join(lines) + "\n").encode()
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "python/moeopt/_version.py").read_text()).group(1)
    check_version(options.library, version)
    tag = tag_of(options.library.read_bytes())
    options.out.mkdir(parents=True, exist_ok=True)
    wheel = options.out / f"moeopt-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files_of(options.library, version, tag).items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    print(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
