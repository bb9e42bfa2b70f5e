#!/usr/bin/env python3
"""A stand-in for `moeopt serve` with the answers that the page reads, made up: for work on the page
and for states that a real server is seldom in (loading, a large model, a key).

    python3 tests/server/fake_server.py [PORT]
"""

import http.server
import json
import pathlib
import random
import sys
import threading
import time

PAGE = pathlib.Path(__file__).resolve().parents[2] / "src/serve/page"
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
          "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
ANSWER = ("Ben starts with 12 pencils.\nHe gives away 4, so he has 12 - 4 = 8.\n"
          "He buys 9 more: 8 + 9 = 17.\n<b>not markup</b> & plain text\n#### 17").split(" ")


class State:
    def __init__(self, layers=48, experts=128, delay_s=0.02, loading=False, key="", reasoning=True, words=ANSWER):
        self.layers, self.experts, self.delay_s = layers, experts, delay_s
        self.loading, self.key, self.reasoning, self.words = loading, key, reasoning, words
        self.status = "ok"
        self.fail = ""
        self.running = 0
        self.tokens = 0
        self.steps = 0
        self.cancelled = 0
        self.requests: list[dict] = []
        self.total = [[0] * experts for _ in range(layers)]
        self.random = random.Random(5)
        self.weights = [[self.random.gammavariate(1.2, 1) for _ in range(experts)] for _ in range(layers)]
        self.begun = time.monotonic()

    def token(self):
        self.tokens += 1
        self.steps += 1
        for layer in range(self.layers):
            for expert in self.random.choices(range(self.experts), self.weights[layer], k=8):
                self.total[layer][expert] += 1

    def health(self):
        if self.loading:
            return {"status": "loading", "version": "0.1.0", "uptime_s": 1.5}
        optimisation = lambda name, state, reason, layers=0: {  # noqa: E731
            "name": name, "asked": "prefer", "state": state, "reason": reason, "layers": layers,
            "launches": self.steps * layers, "measured_gain": None, "origin": "default"}
        return {"status": self.status, "version": "0.1.0", "uptime_s": time.monotonic() - self.begun,
                "model": "tiny-moe", "architecture": "Qwen3MoeForCausalLM", "backend": "cpu fast (avx512bf16)",
                "max_model_len": 2048,
                "engine": {"state": "serving", "running": self.running, "waiting": 3 * (self.running > 0), "max_running": 8,
                           "kv_blocks": {"free": 1024 - 40 * self.running - 90, "live": 40 * self.running, "cached": 90, "total": 1024}},
                "optimisations": [
                    optimisation("flashdmoe", "declined", "needs a Hopper GPU; this runs on the CPU"),
                    optimisation("grouped_experts", "applied", "", self.layers), optimisation("prefix_cache", "applied", "", self.layers),
                    optimisation("fp8", "declined", "the weights are bf16, not fp8 in 128x128 blocks"),
                    optimisation("expert_placement", "off", "")]}

    def plan(self):
        return {"model": {"architecture": "Qwen3MoeForCausalLM", "layers": self.layers, "name": "tiny-moe", "runs": True},
                "hardware": {"label": "this machine's CPU", "devices": 1, "name": "cpu"},
                "limits": {"max_sequences": 8, "max_model_len": 2048, "max_step_tokens": 512},
                "kv": {"blocks": 1024, "block_tokens": 16, "dtype": "bf16", "bytes_per_token": 2048}, "ranks": 1,
                "per_rank": [{"rank": 0, "weight_bytes": 7490816, "kv_bytes": 33554432, "workspace_bytes": 5205056,
                              "communication_bytes": 0, "margin_bytes": 67108864, "total_bytes": 113359168}],
                "settings": {"max_num_seqs": {"value": "auto", "planned": "8", "origin": "default"},
                             "block_tokens": {"value": "16", "origin": "profile balanced (balanced.yaml:6)"}}}

    def metrics(self):
        return (f"# HELP moeopt:generation_tokens_total Tokens generated.\n# TYPE moeopt:generation_tokens_total counter\n"
                f'moeopt:generation_tokens_total{{model_name="tiny-moe"}} {self.tokens}\n'
                f'moeopt:step_time_seconds_sum{{model_name="tiny-moe"}} {self.steps * 0.0123}\n'
                f'moeopt:step_time_seconds_count{{model_name="tiny-moe"}} {self.steps}\n'
                f"moeopt:prefix_cache_queries_total 200\nmoeopt:prefix_cache_hits_total 64\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *_):
        pass

    def reply(self, body, status=200, content_type="application/json", headers=()):
        data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Type", content_type), ("Content-Length", str(len(data))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        if self.state.key and self.headers.get("Authorization") != f"Bearer {self.state.key}":
            self.reply({"error": {"message": "the API key is missing or wrong", "code": "invalid_api_key"}}, 401)
            return False
        return True

    def do_GET(self):
        state, path = self.state, self.path
        if path == "/health":
            return self.reply(state.health(), 503 if state.status == "unhealthy" else 200)
        if path == "/ready":
            return self.reply({"status": "loading", "doing": "reading weights", "progress": 0.4} if state.loading else {"status": "ready"},
                              503 if state.loading else 200)
        file = PAGE / (path[1:] or "index.html")
        if file.parent == PAGE and file.is_file():
            return self.reply(file.read_bytes(), content_type=TYPES[file.suffix], headers=(("Content-Security-Policy", POLICY),))
        if not self.allowed():
            return None
        if path == "/plan":
            return self.reply(state.plan())
        if path == "/metrics":
            return self.reply(state.metrics(), content_type="text/plain; version=0.0.4")
        if path == "/v1/routing":
            return self.reply({"layers": list(range(state.layers)), "total": state.total, "window": state.total,
                               "rows_total": sum(map(sum, state.total)), "steps": state.steps})
        return self.reply({"error": {"message": "no such page"}}, 404)

    def do_POST(self):
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        state.requests.append(body)
        if state.fail:
            self.reply({"error": {"message": state.fail, "code": "overloaded"}}, 429)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        state.running += 1
        try:
            self.stream(state)
        except OSError:
            state.cancelled += 1
        finally:
            state.running -= 1

    def stream(self, state):
        def send(chunk):
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()

        def delta(values, finish=None):
            send({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": values, "finish_reason": finish}]})

        delta({"role": "assistant", "content": ""})
        if state.reasoning:
            for word in "First what is given away, then what is bought.".split(" "):
                state.token()
                delta({"reasoning_content": word + " "})
                time.sleep(state.delay_s)
        for word in state.words:
            state.token()
            delta({"content": word + " "})
            time.sleep(state.delay_s)
        delta({}, "stop")
        send({"choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": len(state.words) + 9,
                                       "prompt_tokens_details": {"cached_tokens": 16}}})
        self.wfile.write(b"data: [DONE]\n\n")


def start(state: State, port: int = 0) -> http.server.ThreadingHTTPServer:
    handler = type("BoundHandler", (Handler,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    server = start(State(), int(sys.argv[1]) if len(sys.argv) > 1 else 8001)
    print(f"http://127.0.0.1:{server.server_address[1]}/")
    threading.Event().wait()
