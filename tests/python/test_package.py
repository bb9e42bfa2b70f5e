"""The package as a whole: what its import costs, what it ships, the wheel."""

import ast
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

PACKAGE = ROOT / "python" / "moeopt"
sys.path.insert(0, str(ROOT / "tools"))


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={"PYTHONPATH": str(ROOT / "python"), "PATH": ""})


def test_import_loads_neither_torch_nor_the_library():
    run = python("import sys, moeopt\n"
                 "assert moeopt.Description(hidden=64, intermediate=64, experts=2, top_k=1).check() is None\n"
                 "bad = {'torch', 'transformers', 'vllm', 'ctypes.util'} & set(sys.modules)\n"
                 "assert not bad, bad\n"
                 "from moeopt import _library\n"
                 "assert _library._opened is None")
    assert run.returncode == 0, run.stderr


def test_the_package_builds_where_torch_is_absent():
    run = python("import sys\nsys.modules['torch'] = None\nimport moeopt, moeopt.vllm_plugin, moeopt.doctor\n"
                 "moeopt.doctor.findings()\n"
                 "try:\n    moeopt.MoELayer\nexcept ImportError:\n    pass\nelse:\n    raise SystemExit(3)")
    assert run.returncode == 0, run.stderr


def test_every_public_function_is_typed_and_told():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
                assert not untyped and node.returns is not None, f"{path.name}: {node.name} {untyped}"


def test_files_are_of_a_readable_size():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 500, path


def test_versions_agree():
    version = re.search(r'__version__ = "(.+)"', (PACKAGE / "_version.py").read_text()).group(1)
    assert re.search(r"project\(moeopt VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1) == version


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    library = ROOT / "build" / "cuda" / "src" / "cuda" / "moe" / "libmoeopt.so"
    if not library.exists():
        pytest.skip("libmoeopt.so is not built here")
    folder = tmp_path_factory.mktemp("wheel")
    out = []
    for name in ("a", "b"):
        subprocess.run([sys.executable, str(ROOT / "tools" / "make_wheel.py"), str(library), str(folder / name)],
                       check=True, capture_output=True, text=True)
        out.append(next((folder / name).glob("*.whl")))
    assert out[0].read_bytes() == out[1].read_bytes(), "the same files give other bytes"
    return out[0]


def test_the_tag_says_what_the_library_needs(wheel):
    match = re.fullmatch(r"moeopt-[\d.]+-py3-none-manylinux_2_(\d+)_x86_64\.whl", wheel.name)
    library = zipfile.ZipFile(wheel).read("moeopt/lib/libmoeopt.so")
    needed = [int(n) for n in re.findall(rb"GLIBC_2\.(\d+)", library)]
    assert int(match.group(1)) == max(needed)
    assert int(match.group(1)) <= 35, "would no longer load on Ubuntu 22.04"


def test_the_wheel_holds_the_package_and_its_entry_points(wheel):
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    for path in PACKAGE.rglob("*.py"):
        assert f"moeopt/{path.relative_to(PACKAGE)}" in names
    assert "moeopt/py.typed" in names and not any("__pycache__" in name or name.endswith(".md") for name in names)
    info = next(name for name in names if name.endswith("entry_points.txt"))
    for value in re.findall(r"= (\S+)", archive.read(info).decode()):
        module, attribute = value.split(":")
        source = archive.read(module.replace(".", "/") + ".py").decode()
        assert re.search(rf"^(def|class) {attribute}\b", source, re.M), value


def test_the_wheel_installs_and_finds_its_library(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    run = subprocess.run([sys.executable, "-c", "from moeopt import _library\n"
                          "from importlib.metadata import entry_points, version\n"
                          "print(_library.library().path, version('moeopt'), _library.library().version,\n"
                          "      [e.name for e in entry_points(group='vllm.general_plugins')])"],
                         capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path), "PATH": ""})
    assert run.returncode == 0, run.stderr
    path, version, library, entries = run.stdout.split(maxsplit=3)
    assert pathlib.Path(path) == tmp_path / "moeopt" / "lib" / "libmoeopt.so" and version == library
    assert "moeopt" in entries


def test_a_library_that_needs_more_is_refused(monkeypatch):
    import make_wheel
    library = ROOT / "build" / "cuda" / "src" / "cuda" / "moe" / "libmoeopt.so"
    if not library.exists():
        pytest.skip("libmoeopt.so is not built here")
    data = library.read_bytes()
    with pytest.raises(SystemExit, match="needs libz.so.6"):
        make_wheel.tag_of(data.replace(b"libc.so.6\0", b"libz.so.6\0"))
    with pytest.raises(SystemExit, match="not a 64-bit"):
        make_wheel.tag_of(b"\x7fELF" + bytes(100))
