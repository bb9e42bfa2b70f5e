#!/usr/bin/env python3
"""What running streams feel: of a long prompt beside them, and of HTTP.

    bench/serve/limits.py [FOLDER] [--what gap,http] [--prompt-tokens 30000] [--max-step-ms 250]

gap: streams run; then one prompt of --prompt-tokens comes. The 99th percentile of the times between two tokens of
     those streams, until the prompt's first token, must be at most --max-step-ms and one decode step (the median
     time between tokens before the prompt came). Printed beside it: the same beyond a decode step of its time, on a
     line through the median before the prompt and that after it, since the streams' contexts grow meanwhile.
http: processor time of the server's HTTP threads at --http-streams streams, as a share of the time that the steps
     took: at most 3%. The share of the time that lay in no step is printed beside it.

FOLDER is a random model (made when it is missing; 2.8 GB). Prints the machine and its load before and after.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import time
import urllib.request

from run import ROOT, free_port, running

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Stream:
    """One streamed completion; when each of its tokens came."""

    def __init__(self, port: int, prompt: list[int], max_tokens: int, biases: dict[str, int]):
        self.port, self.prompt, self.max_tokens, self.biases = port, prompt, max_tokens, biases
        self.times: list[float] = []
        self.sent = 0.0

    async def run(self) -> None:
        body = json.dumps({"prompt": self.prompt, "max_tokens": self.max_tokens, "ignore_eos": True, "stream": True,
                           "temperature": 0, "logit_bias": self.biases})  # fmt: skip
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        try:
            self.sent = time.monotonic()
            writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                         f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())  # fmt: skip
            status = await reader.readline()
            if b" 200 " not in status:
                raise RuntimeError((status + await reader.read()).decode(errors="replace")[-500:])
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    self.times.append(time.monotonic())
        finally:
            writer.close()

    def gaps_ms(self, begin: float, end: float) -> list[float]:
        return [ms for _, ms in self.gaps_at(begin, end)]

    def gaps_at(self, begin: float, end: float) -> list[tuple[float, float]]:
        """(where between begin and end, ms)"""
        inside = [t for t in self.times if begin <= t <= end]
        return [((b - begin) / (end - begin), 1000 * (b - a)) for a, b in zip(inside, inside[1:])]


def visible(folder: pathlib.Path) -> dict[str, int]:
    """Biases to ids that are whole text, so that each token is an event: a random model's would mostly be none."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    ids = sorted(i for text, i in vocabulary.items() if re.fullmatch("Ġ?[A-Za-z]+", text))
    return {str(i): 100 for i in ids[:1000]}


async def until(condition, seconds: float, tasks: list[asyncio.Task]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        for task in tasks:
            if task.done():
                task.result()
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s")
        await asyncio.sleep(0.02)


async def with_streams(args, port: int, count: int, vocab: int, body):
    """Runs `body(streams, tasks)` once `count` streams have several tokens each."""
    rng = random.Random(args.seed)
    streams = [Stream(port, [rng.randrange(1, vocab) for _ in range(16)], args.context - 64, visible(args.folder))
               for _ in range(count)]
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    try:
        await until(lambda: all(len(stream.times) > 8 for stream in streams), 300, tasks)
        return await body(streams, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def gap(args, port: int, pid: int, vocab: int) -> bool:
    async def measure(streams, tasks):
        begin = time.monotonic()
        await asyncio.sleep(args.seconds)
        before = [g for stream in streams for g in stream.gaps_ms(begin, time.monotonic())]
        in_steps, steps = await asyncio.to_thread(step_time, port)
        rng = random.Random(args.seed + 1)
        long = Stream(port, [rng.randrange(1, vocab) for _ in range(args.prompt_tokens)], 1,
                      visible(args.folder))
        task = asyncio.create_task(long.run())
        await until(lambda: bool(long.times), args.patience, [*tasks, task])
        if not task.done():
            await task
        during = [g for stream in streams for g in stream.gaps_at(long.sent, long.times[0])]
        later, more = await asyncio.to_thread(step_time, port)
        begin = time.monotonic()
        await asyncio.sleep(args.seconds)
        after = [g for stream in streams for g in stream.gaps_ms(begin, time.monotonic())]
        return before, after, during, long.times[0] - long.sent, more - steps, later - in_steps

    before, after, during, took_s, steps, in_steps = await with_streams(args, port, args.gap_streams, vocab, measure)
    first, last = statistics.median(before), statistics.median(after)
    gaps = [ms for _, ms in during]
    beyond = [ms - (first + at * (last - first)) for at, ms in during]  # a decode step
    p99, share = (statistics.quantiles(values, n=100, method="inclusive")[98] for values in (gaps, beyond))
    limit = args.max_step_ms + first
    good = p99 <= limit
    print(f"gap: {args.gap_streams} streams, decode step {first:.1f} ms before, {last:.1f} after; {args.prompt_tokens} tokens "
          f"of prompt took {took_s:.1f} s, {steps:.0f} steps of {1000 * in_steps / steps:.1f} ms; gaps meanwhile "
          f"({len(gaps)}): p50 {statistics.median(gaps):.1f}, p99 {p99:.1f}, max {max(gaps):.1f} ms; limit {args.max_step_ms:g} + "
          f"{first:.1f} = {limit:.1f} ms: {'kept' if good else 'EXCEEDED'}; beyond a decode step of its time: p99 "
          f"{share:.1f} of {args.max_step_ms:g} ms")  # fmt: skip
    return good


def http_seconds(pid: int) -> float:
    """Processor time of the HTTP threads so far."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name, fields = re.fullmatch(r"\d+ \((.*)\) (.*)", (task / "stat").read_text().strip()).groups()
        if name.startswith("http-"):
            total += int(fields.split()[11]) + int(fields.split()[12])
    return total * TICK_S


def step_time(port: int) -> tuple[float, float]:
    """Seconds in steps, and their number."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return tuple(float(re.search(rf"^moeopt:step_time_seconds_{part}\S* (\S+)$", text, re.M)[1]) for part in ("sum", "count"))


async def http(args, port: int, pid: int, vocab: int) -> bool:
    async def measure(_, __):
        in_steps, steps = await asyncio.to_thread(step_time, port)
        busy, begin = http_seconds(pid), time.monotonic()
        await asyncio.sleep(max(args.seconds, 10))
        busy, elapsed = http_seconds(pid) - busy, time.monotonic() - begin
        later, more = await asyncio.to_thread(step_time, port)
        return busy, elapsed, later - in_steps, more - steps

    busy, elapsed, in_steps, steps = await with_streams(args, port, args.http_streams, vocab, measure)
    share = busy / in_steps
    print(f"http: {args.http_streams} streams, {steps:.0f} steps of {1000 * in_steps / steps:.1f} ms in {elapsed:.1f} s; "
          f"HTTP threads {1000 * busy / steps:.2f} ms a step = {share:.2%} of it: {'kept' if share <= 0.03 else 'EXCEEDED'} "
          f"(3%); time in no step {max(0.0, 1 - in_steps / elapsed):.2%}")  # fmt: skip
    return share <= 0.03


def machine() -> str:
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return f"{cpu[1] if cpu else 'unknown CPU'}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=ROOT / "build/limits-model")
    parser.add_argument("--what", default="gap,http")
    parser.add_argument("--shape", default="qwen3-3g", help="of the model when it must be made")
    parser.add_argument("--moeopt", default=str(ROOT / "build/release/moeopt"))
    parser.add_argument("--python", default=sys.executable, help="one with numpy, to make the model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=32768)
    parser.add_argument("--prompt-tokens", type=int, default=30000)
    parser.add_argument("--max-step-ms", type=float, default=250)
    parser.add_argument("--gap-streams", type=int, default=8)
    parser.add_argument("--http-streams", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30, help="of measuring without the prompt")
    parser.add_argument("--patience", type=float, default=3600, help="seconds that the prompt may take")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not (args.folder / "config.json").exists():
        subprocess.run([args.python, ROOT / "tools/random_model/random_model.py", args.folder, "--shape", args.shape,
                        "--context", "40960", "--tokenizer", ROOT / "models/tiny-moe"], check=True)  # fmt: skip
    vocab = json.loads((args.folder / "config.json").read_text())["vocab_size"]
    measures = {"gap": (gap, args.gap_streams + 1, args.context), "http": (http, args.http_streams, min(args.context, 4096))}
    good = True
    print(machine())
    for what in args.what.split(","):
        measure, sequences, args.context = measures[what]
        port = free_port()
        command = [args.moeopt, "serve", str(args.folder), "--port", str(port), "--threads", str(args.threads),
                   "--max-num-seqs", str(sequences), "--max-model-len", str(args.context), "--max-step-ms",
                   f"{args.max_step_ms:g}"]  # fmt: skip
        log = ROOT / f"build/limits-{what}.log"
        with running(command, port, "/ready", log) as (_, pid):
            good = asyncio.run(measure(args, port, pid, vocab)) and good
    print(machine())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
