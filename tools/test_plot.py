"""What bench/moe_layer/plot.py makes of the benchmarks' JSON; matplotlib is not needed for that."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench" / "moe_layer"))

import plot  # noqa: E402  (needs the path above)


def result(tokens: int, **changed):
    return {"shape": "qwen3", "dtype": "bf16", "routing": "uniform", "tokens": tokens, "us": 30.0,
            "stream_us": 20.0, "ratio": 1.5, "limit": 1.35, "within": False, "tflop_s": 2.0, **changed}


def test_lines_and_late_points():
    layer = {"results": [result(1), result(8, us=24.0, ratio=1.2, within=True), result(4096, limit=None),
                         result(0), result(8, routing="zipf", us=99.0)]}
    peers = {"rows": [{"shape": "qwen3", "dtype": "bf16", "tokens": 1, "names": {"triton": "vLLM Triton"},
                       "results": {"moeopt": {"us": 31.0}, "triton": {"us": 40.0}, "torch": {"failed": "x"}}}]}
    panels = plot.panels_of([layer], [peers])
    assert list(panels) == [("qwen3", "bf16")]
    panel = panels["qwen3", "bf16"]
    assert panel["lines"]["moeopt"] == {1: 30.0, 8: 24.0, 4096: 30.0}
    assert panel["lines"]["stream of the weights"] == {1: 20.0, 8: 20.0, 4096: 20.0}
    assert panel["lines"]["limit"] == {1: 27.0, 8: 27.0}
    assert panel["lines"]["vLLM Triton"] == {1: 40.0}
    assert "torch" not in panel["lines"]
    assert panel["late"] == [1]


def test_without_peers():
    assert plot.panels_of([{"results": []}], []) == {}


def test_rates_below_a_roofline():
    """60 MFLOP a token: 2 TFLOP/s at one token in 30 us."""
    layer = {"results": [result(1), result(8, us=40.0, stream_us=25.0, tflop_s=12.0)]}
    names = {"moeopt": "moeopt 0.1.0", "triton": "vLLM Triton"}
    rows = [{"shape": "qwen3", "dtype": "bf16", "tokens": t, "names": names,
             "results": {"moeopt": {"us": us}, "triton": {"us": 2 * us}}} for t, us in ((8, 48.0), (4096, 400.0))]
    rows.append(rows[0] | {"shape": "other"})
    [panel] = plot.rate_panels_of([layer], [{"rows": rows}], {"bf16": 800.0, "fp8": 1500.0}).values()
    assert panel["lines"]["moeopt"] == {1: 2.0, 8: 12.0, 4096: 614.4}, "ours beside the peers where there is no other"
    assert panel["lines"]["vLLM Triton"] == {8: 5.0, 4096: 307.2}
    assert panel["lines"]["roofline"] == {1: 3.0, 8: 19.2, 4096: 800.0}
