#!/usr/bin/env python3
"""One table: this program, llama.cpp and Transformers on the same weights and threads.

    bench/cpu/run.py [FOLDER] [--threads 2] [--prefill 512] [--decode 64]
        [--bench build/release/bench/cpu_model_bench]
        [--torch-python .venv/bin/python] [--llama-python .venv-llama/bin/python]

FOLDER is what tools/random_model/random_model.py makes; without one it is made in build/ (needs
numpy), and so is the benchmark's binary when it is not there. The machine's floors (read bandwidth,
multiplications a second) are measured first, by the same process as the first row. A competitor that is not
installed is reported as absent, never skipped silently. Run it on an idle machine.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def last_json(command: list[str]) -> dict | str:
    """The JSON on the command's last line, or why there is none."""
    if not pathlib.Path(command[0]).exists():
        return f"absent ({command[0]} is not there)"
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return f"failed ({lines[-1] if lines else done.returncode})"
    return json.loads(done.stdout.strip().splitlines()[-1])


def time_llama(folder: pathlib.Path, python: str, sizes: list[str]) -> dict | str:
    path = folder / "model.gguf"
    probe = [python, "-c", "import gguf, json, llama_cpp; print(json.dumps({}))"]
    if isinstance(reason := last_json(probe), str):
        return reason
    if not path.exists():
        subprocess.run([python, HERE / "to_gguf.py", folder, path], check=True)
    return last_json([python, str(HERE / "time_llama.py"), str(path), *sizes])


def cpu_name() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit() -> str:
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def prepare(folder: pathlib.Path, bench: pathlib.Path, python: str) -> None:
    if not (folder / "config.json").exists():
        maker = [python, ROOT / "tools/random_model/random_model.py", folder]
        if subprocess.run([python, "-c", "import numpy"], capture_output=True).returncode != 0:
            sys.exit(f"the random model needs numpy, and {python} has none (--torch-python)")
        subprocess.run(maker, check=True)
    if not bench.exists():
        subprocess.run(["cmake", "--preset", "release", "-DMOEOPT_BENCH=ON"], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", ROOT / "build/release", "--target", "cpu_model_bench"],
                       check=True, stdout=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?",
                        default=ROOT / "build/bench-model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--bench", default=str(ROOT / "build/release/bench/cpu_model_bench"))
    parser.add_argument("--torch-python", default=str(ROOT / ".venv/bin/python"))
    parser.add_argument("--llama-python", default=str(ROOT / ".venv-llama/bin/python"))
    args = parser.parse_args()
    has_venv = pathlib.Path(args.torch_python).exists()
    prepare(args.folder, pathlib.Path(args.bench), args.torch_python if has_venv else sys.executable)
    sizes = [str(args.threads), str(args.prefill), str(args.decode)]

    own = last_json([args.bench, str(args.folder), sizes[0], "auto", *sizes[1:]])
    if isinstance(own, str):
        print(f"moeopt: {own}", file=sys.stderr)
        return 1
    rows = {own["name"]: own}
    rows["llama.cpp"] = time_llama(args.folder, args.llama_python, sizes)
    rows["transformers"] = last_json(
        [args.torch_python, str(HERE / "time_transformers.py"), str(args.folder), *sizes])

    bandwidth, peak = own["read_bytes_per_s"], own["multiply_flops_per_s"]
    decode_floor = own["token_bytes"] / bandwidth
    bytes_floor = own["all_bytes"] / bandwidth
    flops_floor = own["prefill_flops"] / peak if peak else 0.0
    prefill_floor = max(bytes_floor, flops_floor)
    print(f"{datetime.date.today()}  {cpu_name()}, {args.threads} threads, load {os.getloadavg()[0]:.1f}, "
          f"commit {commit()}")
    print(f"reads {bandwidth / 1e9:.1f} GB/s, {own['multiply_unit']} {peak / 1e9:.0f} GFLOP/s; "
          f"a token reads {own['token_bytes'] / 1e6:.0f} MB, a prefill {own['all_bytes'] / 1e9:.2f} GB "
          f"and {own['prefill_flops'] / 1e9:.0f} GFLOP")
    print(f"{'':<44}{'decode ms':>10}{'tok/s':>8}{'of floor':>9}"
          f"{f'prefill {args.prefill} ms':>16}{'tok/s':>8}{'of floor':>9}")
    print(f"{'floor':<44}{decode_floor * 1e3:>10.1f}{1 / decode_floor:>8.1f}{'':>9}"
          f"{prefill_floor * 1e3:>16.0f}{args.prefill / prefill_floor:>8.0f}{'':>9}"
          f"   bytes {bytes_floor * 1e3:.0f} ms, multiplications {flops_floor * 1e3:.0f} ms")
    for label, row in rows.items():
        if isinstance(row, str):
            print(f"{label:<44}{row}")
            continue
        name = f"moeopt, {row['name']}" if row is own else row["name"]
        print(f"{name:<44}{row['decode_s'] * 1e3:>10.1f}{1 / row['decode_s']:>8.1f}"
              f"{decode_floor / row['decode_s']:>9.0%}{row['prefill_s'] * 1e3:>16.0f}"
              f"{args.prefill / row['prefill_s']:>8.0f}{prefill_floor / row['prefill_s']:>9.0%}")
    print(f"resident {own['resident_bytes'] / 1e9:.2f} GB, of which planned workspace and cache "
          f"{own['workspace_bytes'] / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
