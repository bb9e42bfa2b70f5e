"""Prompts reach no log unless --log-prompts asks for them, answers never: whatever becomes of the request."""

import json
import urllib.error
import urllib.request

import pytest
from conftest import QUESTION, client_of

SECRET = "Xylophonist-4711"
MESSAGES = [{"role": "system", "content": f'Said\n"{SECRET}"\t\u00e9'}, {"role": "user", "content": QUESTION}]
MARKED = {"role": "user", "content": SECRET}
# Taken and refused, whole and streamed; every place where a prompt's text can be.
TAKEN = [
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 3}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 3, "stream": True}),
    ("/v1/completions", {"prompt": SECRET, "max_tokens": 3, "echo": True}),
    ("/v1/completions", {"prompt": ["a", SECRET], "max_tokens": 3, "stream": True}),
]
REFUSED = [
    ("/v1/chat/completions", {"messages": [{"role": SECRET, "content": SECRET}]}),
    ("/v1/chat/completions", {"messages": [MARKED, {"role": "system", "content": SECRET}]}),  # by the template
    ("/v1/chat/completions", {"messages": [MARKED], "temperature": SECRET}),
    ("/v1/chat/completions", {"messages": [MARKED], "model": SECRET}),
    ("/v1/chat/completions", {"messages": [MARKED], "tools": [{"function": {"name": SECRET}}]}),
    ("/v1/chat/completions", {"messages": [MARKED], "response_format": {"type": "json_schema", "json_schema": {
        "name": "a", "schema": {"type": SECRET}}}}),
    ("/v1/completions", {"prompt": f"{SECRET} " * 3000}),
    ("/v1/completions", {"prompt": SECRET, "suffix": SECRET}),
    ("/v1/completions", {SECRET: [SECRET], "prompt": 3}),
]  # fmt: skip
OTHERS = [("/tokenize", {"prompt": SECRET}), ("/tokenize", {"messages": [MARKED]}), ("/detokenize", {"tokens": SECRET})]


def post(server, path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ask_all(server):
    """Everything above and a body that is no JSON; the log's lines after it."""
    for path, body in TAKEN:
        status, answer = post(server, path, body)
        assert status == 200, answer
    for path, body in REFUSED:
        status, answer = post(server, path, body)
        assert status in (400, 404), answer
    for path, body in OTHERS:
        post(server, path, body)
    post(server, "/v1/completions", f'{{"prompt": "{SECRET}'.encode())
    urllib.request.urlopen(server.url + "/version?last=1", timeout=30).read()
    assert server.log_lines("/version")
    return server.log().splitlines()


@pytest.mark.parametrize("form", ["text", "json"])
def test_prompts_are_not_logged(start, tmp_path, form):
    server = start("--log-format", form, "--verbose", "--routing-log", str(tmp_path / "routes"))
    lines = ask_all(server)
    server.end()
    assert len(lines) >= len(TAKEN) + len(REFUSED) + len(OTHERS) + 2
    logged = "\n".join(lines) + server.stderr()
    for word in (SECRET, "Xylo", "4711", "horses"):
        assert word not in logged, word
    assert not any("prompts" in line for line in lines)


def test_prompts_are_logged_where_that_is_asked_for(start):
    server = start("--log-format", "json", "--log-prompts")
    lines = [json.loads(line) for line in ask_all(server)]
    taken = [line for line in lines if "completions" in line["path"] and line["status"] == 200]
    chat, streamed, text, several = (line["prompts"] for line in taken)
    assert chat == streamed == [
        f'<|im_start|>system\nSaid\n"{SECRET}"\t\u00e9<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n'
    ]
    assert (text, several) == ([SECRET], ["a", SECRET])
    assert sum("prompts" in line for line in lines) == len(TAKEN), "of what was taken alone"
    assert "prompts are written to the log" in server.stderr()
    # Ids are shown as what they say; a long prompt is cut; an answer is in no line.
    ids = json.loads(post(server, "/tokenize", {"prompt": "a pen"})[1])["tokens"]
    post(server, "/v1/completions", {"prompt": ids, "max_tokens": 2})
    story = "Once upon a time " * 200
    assert post(server, "/v1/completions", {"prompt": [story, "\u00e9" * 1000, "z"], "max_tokens": 1})[0] == 200
    with client_of(server) as client:
        answer = client.chat.completions.create(model="tiny-moe", messages=[{"role": "user", "content": QUESTION}])
    urllib.request.urlopen(server.url + "/plan", timeout=30).read()
    assert server.log_lines("/plan")
    of_ids, long, _ = [json.loads(line)["prompts"] for line in server.log_lines("completions")[-3:]]
    assert of_ids == ["a pen"]
    assert long == [story, "\u00e9" * ((4096 - len(story)) // 2) + "...", "..."]
    assert answer.choices[0].message.content not in server.log().encode().decode("unicode_escape")


def test_a_line_of_text_stays_one_line(start):
    server = start("--log-prompts")
    [line, *_] = [line for line in ask_all(server) if "chat/completions" in line]
    assert f'Said\\n\\"{SECRET}\\"\\t\u00e9' in line and line.endswith('assistant\\n"]')
    assert line.split()[2] == "200"
