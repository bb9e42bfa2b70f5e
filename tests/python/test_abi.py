"""The ctypes structs against the C compiler's idea of include/moeopt.h, field by field."""

import ctypes
import shutil
import subprocess

import pytest
from conftest import ROOT

from moeopt import _abi

HEADER = ROOT / "include" / "moeopt.h"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(COMPILER is None or not HEADER.exists(), reason="needs a C compiler and the header")


def program():
    """Prints "struct field offset size" for every field that ctypes has, and the sizes and constants."""
    lines = ['#include <stddef.h>', '#include <stdio.h>', '#include "moeopt.h"', "int main(void) {"]
    for name, struct in _abi.STRUCTS.items():
        lines.append(f'printf("{name} . %zu %zu\\n", sizeof({name}), sizeof({name}));')
        for field, _ in struct._fields_:
            lines.append(f'printf("{name} {field} %zu %zu\\n", offsetof({name}, {field}), '
                         f'sizeof((({name}*)0)->{field}));')
    for value in ("MOEOPT_OK", "MOEOPT_ERROR_ARGUMENT", "MOEOPT_ERROR_UNSUPPORTED", "MOEOPT_ERROR_CUDA", "MOEOPT_BF16",
                  "MOEOPT_FP8", "MOEOPT_SOFTMAX", "MOEOPT_SIGMOID", "MOEOPT_GROUP_MAX", "MOEOPT_GROUP_TOP2",
                  "MOEOPT_SOURCE_BF16", "MOEOPT_SOURCE_FP8", "MOEOPT_SOURCE_BF16_TO_FP8"):
        lines.append(f'printf("{value} . %d 0\\n", (int){value});')
    return "\n".join([*lines, "return 0;", "}"])


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    folder = tmp_path_factory.mktemp("abi")
    (folder / "abi.c").write_text(program())
    subprocess.run([COMPILER, "-std=c11", "-Wall", "-Werror", "-I", str(HEADER.parent), "-o", str(folder / "abi"),
                    str(folder / "abi.c")], check=True, capture_output=True)
    out = subprocess.run([str(folder / "abi")], check=True, capture_output=True, text=True).stdout
    return {tuple(line.split()[:2]): tuple(map(int, line.split()[2:])) for line in out.splitlines()}


@pytest.mark.parametrize("name", _abi.STRUCTS)
def test_structs(header, name):
    struct = _abi.STRUCTS[name]
    assert ctypes.sizeof(struct) == header[(name, ".")][0]
    for field, _ in struct._fields_:
        found = getattr(struct, field)
        assert (found.offset, found.size) == header[(name, field)], field


def test_every_field_of_the_header_is_bound():
    """A field added at the end of a struct would otherwise pass: compare the names in the header's text."""
    text = HEADER.read_text()
    for name, struct in _abi.STRUCTS.items():
        body = text.split(f"typedef struct {name} {{")[1].split(f"}} {name};")[0]
        body = "".join(piece.split("*/")[-1] for piece in body.split("/*"))
        names = [declaration.replace("const*", " ").split()[-1].lstrip("*")
                 for declaration in body.split(";") if declaration.strip()]
        assert names == [field for field, _ in struct._fields_], name


def test_constants(header):
    value = {name: numbers[0] for (name, dot), numbers in header.items() if dot == "." and name.isupper()}
    assert (value["MOEOPT_OK"], value["MOEOPT_ERROR_ARGUMENT"], value["MOEOPT_ERROR_UNSUPPORTED"],
            value["MOEOPT_ERROR_CUDA"]) == (_abi.OK, _abi.ERROR_ARGUMENT, _abi.ERROR_UNSUPPORTED, _abi.ERROR_CUDA)
    assert _abi.DTYPES == {"bf16": value["MOEOPT_BF16"], "fp8": value["MOEOPT_FP8"]}
    assert _abi.SCORES == {"softmax": value["MOEOPT_SOFTMAX"], "sigmoid": value["MOEOPT_SIGMOID"]}
    assert _abi.GROUP_SCORES == {"max": value["MOEOPT_GROUP_MAX"], "top2": value["MOEOPT_GROUP_TOP2"]}
    assert (_abi.SOURCE_BF16, _abi.SOURCE_FP8, _abi.SOURCE_BF16_TO_FP8) == (
        value["MOEOPT_SOURCE_BF16"], value["MOEOPT_SOURCE_FP8"], value["MOEOPT_SOURCE_BF16_TO_FP8"])
