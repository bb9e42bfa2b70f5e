"""CORS: a page of an allowed origin may read every answer, a page of another one none."""

import http.client
import json
import threading
import urllib.error
import urllib.request

import pytest
from conftest import QUESTION, Server

ALLOWED, OTHER = "http://a.example", "http://b.example"
KEY = "the-key"
PROMPTS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": QUESTION}]},
    "/v1/completions": {"prompt": QUESTION},
}
KINDS = ("whole", "streamed", 400, 401)


@pytest.fixture(scope="module")
def servers(folder):
    keys = folder / "cors-keys"
    keys.write_text(KEY + "\n")
    flags = ("--api-key-file", str(keys), "--max-num-seqs", "1", "--max-waiting", "1")
    made = {
        "one": Server(folder, *flags, "--allow-origin", ALLOWED, "--allow-origin", "http://c.example"),
        "all": Server(folder, *flags, "--allow-origin", "*"),
        "none": Server(folder, *flags),
    }
    yield made
    for one in made.values():
        one.end()


def ask(server, path, body, origin=ALLOWED, key=KEY, **more):
    """Status and headers of one POST, whose answer is read to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + key, **more}
    if origin:
        headers["Origin"] = origin
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers


def ask_kind(server, path, kind, origin):
    body = {**PROMPTS[path], "max_tokens": 3, "stream": kind == "streamed"}
    if kind == 400:
        body["temperature"] = -1
    status, headers = ask(server, path, body, origin, key="wrong" if kind == 401 else KEY)
    assert status == (kind if isinstance(kind, int) else 200)
    assert (headers["Content-Type"] == "text/event-stream") == (kind == "streamed")
    return headers


def check(server_kind, origin, headers):
    expected = {"all": "*", "one": ALLOWED if origin == ALLOWED else None, "none": None}[server_kind]
    assert headers.get_all("Access-Control-Allow-Origin") == ([expected] if expected else None)
    assert headers.get_all("Vary") == (["Origin"] if server_kind == "one" else None)


@pytest.mark.parametrize("server_kind", ("one", "all", "none"))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", PROMPTS)
def test_every_answer_says_who_may_read_it(servers, path, kind, server_kind):
    for origin in (ALLOWED, OTHER, ALLOWED + ".evil.example", "null", ""):
        check(server_kind, origin, ask_kind(servers[server_kind], path, kind, origin))


@pytest.mark.parametrize("server_kind", ("one", "all", "none"))
def test_a_refused_request_says_so_too(servers, server_kind):
    """429 of a full queue and 413, which the HTTP layer answers."""
    server = servers[server_kind]
    answers = []

    def fill(path, origin):
        body = {**PROMPTS[path], "max_tokens": 400, "ignore_eos": True}
        answers.append((path, origin, *ask(server, path, body, origin)))

    threads = [
        threading.Thread(target=fill, args=(path, origin))
        for path in PROMPTS for origin in (ALLOWED, OTHER) for _ in range(6)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, origin, status, headers in answers:
        assert status in (200, 429)
        check(server_kind, origin, headers)
    refused = {(path, origin) for path, origin, status, _ in answers if status == 429}
    assert len(refused) == 4, refused
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/v1/completions")
    for name, value in (("Origin", ALLOWED), ("Content-Length", str(64 << 20))):
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    check(server_kind, ALLOWED, answer.headers)
    connection.close()


def test_preflight(servers):
    def preflight(server, origin):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        request = urllib.request.Request(server.url + "/v1/completions", headers=headers, method="OPTIONS")
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers

    for origin in (ALLOWED, OTHER):
        status, headers = preflight(servers["one"], origin)
        assert status == 204 and "POST" in headers["Access-Control-Allow-Methods"]
        assert headers["Access-Control-Allow-Headers"] == "authorization, *", "* does not take in the key's header"
        check("one", origin, headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        preflight(servers["none"], ALLOWED)
    assert refused.value.code == 405


def test_gets(servers):
    for kind, server in servers.items():
        for origin in (ALLOWED, OTHER):
            request = urllib.request.Request(server.url + "/v1/models", headers={"Origin": origin, "Authorization": "Bearer " + KEY})
            with urllib.request.urlopen(request) as answer:
                check(kind, origin, answer.headers)
