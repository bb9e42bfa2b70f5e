"""docs/deploy/moeopt.service as far as it can be shown without an init system: systemd reads it, the program takes
its command line, and its timeouts fit together."""

import configparser
import shlex
import shutil
import subprocess

import pytest
from conftest import MODEL, PROGRAM, ROOT
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
