"""What the program answers is what docs/openapi.json says, member by member: its schemas are closed, so that a member
which an answer has and the document has not is found as well as one that is missing."""

import json
import signal
import time
import urllib.error
import urllib.parse
import urllib.request

import jsonschema_rs
import pytest
import tool_models
from conftest import ROOT, Server
from scripted_model import hollow_model

DOCUMENT = json.loads((ROOT / "docs/openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
MESSAGES = [{"role": "user", "content": "How warm is it?"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather"}}]
THINKS = {"chat_template_kwargs": {"enable_thinking": True}}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
GENERATIONS = [
    (CHAT, {}),
    (CHAT, {"n": 2, "max_tokens": 3, "logprobs": True, "top_logprobs": 2}),
    (CHAT, {"logprobs": True}),
    (CHAT, {"tools": TOOLS}),
    (CHAT, {"tools": TOOLS, **THINKS}),
    (TEXT, {}),
    (TEXT, {"n": 2, "echo": True, "logprobs": 2}),
    (TEXT, {"prompt": [[65, 66], [67]], "logprobs": 0}),
]
STREAMS = [{}, {"stream_options": {"include_usage": True}}, {"stream_options": {"continuous_usage_stats": True}}]


def validator(schema):
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def check(schema, value):
    problems = [f"{list(error.instance_path)}: {error.message}" for error in validator(schema).iter_errors(value)]
    assert not problems, problems


@pytest.fixture(scope="module")
def served(folder):
    model = tool_models.qwen(folder / "openapi").model
    server = Server(folder, "--routing-log", str(folder / "openapi-routes"), model=str(model.folder))
    yield server
    assert server.stop() == 0, server.stderr()


def ask(server, method, path, body=None):
    """Status, content type and bytes of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def documented(method, path, status, content_type):
    content = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]["content"]
    assert content_type in content, f"{method} {path} answers {content_type}"
    return content[content_type]


def generation_body(path, fields):
    return {**({"messages": MESSAGES} if path == CHAT else {"prompt": "A"}), "max_tokens": 400 if path == CHAT else 5, **fields}


def events(data):
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def members(values, *names):
    """Those that the objects at the end of a path of member names have, over lists too."""
    for name in names:
        found = [value[name] for value in values if isinstance(value, dict) and value.get(name) is not None]
        values = [item for one in found for item in (one if isinstance(one, list) else [one])]
    return {name for value in values for name in value}


def test_generations(served):
    answers = {CHAT: [], TEXT: []}
    for path, fields in GENERATIONS:
        status, content_type, data = ask(served, "POST", path, generation_body(path, fields))
        answers[path].append(json.loads(data))
        check(documented("POST", path, status, content_type)["schema"], answers[path][-1])
    # And the document names no member that never comes.
    message = SCHEMAS["ChatCompletion"]["properties"]["choices"]["items"]["properties"]["message"]
    assert members(answers[CHAT], "choices", "message") == set(message["properties"])
    assert members(answers[CHAT], "usage") == set(SCHEMAS["Usage"]["properties"])


def test_events_of_streams(served):
    chunks = {CHAT: [], TEXT: []}
    for path, fields in GENERATIONS:
        for options in STREAMS:
            status, content_type, data = ask(served, "POST", path, generation_body(path, {**fields, **options, "stream": True}))
            schema = documented("POST", path, status, content_type)["schema"]["properties"]["data"]["anyOf"][0]["contentSchema"]
            for event in events(data):
                check(schema, event)
                chunks[path].append(event)
    delta = SCHEMAS["ChatCompletionChunk"]["properties"]["choices"]["items"]["properties"]["delta"]
    assert members(chunks[CHAT], "choices", "delta") == set(delta["properties"])
    call = delta["properties"]["tool_calls"]["items"]
    assert members(chunks[CHAT], "choices", "delta", "tool_calls") == set(call["properties"])
    for path, name in ((CHAT, "ChatCompletionChunk"), (TEXT, "CompletionChunk")):
        assert members([{"all": chunks[path]}], "all") == set(SCHEMAS[name]["properties"])


OTHERS = [
    ("POST", "/tokenize", {"prompt": "abc"}),
    ("POST", "/tokenize", {"messages": MESSAGES, "tools": TOOLS, "return_token_strs": True}),
    ("POST", "/detokenize", {"tokens": [65, 66]}),
]


def test_the_other_endpoints(served):
    ask(served, "POST", CHAT, generation_body(CHAT, {}))  # so that something was counted
    asked = {("POST", CHAT), ("POST", TEXT)}
    for method, path, body in [*OTHERS, *(("GET", path, None) for path in DOCUMENT["paths"] if path not in (CHAT, TEXT))]:
        if method.lower() not in DOCUMENT["paths"][path]:
            continue
        real = path.replace("{model}", "openapi").replace("{file}", "app.css")
        status, content_type, data = ask(served, method, real, body)
        assert status == 200, (path, data)
        schema = documented(method, path, status, content_type)["schema"]
        check(schema, json.loads(data) if content_type == "application/json" else data.decode())
        asked.add((method, path))
    assert asked == {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert json.loads(ask(served, "GET", "/v1/routing")[2])["log"]["state"] == "recording"


def test_files_of_the_page(served):
    """Each content type that the document names for them is that of a file, and no other is sent."""
    page = ask(served, "GET", "/")[2].decode()
    names = [name for name in ("app.css", "app.js", "icon.svg", "index.html") if name in page or name == "index.html"]
    types = {ask(served, "GET", "/" + name)[1] for name in names}
    assert types == set(DOCUMENT["paths"]["/{file}"]["get"]["responses"]["200"]["content"])


def test_errors(served):
    for method, path, body, status in [
        ("POST", CHAT, {"messages": []}, 400), ("POST", TEXT, {"prompt": "a", "model": "other"}, 404),
        ("POST", "/tokenize", {}, 400), ("POST", "/detokenize", {"tokens": [10**8]}, 400),
    ]:  # fmt: skip
        answered, content_type, data = ask(served, method, path, body)
        assert answered == status
        check(documented(method, path, answered, content_type)["schema"], json.loads(data))
    assert ask(served, "GET", "/v1/models/other")[0] == 404


def test_loading_and_draining(start, tmp_path):
    model = hollow_model(tmp_path / "hollow", ROOT / "models/tiny-moe/tokenizer.json", 512 << 20)
    server = start(wait=False, model=str(model))
    seen, loaded = set(), {("/health", "ok"), ("/ready", "ready")}
    deadline = time.monotonic() + 60
    while not loaded <= seen and time.monotonic() < deadline:
        for path in ("/health", "/ready"):
            try:
                status, content_type, data = ask(server, "GET", path)
            except OSError:
                continue  # it does not listen yet
            value = json.loads(data)
            check(documented("GET", path, status, content_type)["schema"], value)
            seen.add((path, value["status"]))
            assert status == (200 if path == "/health" or value["status"] == "ready" else 503)
    assert seen == loaded | {("/health", "loading"), ("/ready", "loading")}
    body = {"prompt": "a", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    request = urllib.request.Request(server.url + TEXT, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as stream:
        assert stream.readline()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        for path, code in (("/health", 200), ("/ready", 503)):
            status, content_type, data = ask(server, "GET", path)
            value = json.loads(data)
            assert (status, value["status"]) == (code, "draining")
            check(documented("GET", path, status, content_type)["schema"], value)


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_it_would_see_a_member_that_nobody_documented(served, path):
    value = json.loads(ask(served, "GET", path)[2])
    schema = documented("GET", path, 200, "application/json")["schema"]
    assert validator(schema).is_valid(value)
    assert not validator(schema).is_valid({**value, "surprise": 1})
    for name in value:
        assert not validator(schema).is_valid({key: value[key] for key in value if key != name}), name
