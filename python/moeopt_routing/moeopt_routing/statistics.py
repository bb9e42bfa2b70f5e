"""Figures of a routing log. Pure numpy on counts and ids; each says what it is a figure of.

"Share" is a part of one layer's rows (token, expert); uniform is 1 / n_experts.
"""

import math
from statistics import NormalDist

import numpy as np

from .log import DECODE, NO_EXPERT, PREFILL


def gini(counts):
    """0: all experts alike, 1 - 1/n: one has everything. Along the last axis."""
    counts = np.sort(np.asarray(counts, float), axis=-1)
    n = counts.shape[-1]
    total = counts.sum(-1)
    ranked = (counts * np.arange(1, n + 1)).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 2 * ranked / (n * total) - (n + 1) / n
    return np.where(total > 0, value, 0.0)


def entropy_bits(counts):
    """Of the shares; log2(n) when uniform."""
    counts = np.asarray(counts, float)
    total = counts.sum(-1, keepdims=True)
    share = counts / np.where(total > 0, total, 1)
    return -np.where(share > 0, share * np.log2(np.where(share > 0, share, 1)), 0).sum(-1)


def max_over_mean(counts):
    counts = np.asarray(counts, float)
    total = counts.sum(-1)
    return np.where(total > 0, counts.max(-1) * counts.shape[-1] / np.where(total > 0, total, 1), 0.0)


def variation(counts):
    """Coefficient of variation: standard deviation over mean."""
    counts = np.asarray(counts, float)
    mean = counts.mean(-1)
    return np.where(mean > 0, counts.std(-1) / np.where(mean > 0, mean, 1), 0.0)


MEASURES = {
    "max/mean": max_over_mean, "Gini": gini, "entropy (bits)": entropy_bits, "variation": variation,
}  # fmt: skip


def request_counts(log, layer):
    """[requests, experts] of one layer."""
    part = log.at_layer(layer)
    out = np.zeros((len(log.requests), log.n_experts), np.int64)
    for slot in range(part.top_k):
        good = part.ids[:, slot] != NO_EXPERT
        np.add.at(out, (part.request[good], part.ids[good, slot]), 1)
    return out[out.sum(1) > 0]


def balance(log, draws=1000, level=0.95, seed=0, by_request=True):
    """Per layer and measure: (value, low, high), a bootstrap interval by resampling requests, whose
    tokens are not independent of each other. With fewer than 8 requests there is no interval (nan)."""
    rng = np.random.default_rng(seed)
    rows = []
    for layer in log.layers:
        counts = request_counts(log, layer)
        total = counts.sum(0)
        row = {"layer": int(layer), "tokens": int((log.layer == layer).sum()), "used": int((total > 0).sum())}
        samples = None
        if by_request and len(counts) >= 8:
            picks = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
            samples = picks.astype(float) @ counts
        for name, measure in MEASURES.items():
            low = high = math.nan
            if samples is not None:
                edge = (1 - level) / 2
                low, high = np.quantile(measure(samples), [edge, 1 - edge])
            row[name] = (float(measure(total)), float(low), float(high))
        rows.append(row)
    return rows


def pairs(log, layer):
    """Experts chosen together for a token: counts [n, n], and the lift over what their own
    frequencies alone would give (1: independent)."""
    part = log.at_layer(layer)
    n = log.n_experts
    together = np.zeros((n, n), np.int64)
    for i in range(part.top_k):
        for j in range(i + 1, part.top_k):
            a, b = part.ids[:, i], part.ids[:, j]
            good = (a != NO_EXPERT) & (b != NO_EXPERT)
            flat = np.bincount(a[good].astype(np.int64) * n + b[good], minlength=n * n).reshape(n, n)
            together += flat + flat.T
    frequency = part.counts()[0] / max(1, len(part))
    # Without repetition k distinct experts make k (k - 1) ordered pairs; independence shares those out.
    outer = np.outer(frequency, frequency)
    np.fill_diagonal(outer, 0)
    expected = outer * (together.sum() / outer.sum()) if outer.sum() > 0 else outer
    lift = np.divide(together, expected, out=np.ones((n, n)), where=expected > 0)
    return together, lift


def js_divergence(a, b):
    """Jensen-Shannon divergence in bits between two count vectors: 0 alike, 1 disjoint."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.sum() == 0 or b.sum() == 0:
        return 0.0
    p, q = a / a.sum(), b / b.sum()
    return float(entropy_bits((p + q) / 2) - (entropy_bits(p) + entropy_bits(q)) / 2)


def difference_test(first, second, draws=999, seed=0, paired=False):
    """Whether two sets of requests [requests, experts] route differently: the JS divergence of their
    sums, the mean of it when labels are shuffled, and a permutation p-value. Whole requests are
    shuffled, since tokens of one request are alike. `paired`: row i of both is the same request (its
    prefill and its decoding), and the two are exchanged or not."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    found = js_divergence(first.sum(0), second.sum(0))
    rng = np.random.default_rng(seed)
    null = np.empty(draws)
    both = np.concatenate([first, second])
    for i in range(draws):
        if paired:
            flip = rng.random(len(first)) < 0.5
            a = np.where(flip[:, None], second, first).sum(0)
        else:
            a = both[rng.permutation(len(both))[: len(first)]].sum(0)
        null[i] = js_divergence(a, both.sum(0) - a)
    p = (1 + (null >= found - 1e-12).sum()) / (1 + draws)
    return {"js_bits": found, "null_js_bits": float(null.mean()), "p": float(p)}


def phase_counts(log, layer):
    """(prefill, decode), each [requests, experts], of the requests that have both."""
    part = log.at_layer(layer)
    out = []
    for phase in (PREFILL, DECODE):
        mine = part.select(part.phase == phase)
        counts = np.zeros((len(log.requests), log.n_experts), np.int64)
        for slot in range(mine.top_k):
            good = mine.ids[:, slot] != NO_EXPERT
            np.add.at(counts, (mine.request[good], mine.ids[good, slot]), 1)
        out.append(counts)
    both = (out[0].sum(1) > 0) & (out[1].sum(1) > 0)
    return out[0][both], out[1][both]


def drift_phases(log, draws=999):
    """Decode against prefill, per layer; None for a layer with fewer than 6 requests that have both."""
    rows = []
    for layer in log.layers:
        prefill, decode = phase_counts(log, layer)
        test = difference_test(prefill, decode, draws, paired=True) if len(prefill) >= 6 else None
        rows.append({"layer": int(layer), "requests": len(prefill), "test": test})
    return rows


def drift_time(log, draws=999):
    """The later half of the requests against the earlier one, per layer."""
    rows = []
    for layer in log.layers:
        counts = request_counts(log, layer)
        half = len(counts) // 2
        test = difference_test(counts[:half], counts[half:], draws) if half >= 4 else None
        rows.append({"layer": int(layer), "requests": len(counts), "test": test})
    return rows


def drift_logs(log, other, draws=999):
    """Two logs of one model, per layer that both have."""
    rows = []
    for layer in np.intersect1d(log.layers, other.layers):
        a, b = request_counts(log, layer), request_counts(other, layer)
        width = max(a.shape[1], b.shape[1])
        a, b = (np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in (a, b))
        test = difference_test(a, b, draws) if min(len(a), len(b)) >= 4 else None
        rows.append({"layer": int(layer), "requests": len(a) + len(b), "test": test})
    return rows


def holm(p_values):
    """Holm's correction for several tests at once."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    out = np.empty(len(p))
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, p[i] * (len(p) - rank)))
        out[i] = running
    return out


def coverage(log, layer):
    """Two curves over the number of busiest experts kept, 1 ... n: the share of rows they serve, and the
    share of tokens all of whose experts are among them."""
    part = log.at_layer(layer)
    counts = part.counts()[0]
    order = np.argsort(-counts, kind="stable")
    rows = np.cumsum(counts[order]) / max(1, counts.sum())
    rank = np.empty(log.n_experts + 1, np.int64)
    rank[order] = np.arange(log.n_experts)
    rank[-1] = -1  # no expert needs nothing
    last = rank[np.minimum(part.ids, log.n_experts)].max(axis=1)
    tokens = np.cumsum(np.bincount(last, minlength=log.n_experts)) / max(1, len(part))
    return rows, tokens


def experts_for(curve, share):
    """How few experts reach `share` of a coverage curve."""
    return int(np.searchsorted(curve, share - 1e-12) + 1)


def locality(log, layer):
    """Reuse of experts between consecutive tokens of a request: the share of a token's experts that the
    token before chose too, what chance alone would give at this layer's frequencies, and the hit rate of
    a least-recently-used cache of c experts, c = 1 ... n."""
    part = log.at_layer(layer)
    part = part.select(~part.replayed)
    order = np.lexsort((part.token, part.request))
    ids, request, token = part.ids[order], part.request[order], part.token[order]
    next_to = (request[1:] == request[:-1]) & (token[1:] == token[:-1] + 1)
    now, before = ids[1:][next_to], ids[:-1][next_to]
    hits = used = 0
    for slot in range(part.top_k):
        good = now[:, slot] != NO_EXPERT
        used += int(good.sum())
        hits += int((now[good, slot][:, None] == before[good]).any(axis=1).sum())
    frequency = part.counts()[0] / max(1, len(part))
    chance = float((frequency**2).sum() / max(frequency.sum(), 1e-12))
    return {
        "reused": hits / used if used else 0.0,
        "chance": chance,
        "pairs": len(now),
        "lru_hits": lru_hits(ids, request, log.n_experts),
    }


def lru_hits(ids, request, n_experts, most=100_000):
    """Hit rate of an LRU cache of c experts, for c = 1 ... n_experts, over the tokens in order: a row hits
    when fewer than c distinct experts were used since its expert's last use (Mattson's stack distance).
    The cache is empty at the start and goes on over requests. Of the first `most` rows."""
    hits = np.zeros(n_experts + 1, np.int64)
    stack = []  # most recent first
    n = 0
    for row in ids.tolist():
        if n >= most:
            break
        chosen = [e for e in row if e != NO_EXPERT]
        for expert in chosen:
            n += 1
            try:
                depth = stack.index(expert)
            except ValueError:
                continue
            hits[depth + 1] += 1
        for expert in chosen:
            if expert in stack:
                stack.remove(expert)
            stack.insert(0, expert)
    return np.cumsum(hits)[1:] / max(1, n)


def null_band(counts, level=0.95):
    """Shares that chance alone gives `counts.sum()` rows spread evenly: (low, high) of a binomial."""
    n_rows, n = int(np.sum(counts)), len(counts)
    if n_rows == 0:
        return 0.0, 0.0
    p = 1 / n
    # Bonferroni over the experts, normal approximation of the binomial.
    z = NormalDist().inv_cdf(1 - (1 - level) / (2 * n))
    spread = z * math.sqrt(p * (1 - p) / n_rows)
    return max(0.0, p - spread), p + spread

