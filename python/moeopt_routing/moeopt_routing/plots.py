"""Pictures of a routing log: one function a picture, each returns a matplotlib figure.

Colours are of Okabe and Ito's palette and the cividis map, which colour-blind readers can tell apart; lines
and bars also differ by dash, marker or hatch, so that they stay apart in print.
"""

import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from . import statistics as st  # noqa: E402

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
STYLE = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False,
    "figure.dpi": 110, "svg.hashsalt": "moeopt", "svg.fonttype": "none", "figure.constrained_layout.use": True,
}  # fmt: skip


def title(log, what, layer=None):
    where = f"layer {layer}" if layer is not None else f"{len(log.layers)} layers"
    n_tokens = int((log.layer == layer).sum()) if layer is not None else log.n_tokens()
    return f"{what}\n{log.model}, {where}, {n_tokens:,} tokens of {log.n_prompts():,} prompts"


def styled(draw):
    def wrapped(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    wrapped.__doc__ = draw.__doc__
    wrapped.__name__ = draw.__name__
    return wrapped


@styled
def hist(log, layer):
    """Experts by share, busiest first, with the uniform line and what chance alone gives."""
    counts = log.at_layer(layer).counts()[0]
    share = counts / max(1, counts.sum())
    order = np.argsort(-share, kind="stable")
    n = len(share)
    figure, axes = plt.subplots(figsize=(max(5.5, min(12, 0.07 * n + 4)), 3.4))
    axes.bar(np.arange(n), 100 * share[order], color=BLUE, width=0.85, label="share of rows")
    low, high = st.null_band(counts)
    axes.axhspan(100 * low, 100 * high, color=GREY, alpha=0.25, lw=0, label="chance alone, 95%")
    axes.axhline(100 / n, color=ORANGE, ls="--", lw=1.4, label=f"uniform, {100 / n:.2g}%")
    if n <= 64:
        axes.set_xticks(np.arange(n), [str(e) for e in order], rotation=90 if n > 20 else 0, fontsize=7 if n > 20 else 8)
        axes.set_xlabel("expert, busiest first")
    else:
        axes.set_xlabel("rank of the expert")
    axes.set_ylabel("share of rows, %")
    axes.margins(x=0.01)
    axes.legend(frameon=False)
    axes.set_title(title(log, "How often each expert is chosen", layer), loc="left")
    return figure


@styled
def heatmap(log):
    """Layers by experts: load over uniform, as a power of two."""
    counts = log.counts()
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    value = np.log2(np.maximum(share * log.n_experts, 2.0**-4))
    limit = max(0.5, min(4.0, float(np.abs(value).max())))
    n_layers = len(counts)
    figure, axes = plt.subplots(figsize=(7.5, max(2.2, min(9, 0.16 * n_layers + 1.6))))
    image = axes.imshow(value, aspect="auto", cmap="cividis", vmin=-limit, vmax=limit, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    every = 1 if limit >= 1.5 else 0.5 if limit >= 0.75 else 0.25
    ticks = [t for t in np.arange(-4, 4.1, every) if abs(t) <= limit]
    bar.set_ticks(ticks, labels=[f"{2.0**t:.2g}×" for t in ticks])
    bar.set_label("load over uniform")
    if n_layers <= 20:
        axes.set_yticks(np.arange(n_layers), [str(x) for x in log.layers])
        if log.n_experts <= 32:
            dark = value < 0
            for (i, j), x in np.ndenumerate(share * log.n_experts):
                axes.text(j, i, f"{x:.1f}", ha="center", va="center", fontsize=6, color="white" if dark[i, j] else "black")
    axes.set_ylabel("layer")
    axes.set_xlabel("expert")
    axes.spines[:].set_visible(False)
    axes.set_title(title(log, "Load of each expert against an even share"), loc="left")
    return figure


@styled
def balance(log, rows):
    """max/mean, Gini, entropy and variation per layer with their intervals."""
    x = np.arange(len(rows))
    figure, grid = plt.subplots(2, 2, figsize=(7.5, 4.6), sharex=True)
    for axes, (name, colour, marker) in zip(
        grid.flat, [("max/mean", BLUE, "o"), ("Gini", ORANGE, "s"), ("entropy (bits)", GREEN, "^"), ("variation", GREY, "D")]
    ):
        value, low, high = (np.array([row[name][i] for row in rows]) for i in range(3))
        bars = np.nan_to_num(np.abs(np.stack([value - low, high - value])))
        axes.errorbar(x, value, yerr=bars, color=colour, marker=marker, ms=4, capsize=2, lw=1, ls="-" if len(rows) > 1 else "")
        if name == "entropy (bits)":
            axes.axhline(np.log2(log.n_experts), color="black", ls=":", lw=1)
            axes.annotate("uniform", (0, np.log2(log.n_experts)), xytext=(2, -9), textcoords="offset points", fontsize=7)
        axes.set_title(name, loc="left")
    step = max(1, len(rows) // 16)
    for axes in grid[1]:
        axes.set_xticks(x[::step], [str(rows[i]["layer"]) for i in x[::step]])
        axes.set_xlabel("layer")
    figure.suptitle(title(log, "How even the load is; bars are 95% intervals over requests"), fontsize=9.5, x=0.01, ha="left")
    return figure


@styled
def pairs(log, layer):
    """Experts chosen together, against what independence would give."""
    _, lift = st.pairs(log, layer)
    value = np.log2(np.maximum(lift, 2.0**-5))
    np.fill_diagonal(value, np.nan)
    limit = max(0.5, min(5.0, float(np.nanmax(np.abs(value)))))
    figure, axes = plt.subplots(figsize=(5.4, 4.4))
    colours = matplotlib.colormaps["cividis"].with_extremes(bad="white")
    image = axes.imshow(value, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes)
    ticks = [t for t in range(-5, 6) if abs(t) <= limit]
    bar.set_ticks(ticks, labels=[f"{2.0**t:g}×" for t in ticks])
    bar.set_label("together, over independent")
    axes.set_xlabel("expert")
    axes.set_ylabel("expert")
    axes.set_title(title(log, "Experts that are chosen together", layer), loc="left")
    return figure


@styled
def drift(log, layer, names, first, second):
    """Two sets of rows of one layer side by side, experts by their share in the first."""
    a, b = (c / max(1, c.sum()) * 100 for c in (first, second))
    order = np.argsort(-a, kind="stable")
    x = np.arange(len(a))
    figure, axes = plt.subplots(figsize=(7, 3.4))
    if len(a) <= 64:
        axes.bar(x - 0.21, a[order], 0.42, color=BLUE, label=names[0])
        axes.bar(x + 0.21, b[order], 0.42, color=ORANGE, hatch="////", edgecolor="white", lw=0, label=names[1])
        axes.set_xticks(x, [str(e) for e in order], rotation=90 if len(a) > 20 else 0, fontsize=7)
        axes.set_xlabel("expert")
    else:
        axes.plot(x, b[order], color=ORANGE, lw=0, marker=".", ms=3, label=names[1])
        axes.plot(x, a[order], color=BLUE, lw=1.5, label=names[0])
        axes.set_xlabel(f"rank of the expert in {names[0]}")
    axes.set_ylabel("share of rows, %")
    axes.margins(x=0.01)
    axes.legend(frameon=False)
    axes.set_title(title(log, f"{names[1].capitalize()} against {names[0]}", layer), loc="left")
    return figure


@styled
def coverage(log):
    """How few experts serve how much: the median layer, and the range of all."""
    curves = [st.coverage(log, layer) for layer in log.layers]
    x = 100 * np.arange(1, log.n_experts + 1) / log.n_experts
    figure, axes = plt.subplots(figsize=(5.8, 3.6))
    for index, (name, colour, dash) in enumerate([("rows", BLUE, "-"), ("whole tokens", ORANGE, "--")]):
        values = 100 * np.array([c[index] for c in curves])
        axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.2, lw=0)
        axes.plot(x, np.median(values, axis=0), color=colour, ls=dash, lw=1.6, label=f"{name}: median layer, range of all")
    axes.plot([0, 100], [0, 100], color=GREY, ls=":", lw=1, label="rows, if all experts were alike")
    axes.set_xlabel("busiest experts kept, %")
    axes.set_ylabel("served, %")
    axes.legend(frameon=False, fontsize=7.5, loc="upper left")
    axes.set_title(title(log, "How few experts serve how much"), loc="left")
    return figure


@styled
def locality(log, rows):
    """Reuse from token to token per layer, and what a least-recently-used cache would hit."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4))
    x = np.arange(len(rows))
    left.plot(x, [100 * r["reused"] for r in rows], color=BLUE, marker="o", ms=4, label="chosen by the token before")
    left.plot(x, [100 * r["chance"] for r in rows], color=ORANGE, ls="--", marker="s", ms=3, label="by chance alone")
    step = max(1, len(rows) // 12)
    left.set_xticks(x[::step], [str(rows[i]["layer"]) for i in x[::step]])
    left.set_xlabel("layer")
    left.set_ylabel("of a token's experts, %")
    left.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=7.5)
    share = 100 * np.arange(1, log.n_experts + 1) / log.n_experts
    values = 100 * np.array([r["lru_hits"] for r in rows])
    right.fill_between(share, values.min(0), values.max(0), color=GREEN, alpha=0.2, lw=0)
    right.plot(share, np.median(values, axis=0), color=GREEN, label="LRU: median layer, range of all")
    right.plot([0, 100], [0, 100], color=GREY, ls=":", lw=1, label="no locality, no skew")
    right.set_xlabel("experts in the cache, % of a layer's")
    right.set_ylabel("hits, %")
    right.legend(frameon=False, fontsize=7.5, loc="lower right")
    figure.suptitle(title(log, "Reuse of experts from token to token"), fontsize=9.5, x=0.01, ha="left")
    return figure


def save(figure, stem, formats=("png", "svg")):
    """STEM.png and STEM.svg; the same picture gives the same bytes."""
    paths = []
    for form in formats:
        path = f"{stem}.{form}"
        figure.savefig(path, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})
        paths.append(path)
    plt.close(figure)
    return paths


def svg_text(figure):
    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]
