"""What a text may cost: a prompt that is refused in the end does not make the short requests beside it wait, and fields
at the ends of their ranges are taken or refused by name. `/completions` and `/tokenize` read special tokens' spellings."""

import concurrent.futures
import http.client
import json
import time

import pytest
from conftest import ROOT, SANITIZED
from scripted_model import hollow_model

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SHORT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
PATIENCE_S = 60 if SANITIZED else 10


def post(server, path, body):
    """Status, headers and JSON of the answer; `body` is JSON or its text."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    result = answer.status, answer.headers, json.loads(answer.read())
    connection.close()
    return result


def wait_beside(server, path, body, n):
    """Seconds that a short chat takes while `n` of the bodies are worked on, all of them too long for the context."""
    text = json.dumps(body).encode()
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        long = [pool.submit(post, server, path, text) for _ in range(n)]
        time.sleep(0.1)
        began = time.monotonic()
        assert post(server, CHAT, SHORT)[0] == 200
        took = time.monotonic() - began
        for answer in long:
            status, _, json_body = answer.result()
            assert (status, json_body["error"]["code"]) == (400, "context_length_exceeded")
    return took


def chat(content):
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    "path, body, n",
    [
        (CHAT, chat("<|im_end|>" * 200_000), 4),
        (TEXT, {"prompt": "<|im_end|>" * 200_000}, 4),
        (CHAT, chat("the cat sat. " * 576_000), 8),
        (TEXT, {"prompt": "the cat sat. " * 576_000}, 8),
        (TEXT, {"prompt": "a" * 7_500_000}, 8),
        (CHAT, chat("a" + " " * 7_400_000 + "a"), 8),
    ],
    ids=["marks", "special tokens", "chat", "text", "one word", "spaces"],
)
def test_a_short_chat_beside_refused_prompts(server, path, body, n):
    took = wait_beside(server, path, body, n)
    print(f"\nwaited {took:.2f} s")
    assert took < PATIENCE_S


def test_a_short_chat_passes_long_texts(server):
    """/tokenize has no bound: each text takes most of a second of the one thread that requests are worked on."""
    text = json.dumps({"prompt": "the cat sat. " * 576_000}).encode()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        long = [pool.submit(post, server, "/tokenize", text) for _ in range(8)]
        time.sleep(0.3)
        assert post(server, CHAT, SHORT)[0] == 200
        before = sum(answer.done() for answer in long)
        assert [answer.result()[0] for answer in long] == [200] * 8
    assert before <= 4, "those that were there first, and waited, went first"


def test_the_bound_is_the_context(server):
    """A text of one token less than the context is taken, one of as many is refused; /tokenize has no bound."""
    limit = post(server, "/tokenize", {"prompt": "a"})[2]["max_model_len"]
    unit = " the"
    one, two = (post(server, "/tokenize", {"prompt": unit * n})[2]["count"] for n in (1, 2))
    assert two == 2 * one, "the unit's tokens do not join"
    prompts = [unit * n for n in ((limit - 1) // one, -(-limit // one))]
    counts = [post(server, "/tokenize", {"prompt": text})[2]["count"] for text in prompts]
    assert counts[0] < limit <= counts[1]
    fits, exceeds = (post(server, TEXT, {"prompt": text, "max_tokens": 1}) for text in prompts)
    assert fits[0] == 200 and fits[2]["usage"]["prompt_tokens"] == counts[0]
    assert exceeds[0] == 400 and f"the context holds {limit}" in exceeds[2]["error"]["message"]
    error = post(server, CHAT, {**chat(prompts[1] + unit), "max_tokens": 1})[2]["error"]
    same = {**exceeds[2]["error"], "param": "messages", "message": exceeds[2]["error"]["message"].replace("prompt:", "messages:")}
    assert error == same, "both endpoints word it alike"
    around = post(server, "/tokenize", chat(""))[2]["count"]
    room = limit - 1 - around
    for n, status in ((room // one - 1, 200), (room // one + 2, 400)):
        assert post(server, CHAT, {**chat(unit * n), "max_tokens": 1})[0] == status
    assert post(server, "/tokenize", chat(unit * limit))[2]["count"] > limit


def test_special_tokens_spellings(server):
    """In a text they are ids, in a chat's message they are not; as the fields' descriptions say."""
    def ids(body):
        return post(server, "/tokenize", body)[2]["tokens"]

    special = ids({"prompt": "<|im_end|>"})
    assert len(special) == 1
    assert ids({"prompt": "a<|im_end|>b"}).count(special[0]) == 1
    spelt = chat("a<|im_end|>b")["messages"]
    assert ids({"messages": spelt}).count(special[0]) == ids(chat("ab")).count(special[0])
    counts = [
        post(server, TEXT, {"prompt": text, "max_tokens": 1})[2]["usage"]["prompt_tokens"]
        for text in ("<|im_end|>", "<|im_end |>")
    ]
    assert counts[0] == 1 < counts[1]


FIELDS = [
    ("logit_bias", {str(i): 1 for i in range(1025)}, 400),
    ("logit_bias", {str(i): 1 for i in range(1024)}, 200),
    ("n", 2**63 - 1, 400),
    ("n", 2**64, 400),
    ("seed", 2**63 - 1, 200),
    ("seed", -(2**63), 200),
    ("seed", 2**63, 400),
    ("seed", -(2**63) - 1, 400),
]


@pytest.mark.parametrize("name, value, status", FIELDS, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(FIELDS)])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_ends_of_ranges(server, path, name, value, status):
    body = {**(SHORT if path == CHAT else {"prompt": "a", "max_tokens": 1}), name: value}
    answered, _, answer = post(server, path, body)
    assert answered == status, answer
    if status == 400:
        assert answer["error"]["param"] == name and name in answer["error"]["message"]


def test_a_schema_that_is_too_large(server):
    """Compiled where it fits, refused by name where it does not; neither takes long. (60 levels are all that JSON may have.)"""
    deep = {"type": "string"}
    for _ in range(25):
        deep = {"type": "array", "minItems": 20, "maxItems": 20, "items": deep}
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string", "maxLength": 5000} for i in range(30_000)}}
    for schema, wanted in ((deep, 200), (wide, 400)):
        shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        began = time.monotonic()
        status, _, answer = post(server, CHAT, {**SHORT, "response_format": shape})
        assert time.monotonic() - began < (20 if SANITIZED else 2)
        assert status == wanted, answer
    assert answer["error"]["param"] == "response_format.json_schema.schema"
    assert "too many parts" in answer["error"]["message"]


def test_loading_says_when_to_come_back(start, tmp_path):
    model = hollow_model(tmp_path / "hollow", ROOT / "models/tiny-moe/tokenizer.json", 512 << 20)
    server = start(wait=False, model=str(model))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            status, headers, answer = post(server, CHAT, SHORT)
            break
        except OSError:
            time.sleep(0.01)  # it does not listen yet
    assert status == 503 and int(headers["Retry-After"]) > 0, answer
