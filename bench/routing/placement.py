"""Placements of one log on several shapes, as a table; ends with 1 when ours is worse than EPLB's on the held-out half.

    python3 bench/routing/placement.py build/release/moeopt profile/routing.moer

The figures are what `moeopt placement` writes into its plan files: busiest GPU over the mean GPU, held-out half of
the log, mean over layers.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

SHAPES = [(2, 0), (4, 0), (4, 4), (8, 0), (8, 8), (16, 16)]  # GPUs, redundant experts
METHODS = ["contiguous", "greedy", "eplb", "balanced"]


def main(program, log):
    worse = 0
    print("| GPUs, copies | " + " | ".join(METHODS) + " |\n| --- |" + " --- |" * len(METHODS))
    with tempfile.TemporaryDirectory() as folder:
        plan = pathlib.Path(folder) / "plan.json"
        for gpus, redundant in SHAPES:
            shape = ["--gpus", str(gpus), "--redundant", str(redundant)]
            subprocess.run([program, "placement", "--routing", log, *shape, "--out", plan], check=True, stdout=subprocess.DEVNULL)
            evaluation = json.loads(plan.read_text())["evaluation"]
            held_out = {name: row["held_out"]["mean_max_over_mean"] for name, row in evaluation.items()}
            worse += held_out["balanced"] > held_out["eplb"]
            print(f"| {gpus}, {redundant} | " + " | ".join(f"{held_out[name]:.3f}" for name in METHODS) + " |")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
