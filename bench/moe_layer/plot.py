#!/usr/bin/env python3
"""Draws the benchmarks' JSON as one SVG.

    bench/moe_layer/plot.py --layer moe_layer.json ... [--peers peers.json ...] --out flashdmoe.svg
    bench/moe_layer/plot.py --rate [BF16,FP8] --layer ... --peers ... --out flashdmoe-rate.svg

One panel a layer and dtype: µs of a call over its tokens, both logarithmic; ours, the stream of the same
bytes, its limit, and each peer (from bench/peers/run.py --json). Points that were judged and are beyond
their limit are marked.
--rate: TFLOP/s instead, below the roofline: the larger of the stream's time and that of the products at
the machine's own rate, as the peers' JSON has it or as given, in TFLOP/s. Beyond the tokens that were streamed
the stream's time is that of the most tokens, which touch every expert. Where --layer has no point of ours,
the one that ran beside the peers is drawn.
Needs matplotlib.
"""

import argparse
import json
import pathlib
import sys

COLUMNS = 3
OURS, STREAM, LIMIT, ROOF = "#1f5fa8", "#777777", "#bbbbbb", "#222222"
PEER_COLOURS = ["#c46210", "#3a8f4b", "#8a4fa3", "#b03a4a"]
STYLES = {"moeopt": {"color": OURS, "marker": "o", "linewidth": 2, "zorder": 4},
          "roofline": {"color": ROOF, "linewidth": 1.5},
          "stream of the weights": {"color": STREAM, "linewidth": 1.5},
          "limit": {"color": LIMIT, "linestyle": ":", "linewidth": 1.5}}


def _uniform(layers):
    return [r for layer in layers for r in layer["results"] if r["routing"] == "uniform" and r["tokens"] > 0]


def _peer_points(peers):
    """(row, name as drawn, µs) of every result in the peers' tables, ours included."""
    for table in peers:
        for row in table["rows"]:
            for key, result in row["results"].items():
                if "us" in result:
                    yield row, "moeopt" if key == "moeopt" else row["names"].get(key, key), result["us"]


def panels_of(layers, peers):
    """(shape, dtype) -> lines: name -> {tokens: µs}; "late" -> tokens of points beyond their limit."""
    panels = {}

    def line(shape, dtype, name):
        return panels.setdefault((shape, dtype), {"lines": {}, "late": []})["lines"].setdefault(name, {})

    for r in _uniform(layers):
        line(r["shape"], r["dtype"], "moeopt")[r["tokens"]] = r["us"]
        line(r["shape"], r["dtype"], "stream of the weights")[r["tokens"]] = r["stream_us"]
        if r["limit"] is not None:
            line(r["shape"], r["dtype"], "limit")[r["tokens"]] = r["us"] / r["ratio"] * r["limit"]
            if not r["within"]:
                panels[r["shape"], r["dtype"]]["late"].append(r["tokens"])
    for row, name, us in _peer_points(peers):
        if name != "moeopt":
            line(row["shape"], row["dtype"], name)[row["tokens"]] = us
    return panels


def rate_panels_of(layers, peers, matrix):
    """The same with TFLOP/s and a roofline. matrix: dtype -> TFLOP/s of a large dense product."""
    panels, streams, flops = {}, {}, {}
    for r in _uniform(layers):
        key = r["shape"], r["dtype"]
        flops[key] = r["tflop_s"] * r["us"] / r["tokens"]  # MFLOP a token
        streams.setdefault(key, {})[r["tokens"]] = r["stream_us"]
        panels.setdefault(key, {"lines": {"moeopt": {}}, "late": []})["lines"]["moeopt"][r["tokens"]] = r["tflop_s"]
    for row, name, us in _peer_points(peers):
        key, tokens = (row["shape"], row["dtype"]), row["tokens"]
        if key in panels:
            panels[key]["lines"].setdefault(name, {}).setdefault(tokens, flops[key] * tokens / us)
    for key, panel in panels.items():
        most = max(streams[key])
        panel["lines"]["roofline"] = {
            t: min(matrix[key[1]], flops[key] * t / streams[key].get(t, streams[key][most]))
            for t in {t for line in panel["lines"].values() for t in line} if t in streams[key] or t > most}
    return panels


def caption_of(layers, peers):
    def parts(tables, text):
        return list(dict.fromkeys(text.format(**table) for table in tables))
    return "; ".join(parts(layers, "{gpu}, {date}, at most {max_clock_mhz:.0f} MHz, moeopt {moeopt}") +
                     parts(peers, "peers: {gpu}, {date}, torch {torch}"))


def draw(panels, caption, unit, out):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "moeopt"  # the same file for the same figures
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    names = sorted({name for panel in panels.values() for name in panel["lines"]} - STYLES.keys())
    style = STYLES | {name: {"color": PEER_COLOURS[i % len(PEER_COLOURS)], "marker": ".", "linewidth": 1}
                      for i, name in enumerate(names)}
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 3.2 * rows + 0.6), squeeze=False)
    for axis in axes.flat[len(panels):]:
        axis.set_visible(False)
    for axis, ((shape, dtype), panel) in zip(axes.flat, panels.items()):
        tokens = sorted({t for points in panel["lines"].values() for t in points})
        for name in style:
            points = sorted(panel["lines"].get(name, {}).items())
            if points:
                axis.plot(*zip(*points), label=name, markersize=4, **style[name])
        late = [(t, panel["lines"]["moeopt"][t]) for t in panel["late"]]
        if late:
            axis.plot(*zip(*late), "x", color="#c00000", markersize=8, label="beyond its limit", zorder=5)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        axis.tick_params("y", labelsize=7)
        axis.set_xticks(tokens, [str(t) for t in tokens], fontsize=6, rotation=60 if len(tokens) > 10 else 0)
        axis.set_title(f"{shape} {dtype}", fontsize=9)
        axis.set_xlabel("tokens", fontsize=8)
        axis.set_ylabel(unit, fontsize=8)
        axis.grid(True, which="both", linewidth=0.3)
    handles = {}
    for axis in axes.flat:
        handles.update({label: h for h, label in zip(*axis.get_legend_handles_labels())})
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncols=min(len(handles), 4), fontsize=8,
                  frameon=False)
    figure.text(0.01, 0.005, caption, fontsize=7)
    figure.tight_layout(rect=(0, 0.02, 1, 0.93))
    figure.savefig(out, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layer", type=pathlib.Path, required=True, nargs="+")
    parser.add_argument("--peers", type=pathlib.Path, nargs="+", default=[])
    parser.add_argument("--rate", metavar="BF16,FP8", nargs="?", const="", help="draw TFLOP/s")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    layers, peers = ([json.loads(path.read_text(encoding="utf-8")) for path in paths]
                     for paths in (arguments.layer, arguments.peers))
    if arguments.rate is not None:
        matrix = {}
        for table in peers:
            matrix |= table.get("matrix_tflops", {})
        if arguments.rate:
            try:
                matrix = dict(zip(("bf16", "fp8"), map(float, arguments.rate.split(",")), strict=True))
            except ValueError:
                parser.error(f"--rate {arguments.rate}: not two numbers")
        if missing := {r["dtype"] for r in _uniform(layers)} - matrix.keys():
            parser.error(f"no rate of the machine in {', '.join(sorted(missing))}: --rate BF16,FP8")
        panels, unit = rate_panels_of(layers, peers, matrix), "TFLOP/s"
    else:
        panels, unit = panels_of(layers, peers), "µs a call"
    if not panels:
        sys.exit(f"{', '.join(map(str, arguments.layer))}: no result under uniform routing")
    draw(panels, caption_of(layers, peers), unit, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
