"""Starts the real program once for the session, on a free port, with the shipped model."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("MOEOPT_PROGRAM", str(ROOT / "build/release/moeopt"))
# A sanitizer's own memory is not the server's: figures of it do not hold there.
SANITIZED = any(f"/{name}/" in PROGRAM for name in ("asan", "tsan"))
MODEL = str(ROOT / "models/tiny-moe")


def wait_until(holds, seconds: float = 20):
    """What `holds` gives once that is true; it must be in time."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return value


class Server:
    """One `moeopt serve` process."""

    def __init__(
        self, folder: pathlib.Path, *flags: str, wait: bool = True, log: str = "", model: str = MODEL,
        prefix: tuple[str, ...] = (), env: dict[str, str] | None = None,
    ):  # fmt: skip
        self.log_path = pathlib.Path(log) if log else folder / f"requests-{time.monotonic_ns()}.log"
        self.err_path = folder / f"stderr-{time.monotonic_ns()}.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [*prefix, PROGRAM, "serve", model, "--port", str(self.port), "--log-file", str(self.log_path)]
        with open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(
                [*command, *flags], stderr=err, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.stderr()}")
            try:
                with urllib.request.urlopen(self.url + "/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server did not become ready: " + self.stderr())

    def stderr(self) -> str:
        return self.err_path.read_text(errors="replace")

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_lines(self, word: str, seconds: float = 5) -> list[str]:
        """The log's lines with this word, once there is one."""
        deadline = time.monotonic() + seconds
        while True:
            lines = [line for line in self.log().splitlines() if word in line]
            if lines or time.monotonic() > deadline:
                return lines
            time.sleep(0.02)

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def idle(self, seconds: float = 30) -> dict:
        """Waits until nothing runs or waits; /health's view of the engine then."""
        deadline = time.monotonic() + seconds
        while True:
            engine = self.get("/health")["engine"]
            if engine["running"] == 0 and engine["waiting"] == 0:
                if engine["kv_blocks"]["live"] == 0:
                    return engine
            assert time.monotonic() < deadline, f"not idle: {engine}"
            time.sleep(0.05)

    def rss_bytes(self) -> int:
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def n_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self) -> None:
        """Ends it by signals, so that a sanitizer's report is written: a second one if streams hold it."""
        for patience in (2, 10):
            if self.process.poll() is not None:
                return
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                pass
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(folder):
    """The server that most tests share; it must be alive and idle at the end."""
    made = Server(folder, "--served-model-name", "tiny-moe")
    yield made
    made.idle()
    assert made.stop() == 0, made.stderr()


def client_of(server, key="none", **more):
    """An OpenAI client of a server that does not try again."""
    import openai  # here: the page's tests share this file and do without

    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=60, **more)


def async_client_of(server):
    import openai

    return openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def client(server):
    with client_of(server) as made:
        yield made


@pytest.fixture
def start(folder):
    """Starts servers of one test's own; they are ended with it."""
    made = []

    def start_one(*flags: str, **more) -> Server:
        made.append(Server(folder, *flags, **more))
        return made[-1]

    yield start_one
    for one in made:
        one.end()
        assert "Sanitizer" not in one.stderr(), one.stderr()


QUESTION = "A farm has 18 horses and 2 hens. How many legs is that together?"


def run_program(*arguments: str) -> dict:
    """`moeopt run --json` with these arguments."""
    done = subprocess.run(
        [PROGRAM, "run", MODEL, "--json", *arguments], capture_output=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


OPENAI_PARAMETERS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "stop", "max_tokens",
           "max_completion_tokens")  # fmt: skip


def flags_of(parameters: dict) -> list[str]:
    """Of `moeopt run`, for what a request says of its generation."""
    flags = []
    for name, value in parameters.items():
        flag = "--" + name.replace("completion_", "").replace("_", "-")
        if name == "logit_bias":
            flags += [part for token, bias in value.items() for part in (flag, f"{token}={bias}")]
        elif name == "stop":
            flags += [part for text in value for part in (flag, text)]
        else:
            flags += [flag] if value is True else [flag, str(value)]
    return flags


def arguments_of(parameters: dict) -> dict:
    """The same for the openai client, which takes other servers' parameters beside its own."""
    extra = {name: value for name, value in parameters.items() if name not in OPENAI_PARAMETERS}
    return {name: value for name, value in parameters.items() if name in OPENAI_PARAMETERS} | {"extra_body": extra}
