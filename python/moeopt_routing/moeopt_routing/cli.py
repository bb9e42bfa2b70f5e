"""moeopt-routing: pictures and a report from routing logs."""

import argparse
import json
import os
import pathlib
import sys

from . import plots
from . import statistics as st
from .log import LogError, load
from .report import read_timing, write_report


def add_common(parser, picture=True):
    parser.add_argument("log", nargs="+", help="routing log, or its parts")
    parser.add_argument("--keep-warmup", action="store_true", help="leave warm-up rows of foreign logs in")
    parser.add_argument("--phase", choices=["both", "prefill", "decode"], default="both")
    if picture:
        parser.add_argument("--out", default=".", help="folder for the pictures (default: here)")
        parser.add_argument("--format", default="png,svg", help="png, svg or both (default)")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="moeopt-routing", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, text in (
        ("hist", "experts by share, with the uniform line"), ("heatmap", "layers by experts"),
        ("balance", "evenness per layer with bootstrap intervals"), ("pairs", "experts chosen together"),
        ("drift", "decode against prefill, over time, against another log"),
        ("coverage", "how few experts serve how much"), ("locality", "reuse between consecutive tokens"),
    ):  # fmt: skip
        verb = verbs.add_parser(name, help=text)
        add_common(verb)
        if name in ("hist", "pairs", "drift"):
            verb.add_argument("--layer", type=int, help="a layer's number (default: every one)")
        if name == "drift":
            verb.add_argument("--against", help="another log of the same model")
    report = verbs.add_parser("report", help="everything in one HTML file")
    add_common(report, picture=False)
    report.add_argument("--out", default="report.html")
    report.add_argument("--timing", help="timing.json of a profile")
    pictures = verbs.add_parser("pictures", help="every picture and report.html of a folder that `moeopt profile` made")
    pictures.add_argument("folder", help="with routing.moer and timing.json")
    return parser.parse_args(arguments)


def wanted_layers(log, args):
    if args.layer is None:
        return [int(x) for x in log.layers]
    if args.layer not in log.layers:
        raise LogError(f"layer {args.layer} is not in the log; it has {', '.join(map(str, log.layers))}")
    return [args.layer]


def read(args, paths=None):
    log = load(paths or args.log, keep_warmup=args.keep_warmup)
    if log.missing:
        print(f"{log.path}: the header lacks {', '.join(log.missing)}", file=sys.stderr)
    if log.warmup_left_out:
        print(f"{log.path}: {log.warmup_left_out} warm-up records left out (--keep-warmup keeps them)", file=sys.stderr)
    if log.truncated:
        print(f"{log.path}: ends within a record", file=sys.stderr)
    if args.phase != "both":
        log = log.select(log.phase == (0 if args.phase == "prefill" else 1))
        if not len(log):
            raise LogError(f"{log.path}: no {args.phase} records")
    return log


def emit(figure, args, name):
    os.makedirs(args.out, exist_ok=True)
    for path in plots.save(figure, os.path.join(args.out, name), tuple(args.format.split(","))):
        print(path)


def draw_drift(log, args):
    if args.against:
        other = read(args, [args.against])
        rows = st.drift_logs(log, other)
    else:
        rows = st.drift_phases(log)
    for row in rows:
        if row["layer"] not in wanted_layers(log, args):
            continue
        if args.against:
            first, second = log.at_layer(row["layer"]).counts()[0], other.at_layer(row["layer"]).counts()[0]
            names = ("this log", "the other")
        else:
            prefill, decode = st.phase_counts(log, row["layer"])
            first, second, names = prefill.sum(0), decode.sum(0), ("prefill", "decode")
        test = row["test"]
        said = "too few requests to test" if test is None else (
            f"{test['js_bits']:.4f} bits, by chance {test['null_js_bits']:.4f}, p = {test['p']:.3g}"
        )  # fmt: skip
        print(f"layer {row['layer']}: {said}")
        emit(plots.drift(log, row["layer"], names, first, second), args, f"drift-{row['layer']}")
    if not args.against:
        for row in st.drift_time(log):
            if row["test"]:
                print(f"layer {row['layer']}: later against earlier {row['test']['js_bits']:.4f} bits, by chance "
                      f"{row['test']['null_js_bits']:.4f}, p = {row['test']['p']:.3g}")  # fmt: skip


def draw(log, args):
    if args.verb == "hist":
        for layer in wanted_layers(log, args):
            emit(plots.hist(log, layer), args, f"hist-{layer}")
    elif args.verb == "heatmap":
        emit(plots.heatmap(log), args, "heatmap")
    elif args.verb == "balance":
        rows = st.balance(log)
        for row in rows:
            said = ", ".join(f"{m} {row[m][0]:.3f} [{row[m][1]:.3f}, {row[m][2]:.3f}]" for m in st.MEASURES)
            print(f"layer {row['layer']}: {said}")
        emit(plots.balance(log, rows), args, "balance")
    elif args.verb == "pairs":
        for layer in wanted_layers(log, args):
            emit(plots.pairs(log, layer), args, f"pairs-{layer}")
    elif args.verb == "drift":
        draw_drift(log, args)
    elif args.verb == "coverage":
        for layer in log.layers:
            rows, tokens = st.coverage(log, layer)
            print(f"layer {layer}: 90% of rows by {st.experts_for(rows, 0.9)}, of tokens by {st.experts_for(tokens, 0.9)} experts")
        emit(plots.coverage(log), args, "coverage")
    elif args.verb == "locality":
        rows = [{"layer": int(layer), **st.locality(log, layer)} for layer in log.layers]
        for row in rows:
            print(f"layer {row['layer']}: reused {row['reused']:.3f}, by chance {row['chance']:.3f}")
        emit(plots.locality(log, rows), args, "locality")


def pictures(folder):
    folder = pathlib.Path(folder)
    log = load(folder / "routing.moer")
    args = argparse.Namespace(out=str(folder), format="png,svg", layer=None, against=None)
    worst = max(st.balance(log, draws=1), key=lambda r: r["max/mean"][0])["layer"]
    for verb in ("heatmap", "balance", "coverage", "locality", "hist", "pairs", "drift"):
        args.verb = verb
        args.layer = worst if verb in ("hist", "pairs", "drift") else None
        draw(log, args)
    timing = folder / "timing.json"
    write_report(log, folder / "report.html", read_timing(timing) if timing.exists() else None)
    print(folder / "report.html")


def main(arguments=None):
    args = parse(arguments)
    try:
        if args.verb == "pictures":
            pictures(args.folder)
            return 0
        log = read(args)
        if args.verb == "report":
            write_report(log, args.out, read_timing(args.timing) if args.timing else None)
            print(args.out)
        else:
            draw(log, args)
    except (LogError, OSError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 6 if isinstance(error, LogError) else 8
    return 0

