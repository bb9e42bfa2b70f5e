"""Pictures and the page: they are made, offline, and say what the numbers say."""

import json
import re

import numpy as np
import pytest
from conftest import META, binary_log, random_records, route, write_jsonl
from moeopt_routing import cli, load, report
from moeopt_routing import statistics as st


@pytest.fixture
def path(tmp_path):
    shares = np.arange(16, 0, -1.0)
    return write_jsonl(tmp_path / "log.jsonl", random_records(12, 8, 12, shares=shares / shares.sum()))


@pytest.mark.parametrize("verb", ["hist", "heatmap", "balance", "pairs", "drift", "coverage", "locality"])
def test_every_picture_in_both_formats(tmp_path, path, verb):
    out = tmp_path / "pictures"
    assert cli.main([verb, str(path), "--out", str(out)]) == 0
    made = sorted(out.iterdir())
    assert {p.suffix for p in made} == {".png", ".svg"}
    for picture in made:
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG") if picture.suffix == ".png" else b"<svg" in data
        assert len(data) > 2000
        if picture.suffix == ".svg":
            text = data.decode()
            assert "tiny" in text and "tokens of 12 prompts" in text


def test_report_is_one_offline_page(tmp_path, path):
    out = tmp_path / "report.html"
    timing = tmp_path / "timing.json"
    timing.write_text(json.dumps({"pairs": 3, "overhead": {"median": 0.01, "low": -0.01, "high": 0.02},
                                  "counters": {"share": 0.0005, "ns_per_row": 1.5, "ns_per_step": 80.0}}))  # fmt: skip
    assert cli.main(["report", str(path), "--out", str(out), "--timing", str(timing)]) == 0
    text = out.read_text()
    assert not re.search(r'(src|href)="(https?:)?//', text)
    assert "1.0% of the time" in text
    assert "always on take 0.050% of the time" in text
    log = load(path)
    worst = max(st.balance(log, draws=10), key=lambda r: r["max/mean"][0])
    assert f"busiest expert of layer {worst['layer']} has {worst['max/mean'][0]:.2f}" in text
    for link in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{link}"' in text, link
    for anchor in ("heatmap", "hist", "balance", "drift", "coverage", "pairs", "locality"):
        assert f'id="fig-{anchor}"' in text


def test_pictures_of_a_profile(tmp_path):
    """What `moeopt profile` calls when its runs are over."""
    rng = np.random.default_rng(0)
    ids = np.array([rng.choice(16, 2, replace=False) for _ in range(8 * 10 * 2)])
    requests = [(f"r{r}", [(0, 6, 0), (6, 4, 1)], ids[20 * r : 20 * r + 20], np.ones((20, 2))) for r in range(8)]
    (tmp_path / "routing.moer").write_bytes(binary_log(META, requests))
    assert cli.main(["pictures", str(tmp_path)]) == 0
    made = {p.name for p in tmp_path.iterdir()}
    assert {"report.html", "heatmap.png", "balance.svg", "coverage.png", "locality.png"} <= made
    assert any(name.startswith("pairs-") for name in made) and any(name.startswith("drift-") for name in made)
    assert cli.main(["pictures", str(tmp_path / "none")]) == 6


def test_the_report_says_what_was_left_out(tmp_path):
    meta = {"type": "meta", "model_id": "<b>x</b>", "layers_logged": [0], "top_k": 2}
    rng = np.random.default_rng(0)
    records = [route("r1", t, 0, [1, 2], [0.5, 0.25]) for t in range(100)]
    records += [route("r1", t, 0, rng.choice(8, 2, replace=False), rng.random(2)) for t in range(50)]
    out = tmp_path / "r.html"
    assert cli.main(["report", str(write_jsonl(tmp_path / "l", records, meta)), "--out", str(out)]) == 0
    text = out.read_text()
    assert "100 records look like" in text and "lacks schema" in text
    assert "<b>x</b>" not in text and "&lt;b&gt;x" in text


def test_replayed_records_do_not_count(tmp_path):
    records = random_records(10, 4, 4)
    records += [route("r0", t, 1, [0, 1], [0.5, 0.5], phase="decode", replayed=True) for t in range(4, 8)]
    log = load(write_jsonl(tmp_path / "l", records))
    numbers = report.write_report(log, tmp_path / "r.html")
    assert numbers["balance"][0]["tokens"] == 80
    assert "4 records are of tokens computed again" in (tmp_path / "r.html").read_text()


def test_errors_are_one_line(tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.write_text("nothing\n")
    assert cli.main(["hist", str(bad)]) == 6
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["hist", str(tmp_path / "none")]) == 6
    good = write_jsonl(tmp_path / "good", random_records(1), META)
    assert cli.main(["hist", str(good), "--layer", "2", "--out", str(tmp_path)]) == 6
