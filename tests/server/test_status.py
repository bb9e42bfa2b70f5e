"""/health, /ready, /metrics, /version, /plan, /v1/routing, /openapi.json and the page."""

import json
import re
import subprocess
import urllib.request

from conftest import MODEL, PROGRAM, QUESTION, ROOT
from prometheus_client.parser import text_string_to_metric_families


def metrics(server):
    with urllib.request.urlopen(server.url + "/metrics") as answer:
        text = answer.read().decode()
    values = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "model_name"))
            assert (sample.name, labels) not in values, "a sample came twice"
            values[sample.name, labels] = sample.value
    return values


def test_health_tells_every_optimisation(server):
    health = server.get("/health")
    assert health["status"] == "ok"
    assert health["model"] == "tiny-moe"
    names = {state["name"] for state in health["optimisations"]}
    assert {"flashdmoe", "chunked-prefill", "prefix-cache", "fp8"} <= names
    for state in health["optimisations"]:
        assert state["state"] in ("off", "declined", "applied"), "after the start nothing is only planned"
        assert (state["state"] == "declined") == bool(state["reason"])
        assert state["launches"] == 0 or state["state"] == "applied"
    assert str(ROOT) not in json.dumps(health), "no path of the server's machine"


def test_launches_move_with_traffic(server, client):
    def launches():
        states = server.get("/health")["optimisations"]
        return {state["name"]: state["launches"] for state in states if state["state"] == "applied"}

    before = launches()
    limit = server.get("/health")["max_model_len"]
    client.completions.create(model="tiny-moe", prompt=[5] * (limit - 10), max_tokens=1)
    server.idle()
    assert launches()["chunked-prefill"] > before["chunked-prefill"]


def test_ready(server):
    assert server.get("/ready")["status"] == "ready"


def test_metrics_agree_with_what_was_asked(server, client):
    server.idle()
    before = metrics(server)
    answer = client.chat.completions.create(
        model="tiny-moe", messages=[{"role": "user", "content": QUESTION}], max_tokens=20, n=2
    )
    server.idle()
    after = metrics(server)

    def grown(name, **labels):
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert grown("moeopt:generation_tokens_total") == answer.usage.completion_tokens
    assert grown("moeopt:prompt_tokens_total") % answer.usage.prompt_tokens == 0
    assert grown("moeopt:time_to_first_token_seconds_count") == 2
    assert grown("moeopt:inter_token_latency_seconds_count") == answer.usage.completion_tokens - 2
    assert grown("moeopt:e2e_request_latency_seconds_count") == 1
    assert grown("moeopt:request_generation_tokens_sum") == answer.usage.completion_tokens
    for finish in {choice.finish_reason for choice in answer.choices}:
        assert grown("moeopt:request_success_total", finished_reason=finish) >= 1
    layers = {key[1] for key in after if key[0] == "moeopt:expert_rows_total"}
    assert len(layers) == 4 * 16
    assert after["moeopt:num_requests_running", ()] == 0
    # 0.0.4: a histogram's buckets never fall.
    buckets = [v for k, v in after.items() if k[0] == "moeopt:inter_token_latency_seconds_bucket"]
    assert buckets == sorted(buckets)


def test_routing_counts_every_row(server, client):
    server.idle()
    before = server.get("/v1/routing")
    client.completions.create(model="tiny-moe", prompt=[7] * 33, max_tokens=5, extra_body={"ignore_eos": True})
    server.idle()
    after = server.get("/v1/routing")
    assert after["layers"] == [0, 1, 2, 3]
    rows = [sum(layer) for layer in after["total"]]
    assert len(set(rows)) == 1, "every layer sees every token"
    grown = after["rows_total"] - before["rows_total"]
    assert grown > 0 and grown % (4 * 4) == 0, "4 layers, 4 experts a token"
    assert len(after["window"]) == 4 and all(len(layer) == 16 for layer in after["window"])


def test_version_and_plan(server):
    assert server.get("/version")["version"]
    plan = server.get("/plan")
    assert plan["model"]["name"] == "tiny-moe"
    assert plan["optimisations"]


def test_the_plan_is_that_of_a_dry_run(server):
    command = [PROGRAM, "serve", MODEL, "--served-model-name", "tiny-moe", "--dry-run", "--json"]
    dry = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    plan = server.get("/plan")
    for of_the_memory_just_then in ("budget_bytes", "largest_batch", "hardware"):
        assert dry.pop(of_the_memory_just_then) and plan.pop(of_the_memory_just_then)
    assert plan == dry and {"model", "limits", "settings"} & set(plan)


def test_the_document_is_the_committed_one(server):
    served = server.get("/openapi.json")
    assert served == json.loads((ROOT / "docs/openapi.json").read_text())


def test_request_ids_are_echoed(server):
    request = urllib.request.Request(server.url + "/version", headers={"X-Request-Id": "abc-123"})
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["X-Request-Id"] == "abc-123"
    for bad in ("bad id", "x" * 300, "<script>"):
        request = urllib.request.Request(server.url + "/version", headers={"X-Request-Id": bad})
        with urllib.request.urlopen(request) as answer:
            assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_page_has_a_strict_policy(server):
    with urllib.request.urlopen(server.url + "/") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        page = answer.read().decode()
    assert "http://" not in page.replace("http://www.w3.org/", "") and "https://" not in page


def test_log_has_one_line_a_request_and_no_prompt(server, client):
    raw = client.chat.completions.with_raw_response.create(
        model="tiny-moe", messages=[{"role": "user", "content": "A-SECRET-WORD"}], max_tokens=2,
        extra_headers={"X-Request-Id": "log-test-1"},
    )  # fmt: skip
    assert raw.headers["X-Request-Id"] == "log-test-1"
    lines = server.log_lines("log-test-1")
    assert len(lines) == 1
    assert " 200 POST /v1/chat/completions ok " in lines[0]
    assert "2 output (length)" in lines[0]
    assert "A-SECRET-WORD" not in server.log() + server.stderr()
