#!/usr/bin/env python3
"""An OpenAI server of a few lines for the ablation's test: optimisations from its flags, tokens at once.

"fast" is applied and counts launches, "idle" is applied and never does, "gpu" is always declined.
"""

import argparse
import http.server
import json

parser = argparse.ArgumentParser()
parser.add_argument("--host", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--die")
parser.add_argument("--needs", help="without this optimisation every completion is a 400")
for optimisation in ("fast", "idle", "gpu"):
    parser.add_argument(f"--enable-{optimisation}", action="store_true")
    parser.add_argument(f"--disable-{optimisation}", action="store_true")
args = parser.parse_args()
if args.die:
    raise SystemExit(args.die)
launches = {"fast": 1, "idle": 1, "gpu": 0}


def state(name: str) -> dict:
    row = {"name": name, "asked": "prefer", "state": "applied", "reason": "", "layers": 1,
           "launches": launches[name]}
    if getattr(args, f"disable_{name}"):
        return row | {"asked": "off", "state": "off", "layers": 0, "launches": 0}
    if name == "gpu":
        return row | {"state": "declined", "reason": "no GPU here"}
    return row


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: str, kind: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        pages = {"/ready": {}, "/v1/models": {"data": [{"id": "toy", "vocab_size": 100}]},
                 "/health": {"optimisations": [state(name) for name in ("fast", "idle", "gpu")]}}
        if self.path in pages:
            self.answer(200, json.dumps(pages[self.path]), "application/json")
        else:
            self.answer(404, "{}", "application/json")

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/completions":
            self.answer(404, "{}", "application/json")
            return
        if args.needs and getattr(args, f"disable_{args.needs}"):
            self.answer(400, '{"error": {"message": "too long"}}', "application/json")
            return
        launches["fast"] += 1
        tokens = request["max_tokens"]
        events = [{"choices": [{"text": "a", "finish_reason": None}]}] * tokens
        events.append({"choices": [{"text": "", "finish_reason": "length"}]})
        events.append({"choices": [], "usage": {"prompt_tokens": len(request["prompt"]),
                                                "completion_tokens": tokens}})
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self.answer(200, body, "text/event-stream")

    def log_message(self, *_) -> None:
        pass


http.server.ThreadingHTTPServer((args.host, args.port), Handler).serve_forever()
