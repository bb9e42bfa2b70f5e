#!/usr/bin/env python3
"""Blanks the GPU code for other chips in a shared library, so that it packs small.

    thin_fatbin.py IN OUT ARCH        # ARCH: 90 keeps sm_90 and sm_90a

The file keeps its size and layout; of every fat binary in .nv_fatbin, the machine code of other chips
and the PTX become zeros. What runs on ARCH is untouched. A kernel that exists for other chips alone
fails to load, as it should.
"""

import struct
import sys

CONTAINER_MAGIC = 0xBA55ED50
CONTAINER_HEADER = "<IHHQ"  # magic, version, header's bytes, bytes after it
KIND_PTX, KIND_CUBIN = 1, 2


def section(data, wanted):
    """Offset and size of a section of a 64-bit ELF file."""
    table, = struct.unpack_from("<Q", data, 0x28)
    entry_bytes, count, names = struct.unpack_from("<HHH", data, 0x3A)

    def header(i):
        name, _, _, _, offset, size = struct.unpack_from("<IIQQQQ", data, table + i * entry_bytes)
        return name, offset, size

    strings = header(names)[1]
    for i in range(count):
        name, offset, size = header(i)
        start = strings + name
        if data[start:data.index(b"\0", start)] == wanted:
            return offset, size
    raise SystemExit("no section .nv_fatbin")


def entries(data, at, end):
    """(kind, arch, offset, size) of every piece of code in one fat binary."""
    while at < end:
        kind, _, header_bytes, size = struct.unpack_from("<HHIQ", data, at)
        arch, = struct.unpack_from("<I", data, at + 28)
        yield kind, arch, at + header_bytes, size
        at += header_bytes + size


def thin(data, wanted_arch):
    at, size = section(data, b".nv_fatbin")
    end, kept = at + size, 0
    while at < end:
        magic, _, header_bytes, body_bytes = struct.unpack_from(CONTAINER_HEADER, data, at)
        if magic != CONTAINER_MAGIC:  # padding between two
            at += 8
            continue
        body = at + header_bytes
        for kind, arch, offset, code_bytes in entries(data, body, body + body_bytes):
            if kind == KIND_CUBIN and arch == wanted_arch:
                kept += code_bytes
            else:
                data[offset:offset + code_bytes] = bytes(code_bytes)
        at = body + body_bytes
    return kept


def main():
    source, target, arch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(source, "rb") as file:
        data = bytearray(file.read())
    kept = thin(data, arch)
    if kept == 0:
        raise SystemExit(f"{source} has no code for sm_{arch}")
    with open(target, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main()
