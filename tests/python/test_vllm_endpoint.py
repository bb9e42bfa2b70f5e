"""The status route and the gauges, on a stand-in of vLLM's engine client."""

import asyncio

import pytest

fastapi = pytest.importorskip("fastapi")
prometheus = pytest.importorskip("prometheus_client")

from moeopt import vllm_endpoint  # noqa: E402

REPORT = {"rank": 0, "moeopt": "0.1.0", "poison": False, "applied": 2, "declined": 1, "launches": 30,
          "layers": [{"name": "layers.0", "state": "applied", "launches": 20},
                     {"name": "layers.1", "state": "applied", "launches": 10},
                     {"name": "layers.2", "state": "declined", "launches": 0}]}


class Client:
    def __init__(self, answer):
        self.answer, self.asked = answer, []

    async def collective_rpc(self, method):
        self.asked.append(method)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def get(plugin, path):
    """One request to the app by ASGI, without a server."""
    app = fastapi.FastAPI()
    plugin.attach_router(app)
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
             "raw_path": path.encode(), "query_string": b"", "headers": [], "client": ("t", 1), "server": ("t", 1),
             "scheme": "http", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    import json
    body = b"".join(m.get("body", b"") for m in sent)
    return sent[0]["status"], json.loads(body)


def test_status_is_what_the_workers_say():
    plugin = vllm_endpoint.Plugin()
    plugin.client = Client([REPORT, REPORT | {"rank": 1}])
    plugin.gauges = vllm_endpoint.Gauges(registry := prometheus.CollectorRegistry())
    assert get(plugin, "/plugins/moeopt/status") == (200, {"ranks": [REPORT, REPORT | {"rank": 1}]})
    assert plugin.client.asked == ["moeopt_status"]
    value = registry.get_sample_value
    assert value("moeopt_layers", {"rank": "1", "state": "applied"}) == 2
    assert value("moeopt_layers", {"rank": "0", "state": "declined"}) == 1
    assert value("moeopt_launches", {"rank": "0", "layer": "layers.0"}) == 20


def test_a_worker_that_fails_gives_503():
    plugin = vllm_endpoint.Plugin()
    for client, text in ((Client(RuntimeError("engine is dead")), "engine is dead"), (None, "no engine")):
        plugin.client = client
        status, body = get(plugin, "/plugins/moeopt/status")
        assert status == 503 and text in body["error"]["message"]


def test_gauges_refresh_until_the_server_stops():
    plugin = vllm_endpoint.Plugin()
    client = Client([REPORT])

    async def serve():
        await plugin.init_state(client, None, None)
        await asyncio.sleep(0.05)
        plugin._task.cancel()

    asyncio.run(serve())
    assert client.asked == ["moeopt_status"]
    assert prometheus.REGISTRY.get_sample_value("moeopt_layers", {"rank": "0", "state": "applied"}) == 2


def test_a_render_server_has_no_engine():
    plugin = vllm_endpoint.Plugin()
    asyncio.run(plugin.init_state(None, None, None))
    assert plugin._task is None and plugin.name == "moeopt" and plugin.required_tasks is None
