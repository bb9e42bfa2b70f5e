"""`python -m moeopt.doctor`: what would be used on this machine, and why not.

    python -m moeopt.doctor [--json] [--require] [-- COMMAND ...]

Looks at the library, the GPUs, torch, Transformers, vLLM and the environment; makes no CUDA allocation.
--require: exit 1 unless every engine that is installed would use the kernel. With a COMMAND it then runs that,
so that a plugin which vLLM's loader would drop in silence stops the start:
    python -m moeopt.doctor --require -- vllm serve MODEL
"""

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable

from moeopt import settings
from moeopt._version import __version__
from moeopt.errors import MoeoptError

OK, BAD, ABSENT = "ok", "no", "absent"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line: what was looked at, OK, BAD or ABSENT (not installed, which is fine), and what was found."""

    what: str
    state: str
    text: str


def library() -> Finding:
    from moeopt import _library
    try:
        opened = _library.library()
    except MoeoptError as problem:
        return Finding("libmoeopt", BAD, str(problem))
    return Finding("libmoeopt", OK, f"{opened.version}, {opened.path}")


def torch() -> Finding:
    try:
        module = importlib.import_module("torch")
    except ImportError:
        return Finding("torch", ABSENT, "not installed: the C library alone can be used")
    version = module.__version__
    if tuple(int(part) for part in version.split("+")[0].split(".")[:2]) < (2, 6):
        return Finding("torch", BAD, f"{version}; 2.6 or newer is needed")
    return Finding("torch", OK, version)


def gpu() -> Finding:
    try:
        module = importlib.import_module("torch")
    except ImportError:
        return Finding("GPU", ABSENT, "torch is needed to look")
    if not module.cuda.is_available():
        return Finding("GPU", BAD, "torch finds no CUDA GPU: the CPU implementation would run (right, slow)")
    names = []
    for index in range(module.cuda.device_count()):
        capability = module.cuda.get_device_capability(index)
        names.append(f"{module.cuda.get_device_name(index)} ({capability[0]}.{capability[1]})")
        if capability != (9, 0):
            return Finding("GPU", BAD, f"device {index} is {names[-1]}; the kernel needs 9.0 (Hopper)")
    return Finding("GPU", OK, ", ".join(names))


def transformers() -> Finding:
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return Finding("Transformers", ABSENT, "not installed")
    try:
        importlib.import_module("moeopt.transformers")
    except (ImportError, MoeoptError) as problem:
        return Finding("Transformers", BAD, f"{version}: {problem}")
    return Finding("Transformers", OK, f'{version}: import moeopt.transformers, then experts_implementation="moeopt"')


def vllm() -> Finding:
    """The entry point, VLLM_PLUGINS and the contract: the three ways in which vLLM would run without us."""
    try:
        version = importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return Finding("vLLM", ABSENT, "not installed")
    named = [point for point in importlib.metadata.entry_points(group="vllm.general_plugins")
             if point.name == "moeopt"]
    if not named:
        return Finding("vLLM", BAD, f"{version}: there is no vllm.general_plugins entry point moeopt; vLLM would "
                       "not load us: install the wheel (a source tree on PYTHONPATH has no entry points)")
    allowed = os.environ.get("VLLM_PLUGINS")
    if allowed is not None and "moeopt" not in [name.strip() for name in allowed.split(",")]:
        return Finding("vLLM", BAD, f"{version}: VLLM_PLUGINS={allowed!r} leaves moeopt out, and vLLM would say nothing")
    if settings.mode(named=False) is settings.Mode.OFF:
        return Finding("vLLM", BAD, f"{version}: MOEOPT_MODE is off")
    try:
        named[0].load()
        from moeopt._vllm import contract
        found = contract.probe()
    except Exception as problem:  # whatever an import of vLLM raises is a reason for the user
        return Finding("vLLM", BAD, f"{version}: {type(problem).__name__}: {problem}")
    seam = "the oracles" if found.unquantized_oracle is not None else "the fp8 oracle and register_oot"
    return Finding("vLLM", OK, f"{version}: through {seam}")


CHECKS: tuple[Callable[[], Finding], ...] = (library, torch, gpu, transformers, vllm)


def findings() -> list[Finding]:
    """All checks; the environment's own mistakes first."""
    result = []
    try:
        chosen = settings.mode(named=False)
        text = f"MOEOPT_MODE={os.environ.get('MOEOPT_MODE', '') or 'unset'} ({chosen.value})"
        result.append(Finding("environment", OK, text + (", MOEOPT_POISON=1" if settings.poison() else "")))
    except MoeoptError as problem:
        return [Finding("environment", BAD, str(problem))]
    return result + [check() for check in CHECKS]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 where --require finds something in the way."""
    given = sys.argv[1:] if arguments is None else arguments
    command: list[str] = []
    if "--" in given:
        at = given.index("--")
        given, command = given[:at], given[at + 1:]
    parser = argparse.ArgumentParser(prog="python -m moeopt.doctor", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require", action="store_true")
    options = parser.parse_args(given)
    found = findings()
    if options.json:
        print(json.dumps({"moeopt": __version__, "findings": [dataclasses.asdict(f) for f in found]}, indent=1))
    else:
        print(f"moeopt {__version__}")
        for finding in found:
            print(f"  {finding.what:13s} {finding.state:7s} {finding.text}")
    bad = [finding for finding in found if finding.state == BAD]
    if options.require and bad:
        print(f"moeopt: {bad[0].what}: {bad[0].text} (--require)", file=sys.stderr)
        return 1
    if command:
        sys.stdout.flush()
        os.execvp(command[0], command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
