#!/usr/bin/env python3
"""Throughput over HTTP: this program's server and llama.cpp's on the same weights, in turns.

    bench/serve/run.py [FOLDER] --llama-server PATH [--streams 1,8,32] [--rounds 3] [--threads 2]

FOLDER is what tools/random_model/random_model.py makes; without one it is made in build/. Both servers
get the same requests of `moeopt bench` (token ids, fixed lengths, greedy), each server alone on the
machine. A server that is not there is a row that says so. README.md beside this file says more.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROMPT_TOKENS, OUTPUT_TOKENS = 128, 64


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], port: int, page: str, log: pathlib.Path):
    """The server's address and process id, once `page` answers; the server is gone afterwards."""
    url = f"http://127.0.0.1:{port}"
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 600
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} did not start: {log}")
            try:
                urllib.request.urlopen(url + page, timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def own_command(args, streams: int, port: int) -> list[str]:
    return [args.moeopt, "serve", str(args.folder), "--port", str(port), "--threads", str(args.threads),
            "--max-num-seqs", str(streams)]


def llama_command(args, streams: int, port: int) -> list[str]:
    context = streams * (PROMPT_TOKENS + OUTPUT_TOKENS + 32)
    return [args.llama_server, "-m", str(args.folder / "model-vocab.gguf"), "--host", "127.0.0.1", "--port",
            str(port), "-np", str(streams), "-c", str(context), "-t", str(args.threads), "-tb",
            str(args.threads), "--no-webui"]


def measure(args, url: str, streams: int, seed: int, vocab: int, out: pathlib.Path) -> dict:
    requests = max(8, 4 * streams)
    subprocess.run([args.moeopt, "bench", "--url", url, "--concurrency", str(streams), "--requests",
                    str(requests), "--prompt-tokens", str(PROMPT_TOKENS), "--output-tokens",
                    str(OUTPUT_TOKENS), "--vocab-size", str(vocab), "--seed", str(seed), "--out", str(out)],
                   check=True, stdout=subprocess.DEVNULL)
    result = json.loads(out.read_text())
    summary = result["summary"]
    # The comparison is of equal work: every answer whole, every prompt read and not remembered.
    assert summary["output_tokens"] == requests * OUTPUT_TOKENS, summary["output_tokens"]
    assert summary["prompt_tokens"] == requests * PROMPT_TOKENS, summary["prompt_tokens"]
    assert summary["cached_tokens"] < requests * 8, summary["cached_tokens"]
    return result


def middle(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f})"


def prepare(args) -> None:
    python = args.python
    if not (args.folder / "config.json").exists():
        subprocess.run([python, ROOT / "tools/random_model/random_model.py", args.folder, "--tokenizer",
                        ROOT / "models/tiny-moe"], check=True)
    gguf = args.folder / "model-vocab.gguf"
    if args.llama_server and not gguf.exists():
        subprocess.run([python, ROOT / "bench/cpu/to_gguf.py", args.folder, gguf, "--tokenizer"], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=ROOT / "build/serve-model")
    parser.add_argument("--llama-server", help="llama.cpp's llama-server; without it its rows are absent")
    parser.add_argument("--moeopt", default=str(ROOT / "build/release/moeopt"))
    parser.add_argument("--python", default=sys.executable, help="one with numpy and gguf")
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    prepare(args)
    vocab = json.loads((args.folder / "config.json").read_text())["vocab_size"]
    results = ROOT / "build/serve-bench"
    results.mkdir(parents=True, exist_ok=True)

    servers = {"moeopt": (own_command, "/ready")}
    if args.llama_server:
        servers["llama.cpp"] = (llama_command, "/health")
    print(f"load {os.getloadavg()[0]:.1f}, {args.threads} threads, prompts of {PROMPT_TOKENS} tokens, "
          f"answers of {OUTPUT_TOKENS}, {args.rounds} rounds; median (lowest..highest)")
    print(f"{'streams':>7} {'server':<10} {'output tokens/s':>24} {'first token p50, ms':>24} "
          f"{'between tokens p99, ms':>24}")
    for streams in map(int, args.streams.split(",")):
        speeds: dict[str, list[float]] = {}
        rows: dict[str, list[dict]] = {name: [] for name in servers}
        for turn in range(args.rounds):
            # In turns, the order turned round each time: what the machine does falls on both.
            for name in list(servers)[::1 if turn % 2 == 0 else -1]:
                command, page = servers[name]
                port = free_port()
                log = results / f"{name}-{streams}.log"
                with running(command(args, streams, port), port, page, log) as (url, _):
                    out = results / f"{name}-{streams}-{turn}.json"
                    rows[name].append(measure(args, url, streams, 100 + turn, vocab, out)["summary"])
        for name, summaries in rows.items():
            speeds[name] = [s["output_tokens_per_s"] for s in summaries]
            print(f"{streams:>7} {name:<10} {middle(speeds[name]):>24} "
                  f"{middle([s['ttft_ms']['p50'] for s in summaries]):>24} "
                  f"{middle([s['inter_token_ms'].get('p99', 0.0) for s in summaries]):>24}")
        if "llama.cpp" in speeds:
            ratios = [a / b for a, b in zip(speeds["moeopt"], speeds["llama.cpp"])]
            print(f"{'':>7} moeopt / llama.cpp, round by round: "
                  + ", ".join(f"{ratio:.2f}" for ratio in ratios))
        else:
            print(f"{streams:>7} {'llama.cpp':<10} absent (--llama-server)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
