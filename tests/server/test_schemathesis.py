"""schemathesis makes requests of the committed OpenAPI document, right and wrong ones; the same each time.

What it checks: no 5xx (the server is ready and sets no time limit, so that none is due), only documented statuses and
content types, bodies of their schemas, 405 for other methods, 401 without the key, 400 for what breaks the document's
schema. What it does not: that every request of the schema is accepted, as fields may be wrong together.
"""

import pathlib
import re
import subprocess
import sys

from conftest import ROOT

KEY = "a-key-of-the-test"
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
          "response_schema_conformance", "negative_data_rejection", "unsupported_method", "ignored_auth")  # fmt: skip


def test_requests_of_the_document(start, tmp_path):
    (tmp_path / "keys").write_text(KEY)
    server = start("--api-key-file", str(tmp_path / "keys"), "--max-model-len", "128")
    assert server.log_lines(" 200 GET /ready ")
    n_before = len(server.log())  # 503 while it loaded
    command = [
        str(pathlib.Path(sys.executable).with_name("schemathesis")),
        "run", str(ROOT / "docs/openapi.json"), "--url", server.url, "--header", f"Authorization: Bearer {KEY}",
        "--checks", ",".join(CHECKS), "--seed", "1", "--max-examples", "30", "--generation-database", "none",
        "--continue-on-failure", "--no-color", "--request-timeout", "60",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path)
    report = done.stdout + done.stderr
    assert done.returncode == 0, report[-6000:]
    assert "Selected: 15/15" in report and "Tested: 15" in report, report[-3000:]
    log = server.log()[n_before:]
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
        for status, at_least in ((200, 10), (400, 10), (401, 1)):
            n = log.count(f" {status} POST {path} ")
            assert n >= at_least, f"{n} times {status} of {path}: it tried nothing worth the name"
    server.idle()
    failed = [line for line in log.splitlines() if re.search(r" 5\d\d [A-Z]+ /", line)]
    assert server.process.poll() is None and failed == []
