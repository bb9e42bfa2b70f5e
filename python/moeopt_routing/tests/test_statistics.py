"""Figures against closed forms and against the plainest numpy."""

import itertools

import numpy as np
import pytest
from conftest import META, random_records, route, write_jsonl
from moeopt_routing import load
from moeopt_routing import statistics as st


def test_uniform():
    even = np.full(64, 7)
    assert st.max_over_mean(even) == 1 and abs(st.gini(even)) < 1e-12
    assert abs(st.entropy_bits(even) - 6) < 1e-12 and st.variation(even) == 0


def test_one_hot():
    one = np.zeros(64)
    one[5] = 100
    assert st.max_over_mean(one) == 64 and abs(st.gini(one) - 63 / 64) < 1e-12
    assert st.entropy_bits(one) == 0 and abs(st.variation(one) - np.sqrt(63)) < 1e-12


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_zipf(exponent):
    x = np.arange(1, 201.0) ** -exponent
    p = x / x.sum()
    assert np.isclose(st.max_over_mean(x), 200 / x.sum())
    assert np.isclose(st.gini(x), np.abs(x[:, None] - x[None]).sum() / (2 * 200**2 * x.mean()))
    assert np.isclose(st.entropy_bits(x), -(p * np.log2(p)).sum())
    assert np.isclose(st.variation(x), x.std() / x.mean())


def test_nothing_counted():
    for measure in st.MEASURES.values():
        assert measure(np.zeros(8)) == 0


def test_bootstrap_interval_covers_the_truth(tmp_path):
    """Of 40 logs drawn from known shares, the interval of a smooth figure holds nearly always."""
    shares = np.arange(16, 0, -1.0) ** 0.5
    shares /= shares.sum()
    held = 0
    rng = np.random.default_rng(8)
    for _ in range(40):
        counts = rng.multinomial(200, shares, size=60)
        picks = rng.multinomial(60, np.full(60, 1 / 60), size=300)
        low, high = np.quantile(st.variation(picks.astype(float) @ counts), [0.025, 0.975])
        total = counts.sum(0)
        held += low <= st.variation(total) <= high
        assert low < high
    assert held >= 36


def test_balance_rows(log):
    rows = st.balance(log, draws=200)
    for row, counts in zip(rows, log.counts()):
        value, low, high = row["max/mean"]
        assert np.isclose(value, counts.max() / counts.mean()) and low < high
    assert [row["layer"] for row in rows] == [1, 3]


def test_pairs_count_and_lift(tmp_path):
    # Experts 0 and 1 always together, 2 and 3 always together.
    records = [route("r", t, 1, [0, 1] if t % 2 else [2, 3], [0.5, 0.5]) for t in range(100)]
    log = load(write_jsonl(tmp_path / "l", records, {**META, "n_experts": 4, "layers_logged": [1]}))
    together, lift = st.pairs(log, 1)
    assert together[0, 1] == together[1, 0] == 50 and together[0, 2] == 0
    # frequency 1/2 each: 12 ordered pairs share what 4 of them have
    assert np.isclose(lift[0, 1], 3) and lift[0, 2] == 0


def test_lift_is_one_for_independent_choices(tmp_path):
    records = random_records(200, 10, 0, layers=(1,), n=8, k=2, seed=3)
    log = load(write_jsonl(tmp_path / "l", records, {**META, "n_experts": 8, "layers_logged": [1]}))
    _, lift = st.pairs(log, 1)
    assert np.abs(lift[~np.eye(8, dtype=bool)] - 1).max() < 0.35


def test_js_divergence():
    assert st.js_divergence([1, 1], [2, 2]) == 0 and st.js_divergence([1, 0], [0, 1]) == 1
    assert np.isclose(st.js_divergence([3, 1], [1, 3]), 1 * 1.0 - (-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))))


def test_permutation_test_keeps_its_level_and_finds_a_difference():
    rng = np.random.default_rng(4)
    shares = np.full(16, 1 / 16)
    low = 0
    for i in range(60):
        a, b = rng.multinomial(50, shares, size=15), rng.multinomial(50, shares, size=15)
        low += st.difference_test(a, b, draws=99, seed=i)["p"] <= 0.05
    assert low <= 9  # 3 expected; P(> 9) < 0.002
    bent = shares.copy()
    bent[:4] *= 2
    bent /= bent.sum()
    a, b = rng.multinomial(50, shares, size=15), rng.multinomial(50, bent, size=15)
    assert st.difference_test(a, b, draws=199)["p"] < 0.02
    assert st.difference_test(a, b, draws=199, paired=True)["p"] < 0.02


def test_holm():
    assert np.allclose(st.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert np.allclose(st.holm([0.9, 0.9]), [1, 1])


def test_drift_of_phases_and_logs(tmp_path):
    rng = np.random.default_rng(1)
    bent = np.r_[np.full(4, 0.2), np.full(12, 0.2 / 12)]
    records = []
    for r in range(20):
        for t in range(30):
            ids = rng.choice(16, 2, replace=False, p=None if t < 15 else bent)
            records.append(route(f"r{r}", t, 1, ids, [0.5, 0.5], phase="prefill" if t < 15 else "decode"))
    log = load(write_jsonl(tmp_path / "a", records, {**META, "layers_logged": [1]}))
    assert st.drift_phases(log, draws=199)[0]["test"]["p"] < 0.02
    assert st.drift_time(log, draws=199)[0]["test"]["p"] > 0.02
    other = load(write_jsonl(tmp_path / "b", random_records(20, 15, 15, layers=(1,), seed=2), {**META, "layers_logged": [1]}))
    assert st.drift_logs(log, other, draws=199)[0]["test"]["p"] < 0.02
    assert st.drift_logs(other, other, draws=199)[0]["test"]["p"] == 1


def test_coverage(tmp_path):
    # Token t uses experts {0, 1} half of the time, {0, t % 4 + 2} otherwise.
    records = [route("r", t, 1, [0, 1] if t % 2 else [0, t // 2 % 4 + 2], [0.5, 0.5]) for t in range(80)]
    log = load(write_jsonl(tmp_path / "l", records, {**META, "n_experts": 8, "layers_logged": [1]}))
    rows, tokens = st.coverage(log, 1)
    assert np.allclose(rows, [0.5, 0.75, 0.8125, 0.875, 0.9375, 1, 1, 1])
    assert np.allclose(tokens, [0, 0.5, 0.625, 0.75, 0.875, 1, 1, 1])
    assert st.experts_for(rows, 0.5) == 1 and st.experts_for(rows, 0.9) == 5 and st.experts_for(tokens, 1.0) == 6


def test_locality(tmp_path):
    same = [route("r", t, 1, [3, 4], [0.5, 0.5]) for t in range(10)]
    log = load(write_jsonl(tmp_path / "a", same, {**META, "layers_logged": [1]}))
    found = st.locality(log, 1)
    assert found["reused"] == 1 and found["pairs"] == 9
    assert np.isclose(found["lru_hits"][1], 18 / 20)
    turns = [route("r", t, 1, [2 * (t % 4), 2 * (t % 4) + 1], [0.5, 0.5]) for t in range(40)]
    log = load(write_jsonl(tmp_path / "b", turns, {**META, "n_experts": 8, "layers_logged": [1]}))
    found = st.locality(log, 1)
    assert found["reused"] == 0 and np.isclose(found["chance"], 2 * 0.125)
    assert found["lru_hits"][5] == 0 and np.isclose(found["lru_hits"][7], 72 / 80)  # all 8, or nothing


def test_lru_against_a_plain_simulation():
    rng = np.random.default_rng(3)
    ids = np.stack([rng.choice(12, 2, replace=False) for _ in range(300)]).astype(np.uint16)
    curve = st.lru_hits(ids, np.zeros(300), 12)
    for size in (2, 5, 12):
        cache, hits = [], 0
        for row in ids.tolist():
            hits += sum(expert in cache for expert in row)
            for expert in row:
                if expert in cache:
                    cache.remove(expert)
                cache.insert(0, expert)
            cache = cache[:size]
        assert np.isclose(curve[size - 1], hits / ids.size), size


def test_null_band_is_what_chance_gives():
    rng = np.random.default_rng(2)
    outside = 0
    for _ in range(200):
        counts = rng.multinomial(5000, np.full(32, 1 / 32))
        low, high = st.null_band(counts)
        outside += ((counts / 5000 < low) | (counts / 5000 > high)).any()
    assert outside <= 22  # 10 expected


def test_coverage_curves_grow(log):
    for curve in itertools.chain(*(st.coverage(log, layer) for layer in log.layers)):
        assert (np.diff(curve) >= -1e-12).all() and np.isclose(curve[-1], 1)
