"""A soak: `moeopt serve` under a mixed load for a long time, with pauses, and what must not grow meanwhile.

    python tests/server/soak.py [SECONDS] [--clients N] [--out FILE]

It fails unless, after the warm-up (a tenth of the time, at least one round of load and pause):
 - resident memory: the line through the second half rises by at most 8 MiB over that half (32 MiB where that half
   is shorter than a minute: caches still fill), and no sample lies more than 64 MiB above the warm value (the median
   of the first samples after the warm-up);
 - open files and threads, in the pauses: at most 2 files and 0 threads above the first pause's;
 - KV blocks: free + live + cached = total in every sample, live = 0 in every pause;
 - sequences were preempted, so that what is said here holds with preemption;
 - requests: each got a whole answer, a failure or refusal that says so, or was left by its client; the log has
   exactly one line for each, with the status that the client saw; no step failed.
"""

import argparse
import asyncio
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

from conftest import ROOT, Server
from soak_load import Load

RSS_GROWTH_MIB, RSS_GROWTH_SHORT_MIB, RSS_ABOVE_WARM_MIB, FILES_ABOVE = 8, 32, 64, 2
# More choices than run at a time, and blocks that the prefix cache fills in seconds and long answers soon use up:
# queueing, eviction and preemption all along.
FLAGS = ("--max-num-seqs", "16", "--max-waiting", "256", "--request-timeout", "90", "--kv-cache-tokens", "2048")


def take_sample(server: Server, began: float, phase: str) -> dict:
    engine = server.get("/health")["engine"]
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    threads = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads:"))
    return {
        "s": round(time.monotonic() - began, 2), "phase": phase, "rss_mib": round(server.rss_bytes() / 2**20, 2),
        "files": server.n_files(), "threads": threads, "running": engine["running"], "waiting": engine["waiting"],
        "failed_steps": engine["failed_steps"], "preemptions": engine["preemptions"], "blocks": engine["kv_blocks"], "load": os.getloadavg()[0],
    }  # fmt: skip


def slope(points: list[tuple[float, float]]) -> float:
    """Of the least-squares line."""
    mean_x, mean_y = (statistics.fmean(values) for values in zip(*points))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def judge(samples: list[dict], seconds: float) -> tuple[list[str], dict]:
    """What is wrong with the samples, and the figures behind it."""
    first_pause = next((s["s"] for s in samples if s["phase"] == "pause"), seconds)
    after = [s for s in samples if s["s"] >= max(seconds / 10, first_pause)]
    pauses = [s for s in after if s["phase"] == "pause"]
    half = [(s["s"], s["rss_mib"]) for s in samples if s["s"] >= samples[-1]["s"] / 2]
    if len(half) < 3 or len(pauses) < 2:
        return ["too few samples to judge"], {}
    warm = statistics.median(s["rss_mib"] for s in after[: max(3, len(after) // 10)])
    figures = {
        "rss_warm_mib": warm, "rss_max_mib": max(s["rss_mib"] for s in after),
        "rss_growth_second_half_mib": round(slope(half) * (half[-1][0] - half[0][0]), 2),
        "files_first_pause": pauses[0]["files"], "files_max_pause": max(s["files"] for s in pauses),
        "files_max_load": max(s["files"] for s in samples),
        "threads_first_pause": pauses[0]["threads"], "threads_max_pause": max(s["threads"] for s in pauses),
        "blocks_free_and_cached_pause": sorted({s["blocks"]["free"] + s["blocks"]["cached"] for s in pauses}),
        "failed_steps": samples[-1]["failed_steps"], "preemptions": samples[-1]["preemptions"], "samples": len(samples), "pauses": len(pauses),
    }  # fmt: skip
    wrong = []
    is_short = half[-1][0] - half[0][0] < 60
    if figures["rss_growth_second_half_mib"] > (RSS_GROWTH_SHORT_MIB if is_short else RSS_GROWTH_MIB):
        wrong.append(f"RSS grew by {figures['rss_growth_second_half_mib']} MiB over the second half")
    if figures["rss_max_mib"] > warm + RSS_ABOVE_WARM_MIB:
        wrong.append(f"RSS rose from {warm} MiB to {figures['rss_max_mib']} MiB")
    if figures["files_max_pause"] > figures["files_first_pause"] + FILES_ABOVE:
        wrong.append(f"open files in a pause: {figures['files_first_pause']}, then {figures['files_max_pause']}")
    if figures["threads_max_pause"] > figures["threads_first_pause"]:
        wrong.append(f"threads in a pause: {figures['threads_first_pause']}, then {figures['threads_max_pause']}")
    for sample in samples:
        blocks = sample["blocks"]
        if blocks["free"] + blocks["live"] + blocks["cached"] != blocks["total"]:
            wrong.append(f"blocks do not add up after {sample['s']} s: {blocks}")
        if sample["phase"] == "pause" and blocks["live"]:
            wrong.append(f"live blocks in the pause after {sample['s']} s: {blocks}")
    if not figures["preemptions"]:
        wrong.append("no sequence was preempted")
    if figures["failed_steps"]:
        wrong.append(f"{figures['failed_steps']} steps failed")
    return wrong, figures


class Soak:
    def __init__(self, server: Server, seconds: float, clients: int, seed: int, quiet: bool = False):
        self.server, self.seconds, self.is_quiet = server, seconds, quiet
        self.load = Load(server.port, clients, seed)
        self.samples: list[dict] = []
        self.round_s = max(3.0, min(60.0, seconds / 6))  # of load, then a pause
        self.every_s = max(0.5, min(5.0, seconds / 60))
        self.began = self.told = time.monotonic()

    async def sample(self, phase: str) -> None:
        self.samples.append(await asyncio.to_thread(take_sample, self.server, self.began, phase))
        self.tell()

    def tell(self) -> None:
        is_terminal = sys.stderr.isatty()
        if self.is_quiet or not (is_terminal or time.monotonic() - self.told >= 60):
            return
        self.told = time.monotonic()
        s = self.samples[-1]
        print(f"{s['s']:6.0f} / {self.seconds:.0f} s  {self.load.n_sent} sent, {len(self.load.broken)} broken  "
              f"RSS {s['rss_mib']:.0f} MiB  {s['files']} files  {s['threads']} threads  {s['running']} running, "
              f"{s['waiting']} waiting  blocks {s['blocks']['free']} free ",
              end="\r" if is_terminal else "\n", file=sys.stderr, flush=True)  # fmt: skip

    async def round(self) -> None:
        end = time.monotonic() + self.round_s
        self.load.go.set()
        while time.monotonic() < end:
            await asyncio.sleep(self.every_s)
            await self.sample("load")
        await self.load.quiet()
        await asyncio.to_thread(self.server.idle)
        for _ in range(2):
            await asyncio.sleep(self.every_s / 2)
            await self.sample("pause")

    async def run(self) -> dict:
        clients = [asyncio.create_task(self.load.client(i)) for i in range(self.load.clients)]
        while time.monotonic() - self.began < self.seconds:
            await self.round()
            for client in clients:
                if client.done():
                    client.result()  # a fault of the soak itself
        self.load.end()
        await asyncio.gather(*clients)
        wrong, figures = judge(self.samples, self.seconds)
        wrong += [f"broken: {line}" for line in self.load.broken]
        wrong += [f"log: {line}" for line in self.load.lost(self.server.log())]
        return {"wrong": wrong, "figures": figures, "requests": self.load.n_sent, "seconds": self.seconds,
                "clients": self.load.clients, "outcomes": dict(sorted(self.load.outcomes.items()))}  # fmt: skip


def soak(server: Server, seconds: float, clients: int, seed: int = 1, quiet: bool = False) -> tuple[dict, list[dict]]:
    async def run():
        made = Soak(server, seconds, clients, seed, quiet)
        return await made.run(), made.samples

    return asyncio.run(run())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float, nargs="?", default=3600)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/soak/soak.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(pathlib.Path(folder), *FLAGS)
        try:
            result, samples = soak(server, args.seconds, args.clients, args.seed)
        finally:
            code = server.stop()
        if code != 0:
            result["wrong"].append(f"the server ended with {code}: {server.stderr()[-500:]}")
    result["machine"] = f"{platform.node()}, {os.cpu_count()} CPUs, load {samples[0]['load']} to {samples[-1]['load']}"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**result, "samples": samples}, indent=1))
    print(json.dumps({**result, "wrong": result["wrong"][:20]}, indent=1))
    print(f"{'FAILED' if result['wrong'] else 'passed'}; every sample: {args.out}")
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
