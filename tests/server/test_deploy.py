"""docs/deploy/moeopt.service as far as it can be shown without an init system: systemd reads it, the program takes
its command line, and its timeouts fit together."""

import configparser
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import openai
import pytest
from conftest import MODEL, PROGRAM, QUESTION, ROOT, run_program
from test_hostile import GET, connect, read_all, status

UNIT = ROOT / "docs/deploy/moeopt.service"
INSTALLED = {"/usr/bin/moeopt": PROGRAM, "/usr/share/moeopt/models/tiny-moe": MODEL}


def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str
    parsed.read(UNIT)
    return parsed


def command() -> list[str]:
    """ExecStart, of this build."""
    return [INSTALLED.get(word, word) for word in shlex.split(unit()["Service"]["ExecStart"])]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_reads_it_without_a_word(tmp_path):
    text = UNIT.read_text()
    for installed, ours in INSTALLED.items():
        assert installed in text
        text = text.replace(installed, ours)
    (tmp_path / "moeopt.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "moeopt.service"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_program_takes_its_command_line():
    done = subprocess.run([*command(), "--dry-run"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "KV cache" in done.stdout


def test_its_timeouts_leave_time_to_drain():
    words = command()
    drain = float(words[words.index("--drain-timeout") + 1])
    assert float(unit()["Service"]["TimeoutStopSec"]) >= drain + 10


def test_it_serves_with_it(start):
    """All flags but the model and the port, which a test chooses itself."""
    words = command()
    assert words[:5] == [PROGRAM, "serve", MODEL, "--port", "8000"]
    server = start(*words[5:])
    with connect(server) as sock:
        sock.sendall(GET + b"Connection: close\r\n\r\n")
        assert status(read_all(sock)) == 200
    assert server.stop() == 0


@pytest.mark.skipif(PROGRAM != str(ROOT / "build/release/moeopt"), reason="./dev serves the release build")
def test_the_first_command_of_the_readme(tmp_path):
    """`./dev serve` from any folder: the shipped model, until SIGTERM."""
    assert "\n./dev serve " in (ROOT / "README.md").read_text()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    said = tmp_path / "said"
    with open(said, "wb") as out:
        process = subprocess.Popen(
            [ROOT / "dev", "serve"], cwd=tmp_path, env={**os.environ, "MOEOPT_PORT": str(port)},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while True:
            assert process.poll() is None and time.monotonic() < deadline, said.read_text()
            try:
                with urllib.request.urlopen(url + "/ready", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        messages = [{"role": "user", "content": QUESTION}]
        with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
            [model] = client.models.list().data
            answer = client.chat.completions.create(model=model.id, messages=messages, max_tokens=60)
        assert answer.choices[0].message.content == run_program("--chat", QUESTION, "--max-tokens", "60")["text"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, said.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
