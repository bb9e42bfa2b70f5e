"""report.html: one file, opens offline, says in sentences what a log shows, each beside its picture."""

import base64
import html
import io
import json

import numpy as np

from . import plots
from . import statistics as st

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}}
h1{{font-size:1.5rem}}h2{{font-size:1.15rem;margin-top:2.2rem}}figure{{margin:1rem 0}}figure img{{max-width:100%}}
figcaption{{color:#444;font-size:.9rem}}table{{border-collapse:collapse;font-size:.88rem}}
td,th{{border-bottom:1px solid #ccc;padding:.2rem .6rem;text-align:right}}th:first-child,td:first-child{{text-align:left}}
.note{{border-left:4px solid #D55E00;padding-left:.8rem}}
@media print{{body{{max-width:none}}h2{{break-after:avoid}}figure{{break-inside:avoid}}}}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""


def percent(x, digits=1):
    return f"{100 * x:.{digits}f}%"


def number(triple, digits=2):
    value, low, high = triple
    if np.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def p_text(p):
    return "p < 0.002" if p < 0.002 else f"p = {p:.2g}"


def picture(figure):
    """PNG inside the page: small whatever the figure holds."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    plots.plt.close(figure)
    return base64.b64encode(out.getvalue()).decode()


class Report:
    def __init__(self, log, timing=None):
        self.log, self.timing = log, timing
        self.parts = []
        self.numbers = {}

    def say(self, *sentences, note=False):
        kind = ' class="note"' if note else ""
        self.parts.append(f"<p{kind}>{' '.join(html.escape(s) for s in sentences)}</p>")

    def head(self, text, anchor):
        self.parts.append(f'<h2 id="{anchor}">{html.escape(text)}</h2>')

    def show(self, figure, name, caption):
        self.parts.append(
            f'<figure id="fig-{name}"><img alt="{html.escape(caption)}" src="data:image/png;base64,{picture(figure)}">'
            f'<figcaption>{html.escape(caption)} <a href="#num-{name}">The numbers.</a></figcaption></figure>'
        )

    def table(self, name, head, rows):
        cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
        self.parts.append(
            f'<details id="num-{name}" open><summary>Numbers</summary>'
            f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></details>"
        )

    def build(self):
        self.what()
        if self.timing:
            self.cost()
        self.balance()
        self.drift()
        self.coverage()
        self.together()
        self.locality()
        return PAGE.format(title=html.escape(f"Routing of {self.log.model}"), body="\n".join(self.parts))

    def what(self):
        log = self.log
        decode = int((log.phase == 1).sum()) / max(1, len(log.layers))
        self.say(
            f"{log.n_prompts():,} prompts with {log.n_tokens():,} tokens ({decode:,.0f} of them decoded) went through "
            f"{len(log.layers)} logged layers of {log.n_experts} experts, {log.top_k} chosen a token."
        )
        header = log.header
        origin = [f"{k}: {header[k]}" for k in ("program", "router", "started", "seed") if header.get(k) not in (None, "")]
        if origin:
            self.say("; ".join(origin) + ".")
        if log.missing:
            self.say(f"The log's header lacks {', '.join(log.missing)}; what could be was taken from its records.", note=True)
        if log.warmup_left_out:
            self.say(
                f"{log.warmup_left_out:,} records look like an engine's warm-up (runs of identical rows, or tokens beyond "
                "the announced requests) and are left out of everything below.", note=True,
            )  # fmt: skip
        if log.truncated:
            self.say("The file ends within a record; everything before it is used.", note=True)
        for key, text in (("dropped_requests", "whole requests were dropped: the disk was too slow"),
                          ("unsampled_requests", "requests were left out by sampling"),
                          ("cached_tokens", "prompt tokens came from the prefix cache and were not routed again")):  # fmt: skip
            if log.totals.get(key):
                self.say(f"{log.totals[key]:,} {text}.")
        if log.totals.get("replayed_records"):
            self.say(f"{log.totals['replayed_records']:,} records are of tokens computed again after preemption; they are left out.")

    def cost(self):
        timing = self.timing
        overhead = timing["overhead"]
        self.head("What recording costs", "cost")
        self.say(
            f"The same prompts ran {timing['pairs']} times without and {timing['pairs']} times with the log, in turn: "
            f"the log costs {percent(overhead['median'])} of the time (median; 95% interval "
            f"{percent(overhead['low'])} to {percent(overhead['high'])})."
        )
        if overhead["low"] <= 0 <= overhead["high"]:
            self.say("That interval holds zero: these runs cannot tell the cost from the machine's noise.")
        if cpu := timing.get("overhead_cpu"):
            self.say(
                f"In processor time, which other programs disturb less, it is {percent(cpu['median'])} "
                f"({percent(cpu['low'])} to {percent(cpu['high'])})."
            )
        if counters := timing.get("counters"):
            self.say(
                f"The counters that are always on take {percent(counters['share'], 3)} of the time without the log: "
                f"{counters['ns_per_row']:.2f} ns a row and {counters['ns_per_step']:,.0f} ns a step, as timed alone."
            )

    def balance(self):
        log = self.log
        rows = st.balance(log)
        self.numbers["balance"] = rows
        worst = max(rows, key=lambda r: r["max/mean"][0])
        best = min(rows, key=lambda r: r["max/mean"][0])
        self.head("How even the load is", "balance")
        uniform = np.log2(log.n_experts)
        self.say(
            f"The busiest expert of layer {worst['layer']} has {number(worst['max/mean'])} times an even share, the most of "
            f"all layers; in layer {best['layer']} it is {number(best['max/mean'])}.",
            f"Entropy is {number(worst['entropy (bits)'])} of {uniform:.2f} bits in layer {worst['layer']}.",
            "Intervals in brackets are 95% over requests." if not np.isnan(worst["max/mean"][1]) else
            "There are too few requests for intervals.",
        )  # fmt: skip
        unused = [f"layer {r['layer']}: {log.n_experts - r['used']}" for r in rows if r["used"] < log.n_experts]
        if unused:
            self.say(f"Experts never chosen: {', '.join(unused[:8])}{', ...' if len(unused) > 8 else ''}.")
        self.show(plots.heatmap(log), "heatmap", "Load over uniform, layer by expert.")
        self.show(plots.hist(log, worst["layer"]), "hist", f"Shares in layer {worst['layer']}, the least even one.")
        self.show(plots.balance(log, rows), "balance", "Four figures of evenness per layer.")
        cells = [[r["layer"], r["tokens"], r["used"], *(number(r[m]) for m in st.MEASURES)] for r in rows]
        head = ["layer", "tokens", "used", *st.MEASURES]
        self.parts.append('<a id="num-heatmap"></a><a id="num-hist"></a>')
        self.table("balance", head, cells)

    def drift_part(self, rows, what, alike, differ):
        tested = [r for r in rows if r["test"]]
        if not tested:
            self.say(f"{what}: too few requests to test.")
            return
        p = st.holm([r["test"]["p"] for r in tested])
        n_differ = int((p < 0.05).sum())
        most = max(tested, key=lambda r: r["test"]["js_bits"] - r["test"]["null_js_bits"])
        strength = most["test"]["js_bits"] - most["test"]["null_js_bits"]
        self.say(
            f"{what}: {differ if n_differ else alike}"
            + (f" in {n_differ} of {len(tested)} layers (permutation tests over requests, Holm, 5%)." if n_differ else
               f" in any of {len(tested)} layers (permutation tests over requests, Holm, 5%)."),
            f"The most is in layer {most['layer']}: {most['test']['js_bits']:.4f} bits of Jensen-Shannon divergence where "
            f"chance gives {most['test']['null_js_bits']:.4f} ({p_text(most['test']['p'])})."
            + (" That is small." if n_differ and strength < 0.01 else ""),
        )  # fmt: skip

    def drift(self):
        log = self.log
        self.head("Drift", "drift")
        phases, time = st.drift_phases(log), st.drift_time(log)
        self.numbers["drift_phases"], self.numbers["drift_time"] = phases, time
        self.drift_part(phases, "Decoding against prefill", "no difference shows", "the experts differ")
        self.drift_part(time, "Later requests against earlier ones", "no difference shows", "the experts differ")
        tested = [r for r in phases if r["test"]]
        if tested:
            layer = max(tested, key=lambda r: r["test"]["js_bits"])["layer"]
            prefill, decode = st.phase_counts(log, layer)
            figure = plots.drift(log, layer, ("prefill", "decode"), prefill.sum(0), decode.sum(0))
            self.show(figure, "drift", f"Layer {layer}, where the phases differ most.")
        rows = []
        for a, b in zip(phases, time):
            row = [a["layer"]]
            for r in (a, b):
                row += [f"{r['test']['js_bits']:.4f}", f"{r['test']['null_js_bits']:.4f}", f"{r['test']['p']:.3g}"] if r["test"] else ["-"] * 3
            rows.append(row)
        self.table("drift", ["layer", "decode/prefill, bits", "by chance", "p", "later/earlier, bits", "by chance", "p"], rows)

    def coverage(self):
        log = self.log
        self.head("How few experts serve how much", "coverage")
        cells = []
        for layer in log.layers:
            rows, tokens = st.coverage(log, layer)
            cells.append([int(layer), *(st.experts_for(rows, s) for s in (0.5, 0.9, 0.99)), *(st.experts_for(tokens, s) for s in (0.5, 0.9, 0.99))])
        middle = np.median(np.array(cells)[:, 1:], axis=0).astype(int)
        self.say(
            f"In the median layer {middle[0]} of {log.n_experts} experts serve half of the rows and {middle[1]} serve 90%; "
            f"for 90% of the tokens to find all of their experts, {middle[4]} are needed."
        )
        self.numbers["coverage"] = cells
        self.show(plots.coverage(log), "coverage", "Share served by the busiest experts.")
        self.table("coverage", ["layer", "50% of rows", "90%", "99%", "50% of tokens", "90%", "99%"], cells)

    def together(self):
        log = self.log
        self.head("Experts chosen together", "pairs")
        best = None
        cells = []
        for layer in log.layers:
            counts, lift = st.pairs(log, layer)
            floor = max(10, counts.sum() / max(1, counts.size) * 0.1)  # not by a handful of tokens
            masked = np.where(counts >= floor, lift, 0)
            i, j = np.unravel_index(np.argmax(masked), masked.shape)
            cells.append([int(layer), f"{min(i, j)} and {max(i, j)}", int(counts[i, j]), f"{masked[i, j]:.2f}"])
            if best is None or masked[i, j] > best[0]:
                best = (masked[i, j], int(layer), min(i, j), max(i, j))
        self.say(
            f"The pair that meets most beyond chance is {best[2]} and {best[3]} in layer {best[1]}: {best[0]:.2f} times as often "
            "as their own frequencies would give. Experts that meet often send fewer copies of a token when they share a GPU."
        )
        self.show(plots.pairs(log, best[1]), "pairs", f"Layer {best[1]}: how often two experts meet, against independence.")
        self.table("pairs", ["layer", "pair", "tokens", "over independent"], cells)

    def locality(self):
        log = self.log
        self.head("Reuse from token to token", "locality")
        rows = [{"layer": int(layer), **st.locality(log, layer)} for layer in log.layers]
        reused, chance = np.mean([r["reused"] for r in rows]), np.mean([r["chance"] for r in rows])
        half = max(1, log.n_experts // 2)
        hits = np.median([r["lru_hits"][half - 1] for r in rows])
        self.say(
            f"A token shares {percent(reused)} of its experts with the token before; chance alone gives {percent(chance)}.",
            f"A least-recently-used cache of half of a layer's experts would hit {percent(hits)} of the rows in the median layer.",
        )
        self.show(plots.locality(log, rows), "locality", "Reuse between consecutive tokens of a request, and cache hits.")
        quarter = max(1, log.n_experts // 4)
        cells = [[r["layer"], percent(r["reused"]), percent(r["chance"]), r["pairs"], percent(r["lru_hits"][quarter - 1]), percent(r["lru_hits"][half - 1])] for r in rows]
        self.table("locality", ["layer", "reused", "by chance", "token pairs", "LRU of a quarter", "LRU of half"], cells)


def write_report(log, path, timing=None):
    """Writes the page; returns the sentences' numbers."""
    if log.replayed.any():
        clean = log.select(~log.replayed)
        clean.totals = {**log.totals, "replayed_records": int(log.replayed.sum())}
        report = Report(clean, timing)
    else:
        report = Report(log, timing)
    text = report.build()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return report.numbers


def read_timing(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
