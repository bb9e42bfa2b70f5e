#!/usr/bin/env python3
"""Draws the benchmarks' JSON as one SVG.

    bench/moe_layer/plot.py --layer moe_layer.json [--peers peers.json] --out flashdmoe.svg

One panel a layer and dtype: µs of a call over its tokens, both logarithmic; ours, the stream of the same
bytes, its limit, and each peer (from bench/peers/run.py --json). Points that were judged and are beyond
their limit are marked. Needs matplotlib.
"""

import argparse
import json
import pathlib
import sys

COLUMNS = 3
OURS, STREAM, LIMIT = "#1f5fa8", "#777777", "#bbbbbb"
PEER_COLOURS = ["#c46210", "#3a8f4b", "#8a4fa3", "#b03a4a"]


def panels_of(layer, peers):
    """(shape, dtype) -> lines: name -> {tokens: µs}; "late" -> tokens of points beyond their limit."""
    panels = {}

    def line(shape, dtype, name):
        return panels.setdefault((shape, dtype), {"lines": {}, "late": []})["lines"].setdefault(name, {})

    for r in layer["results"]:
        if r["routing"] != "uniform" or r["tokens"] == 0:
            continue
        line(r["shape"], r["dtype"], "moeopt")[r["tokens"]] = r["us"]
        line(r["shape"], r["dtype"], "stream of the weights")[r["tokens"]] = r["stream_us"]
        if r["limit"] is not None:
            line(r["shape"], r["dtype"], "limit")[r["tokens"]] = r["us"] / r["ratio"] * r["limit"]
            if not r["within"]:
                panels[r["shape"], r["dtype"]]["late"].append(r["tokens"])
    for row in peers["rows"] if peers else []:
        for key, result in row["results"].items():
            if key != "moeopt" and "us" in result:
                line(row["shape"], row["dtype"], row["names"].get(key, key))[row["tokens"]] = result["us"]
    return panels


def caption_of(layer, peers):
    text = f"{layer['gpu']}, {layer['date']}, at most {layer['max_clock_mhz']:.0f} MHz, moeopt {layer['moeopt']}"
    if peers:
        text += f"; peers: {peers['gpu']}, {peers['date']}, torch {peers['torch']}"
    return text


def draw(panels, caption, out):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "moeopt"  # the same file for the same figures
    import matplotlib.pyplot as plt

    names = sorted({name for panel in panels.values() for name in panel["lines"]}
                   - {"moeopt", "stream of the weights", "limit"})
    style = {"moeopt": {"color": OURS, "marker": "o", "linewidth": 2, "zorder": 4},
             "stream of the weights": {"color": STREAM, "linewidth": 1.5},
             "limit": {"color": LIMIT, "linestyle": ":", "linewidth": 1.5}}
    for i, name in enumerate(names):
        style[name] = {"color": PEER_COLOURS[i % len(PEER_COLOURS)], "marker": ".", "linewidth": 1}
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
        axis.set_xticks(tokens, [str(t) for t in tokens], fontsize=7)
        axis.set_title(f"{shape} {dtype}", fontsize=9)
        axis.set_xlabel("tokens", fontsize=8)
        axis.set_ylabel("µs a call", fontsize=8)
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
    parser.add_argument("--layer", type=pathlib.Path, required=True)
    parser.add_argument("--peers", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    layer = json.loads(arguments.layer.read_text(encoding="utf-8"))
    peers = json.loads(arguments.peers.read_text(encoding="utf-8")) if arguments.peers else None
    panels = panels_of(layer, peers)
    if not panels:
        sys.exit(f"{arguments.layer}: no result under uniform routing")
    draw(panels, caption_of(layer, peers), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
