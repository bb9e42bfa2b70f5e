"""What bench/moe_layer/plot.py makes of the benchmarks' JSON; matplotlib is not needed for that."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench" / "moe_layer"))

import plot  # noqa: E402  (needs the path above)


def result(tokens: int, **changed):
    return {"shape": "qwen3", "dtype": "bf16", "routing": "uniform", "tokens": tokens, "us": 30.0,
            "stream_us": 20.0, "ratio": 1.5, "limit": 1.35, "within": False, **changed}


def test_lines_and_late_points():
    layer = {"results": [result(1), result(8, us=24.0, ratio=1.2, within=True), result(4096, limit=None),
                         result(0), result(8, routing="zipf", us=99.0)]}
    peers = {"rows": [{"shape": "qwen3", "dtype": "bf16", "tokens": 1, "names": {"triton": "vLLM Triton"},
                       "results": {"moeopt": {"us": 31.0}, "triton": {"us": 40.0}, "torch": {"failed": "x"}}}]}
    panels = plot.panels_of(layer, peers)
    assert list(panels) == [("qwen3", "bf16")]
    panel = panels["qwen3", "bf16"]
    assert panel["lines"]["moeopt"] == {1: 30.0, 8: 24.0, 4096: 30.0}
    assert panel["lines"]["stream of the weights"] == {1: 20.0, 8: 20.0, 4096: 20.0}
    assert panel["lines"]["limit"] == {1: 27.0, 8: 27.0}
    assert panel["lines"]["vLLM Triton"] == {1: 40.0}
    assert "torch" not in panel["lines"]
    assert panel["late"] == [1]


def test_without_peers():
    assert plot.panels_of({"results": []}, None) == {}
