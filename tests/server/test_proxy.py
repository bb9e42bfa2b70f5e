"""docs/deploy/nginx.conf as it stands, but for ports and certificates, in front of the server."""

import shutil
import socket
import ssl
import subprocess
import time
import urllib.request

import openai
import pytest
from conftest import QUESTION, ROOT

# `./dev test` unpacks one in the build.
NGINX = shutil.which("nginx") or shutil.which(ROOT / "build/nginx/usr/sbin/nginx")


@pytest.mark.skipif(not NGINX or not shutil.which("openssl"), reason="no nginx or openssl here")
def test_nginx_in_front(server, folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    site = (ROOT / "docs/deploy/nginx.conf").read_text()
    for ours, theirs in [
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/moeopt/", f"{folder}/"),
        ("http://127.0.0.1:8000", server.url),
    ]:
        assert ours in site
        site = site.replace(ours, theirs)
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1; user root;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{site}\n}}\n"
    )
    proxy = subprocess.Popen([NGINX, "-e", str(folder / "nginx.log"), "-c", str(config)], stderr=subprocess.PIPE)
    try:
        context = ssl.create_default_context(cafile=str(folder / "tls.crt"))
        deadline = time.monotonic() + 10
        while True:
            try:
                urllib.request.urlopen(f"https://localhost:{port}/ready", context=context)
                break
            except OSError:
                assert time.monotonic() < deadline and proxy.poll() is None, (folder / "nginx.log").read_text()
                time.sleep(0.05)
        http = openai.DefaultHttpxClient(verify=context)
        with openai.OpenAI(base_url=f"https://localhost:{port}/v1", api_key="x", max_retries=0, http_client=http) as client:
            began = time.monotonic()
            first = None
            text = ""
            messages = [{"role": "user", "content": QUESTION}]
            for chunk in client.chat.completions.create(
                model="tiny-moe", messages=messages, max_tokens=1000, stream=True, extra_body={"ignore_eos": True}
            ):
                text += chunk.choices[0].delta.content or ""
                first = first or time.monotonic() - began
            assert text and first < (time.monotonic() - began) / 2, "streamed, not gathered"
            raw = client.chat.completions.with_raw_response.create(model="tiny-moe", messages=messages, max_tokens=2)
            assert server.log_lines(f" {raw.headers['X-Request-Id']} "), "the proxy's id is the log's"
            gone = client.chat.completions.with_streaming_response.create(
                model="tiny-moe", messages=messages, n=8, max_tokens=1900, stream=True, extra_body={"ignore_eos": True}
            )
            with gone as answer:
                request_id = answer.headers["X-Request-Id"]
                next(answer.iter_bytes())
            server.idle()
            assert " 499 " in server.log_lines(f" {request_id} ")[0], "a client that goes is gone behind the proxy too"
    finally:
        proxy.terminate()
        proxy.wait(10)
        proxy.stderr.close()
