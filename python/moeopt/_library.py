"""Finds and opens libmoeopt.so, once a process. Makes no CUDA call: the library is fine without a GPU.

Order: MOEOPT_LIBRARY, the wheel's own (moeopt/lib/), a build of the repository that this file lies in,
the system's libmoeopt.so.0.
"""

import ctypes as c
import os
import pathlib
import threading

from moeopt import _abi, errors

_SONAME = "libmoeopt.so.0"
_lock = threading.Lock()
_opened: "Library | None" = None


class Library:
    """An open libmoeopt.so."""

    def __init__(self, path: str):
        self.path = path
        self.functions = _abi.bind(path)

    @property
    def version(self) -> str:
        return self.functions.moeopt_version().decode()

    def check(self, status: int) -> None:
        """Raises what a failing call said, as the error of its status."""
        if status == _abi.OK:
            return
        text = (self.functions.moeopt_last_error() or b"").decode(errors="replace")
        kind = {_abi.ERROR_ARGUMENT: errors.ArgumentError, _abi.ERROR_UNSUPPORTED: errors.Unsupported,
                _abi.ERROR_CUDA: errors.CudaError}.get(status, errors.MoeoptError)
        raise kind(text or f"libmoeopt returned {status}")


def candidates() -> list[str]:
    """Where the library is looked for, best first."""
    named = os.environ.get("MOEOPT_LIBRARY")
    if named:
        return [named]
    here = pathlib.Path(__file__).resolve().parent
    found = [here / "lib" / "libmoeopt.so",
             here.parents[1] / "build" / "cuda" / "src" / "cuda" / "moe" / "libmoeopt.so"]
    return [str(path) for path in found if path.exists()] + [_SONAME]


def library() -> Library:
    """The library, opened at the first call. Raises Unsupported when it is not there or does not fit."""
    global _opened
    with _lock:
        if _opened is None:
            tried = []
            for path in candidates():
                try:
                    _opened = Library(path)
                    break
                except (OSError, AttributeError) as problem:
                    tried.append(f"{path}: {problem}")
            else:
                raise errors.Unsupported("libmoeopt.so could not be opened (" + "; ".join(tried) +
                                         "); set MOEOPT_LIBRARY or install the wheel")
        return _opened


def unload() -> None:
    """Closes the library; the next use opens it anew. Every MoELayer on a GPU must be gone."""
    global _opened
    import _ctypes
    with _lock:
        if _opened is not None:
            handle, _opened = _opened.functions._handle, None
            _ctypes.dlclose(handle)


def tokens_within(fields: dict[str, int | float], workspace_bytes: int) -> int:
    """The largest max_tokens, up to that of the description, whose workspace takes at most so many bytes.

    Raises Unsupported when one token's takes more."""
    tokens = c.c_int32()
    opened = library()
    opened.check(opened.functions.moeopt_moe_tokens_within(c.byref(_abi.sized(_abi.Desc, **fields)), workspace_bytes,
                                                           c.byref(tokens)))
    return tokens.value


class Handle:
    """A moeopt_moe: one description for up to max_tokens tokens. Host memory only."""

    def __init__(self, fields: dict[str, int | float]):
        """fields: of moeopt_moe_desc. Raises Unsupported or ArgumentError with the library's text."""
        self.library = library()
        self.pointer = c.c_void_p()
        functions = self.library.functions
        self.library.check(functions.moeopt_moe_create(c.byref(_abi.sized(_abi.Desc, **fields)),
                                                       c.byref(self.pointer)))
        self.sizes = _abi.sized(_abi.Sizes)
        self.library.check(functions.moeopt_moe_get_sizes(self.pointer, c.byref(self.sizes)))
        # Of a call that has its control apart.
        self.scratch_bytes: int = self.sizes.workspace_bytes - self.sizes.control_bytes
        self.config: str = functions.moeopt_moe_config(self.pointer).decode()

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self.library.functions.moeopt_moe_destroy(self.pointer)
