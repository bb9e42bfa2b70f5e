"""What the system refuses or does to the program: no descriptors, no threads, no folder for the log, a wall
clock that jumps. It says so once, serves those it has, and goes on when the fault is over."""

import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

import openai
import pytest
from conftest import MODEL, PROGRAM, QUESTION, SANITIZED, client_of, wait_until
from test_hostile import GET, connect, read_all, status
from test_status import metrics

MESSAGES = [{"role": "user", "content": QUESTION}]
# Root reads and writes everywhere: without this capability it may not.
AS_ANYONE = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()


def ask(server, **more) -> str:
    with client_of(server) as client:
        answer = client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=8, temperature=0, **more)
    return answer.choices[0].message.content


def version_over(sock: socket.socket) -> int:
    """One request on a connection that stays open."""
    sock.sendall(GET + b"\r\n")
    return status(sock.recv(65536))


def cpu_s(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def preloaded(folder: pathlib.Path, name: str, source: str) -> dict[str, str]:
    """An environment in which this C code stands before the system's own."""
    library = folder / f"{name}.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", library, "-ldl"], input=source.encode(), check=True
    )
    return {"LD_PRELOAD": str(library)}


@pytest.mark.skipif("/asan/" in PROGRAM, reason="UBSan opens a pipe to look at an object: it needs descriptors itself")
def test_used_up_descriptors_leave_those_that_are_open_and_are_said_once(start):
    server = start("--served-model-name", "m")
    wanted = ask(server)
    held = [connect(server) for _ in range(20)]
    assert [version_over(sock) for sock in held] == [200] * 20
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (server.n_files(), limits[1]))
    began, used = time.monotonic(), cpu_s(server.process.pid)
    waiting = [connect(server) for _ in range(50)]  # the kernel takes them, the server cannot
    for sock in waiting:
        sock.sendall(GET + b"\r\n")
    wait_until(lambda: "cannot accept" in server.stderr())
    for _ in range(3):
        assert [version_over(sock) for sock in held] == [200] * 20
        time.sleep(0.5)
    share = (cpu_s(server.process.pid) - used) / (time.monotonic() - began)
    assert SANITIZED or share < 0.5, "no busy loop"
    assert server.stderr().count("cannot accept") == 1
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
    assert [status(sock.recv(65536)) for sock in waiting] == [200] * 50
    assert ask(server) == wanted
    for sock in [*held, *waiting]:
        sock.close()
    server.idle()


def test_few_descriptors_are_few_connections(start):
    """The server keeps what it needs itself: a connection too many is told so."""
    server = start("--served-model-name", "m", prefix=("prlimit", "--nofile=90:90"))
    wanted = ask(server)
    held = [connect(server) for _ in range(20)]
    assert [version_over(sock) for sock in held] == [200] * 20
    refused = [connect(server) for _ in range(60)]
    answers = [status(read_all(sock)) for sock in refused[10:]]
    assert set(answers) == {503}
    assert "cannot accept" not in server.stderr()
    for sock in [*held, *refused]:
        sock.close()
    wait_until(lambda: server.n_files() <= 40)
    assert ask(server) == wanted


def test_a_log_folder_that_is_not_there_or_read_only_ends_the_start(folder):
    read_only = folder / "read-only"
    read_only.mkdir()
    read_only.chmod(0o555)
    for file, why in [(folder / "absent" / "log", "No such file"), (read_only / "log", "Permission denied")]:
        done = subprocess.run(
            [*AS_ANYONE, PROGRAM, "serve", MODEL, "--port", "0", "--log-file", file],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 8, done.stderr
        assert f"--log-file {file}: {why}" in done.stderr


@pytest.mark.parametrize("fault", ["vanished", "read-only"])
def test_a_log_that_cannot_be_opened_again_goes_on_in_the_old_file(start, folder, fault):
    home = folder / f"log-{fault}"
    home.mkdir()
    server = start("--served-model-name", "m", log=str(home / "log"), prefix=AS_ANYONE)
    moved = folder / f"moved-{fault}"
    if fault == "vanished":
        home.rename(moved)
    else:
        moved.mkdir()
        (home / "log").rename(moved / "log")
        home.chmod(0o555)
    old = moved / "log"

    def hang_up(times_said: int) -> None:
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.stderr().count("the old file goes on") >= times_said)

    for times_said in (1, 2):
        hang_up(times_said)
        before = old.read_text().count("/v1/chat/completions")
        ask(server)
        wait_until(lambda: old.read_text().count("/v1/chat/completions") > before)
    home.mkdir(exist_ok=True)
    home.chmod(0o755)
    server.process.send_signal(signal.SIGHUP)
    wait_until((home / "log").exists)
    ask(server)
    assert server.log_lines("/v1/chat/completions")
    assert metrics(server)["moeopt:log_lines_lost_total", ()] == 0
    assert server.process.poll() is None


NO_THREAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
int pthread_create(pthread_t* id, const pthread_attr_t* attributes, void* (*run)(void*), void* of) {
  static int made;
  int (*real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) = dlsym(RTLD_NEXT, "pthread_create");
  if (__sync_add_and_fetch(&made, 1) >= atoi(getenv("NO_THREAD_FROM"))) return EAGAIN;
  return real(id, attributes, run, of);
}
"""


@pytest.mark.skipif(SANITIZED, reason="a sanitizer stands before pthread_create itself")
def test_a_thread_that_cannot_be_started_ends_the_start(start, folder):
    """Whichever it is: each is the first one that fails, until all can be had."""
    env = preloaded(folder, "no-thread", NO_THREAD)
    flags = ("--threads", "3", "--routing-log", str(folder / "no-thread.jsonl"))
    for made in range(1, 40):
        server = start(*flags, wait=False, env={**env, "NO_THREAD_FROM": str(made)})
        deadline = time.monotonic() + 20
        while (ended := server.process.poll()) is None and "ready: serving" not in server.stderr():
            assert time.monotonic() < deadline, f"hangs without thread {made}"
            time.sleep(0.01)
        if ended is None:
            break
        assert ended == 8, server.stderr()
        assert "cannot start a thread: Resource temporarily unavailable" in server.stderr()
        assert "hint:" in server.stderr()
    assert made > 8, "signals, log, two workers, I/O, handlers, backend, engine, watchdog"


LEAPING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static long leap(void) {  /* a year to and fro, from look to look */
  static unsigned looks;
  return __sync_add_and_fetch(&looks, 1) * 2654435761u >> 31 ? 31536000 : 0;
}
int clock_gettime(clockid_t clock, struct timespec* now) {
  static int (*real)(clockid_t, struct timespec*);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, now);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += leap();
  return result;
}
time_t time(time_t* out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval* now, void* zone) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}
"""


@pytest.mark.skipif(SANITIZED, reason="a sanitizer wants to be the first library")
def test_a_wall_clock_that_jumps_makes_nothing_late_and_nothing_hang(start, folder):
    server = start(
        "--served-model-name", "m", "--request-timeout", "60", "--queue-timeout", "60", "--stuck-after", "60",
        env=preloaded(folder, "leaping", LEAPING),
    )  # fmt: skip
    began = time.monotonic()
    years = set()
    for _ in range(20):
        ask(server)
        assert len(list(stream_of(server))) > 5
        with connect(server) as sock:
            sock.sendall(GET + b"Connection: close\r\n\r\n")
            date = next(line for line in read_all(sock).split(b"\r\n") if line.startswith(b"Date: "))
            years.add(date.split()[4])
    assert len(years) == 2, "it does jump"
    health = server.get("/health")
    assert health["status"] == "ok"
    assert 0 < health["uptime_s"] < time.monotonic() - began + 60
    figures = metrics(server)
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "step_time_seconds"):
        assert figures[f"moeopt:{name}_count", ()] > 0
        assert 0 < figures[f"moeopt:{name}_sum", ()] < 120
    causes = {key[1] for key in figures if key[0] == "moeopt:errors_total"}
    assert causes <= {(("cause", "http_503"),)}, "of /ready while it was loading"
    assert "stuck" not in server.stderr()
    assert server.stop() == 0, "it drains, and its waits end"


def stream_of(server):
    with client_of(server) as client:
        yield from client.chat.completions.create(
            model="m", messages=MESSAGES, max_tokens=8, stream=True, extra_body={"ignore_eos": True}
        )


@pytest.mark.skipif(SANITIZED, reason="a sanitizer wants to be the first library")
def test_a_deadline_is_kept_while_the_wall_clock_jumps(start, folder):
    server = start("--request-timeout", "0.3", env=preloaded(folder, "leaping", LEAPING))
    began = time.monotonic()
    with client_of(server) as client, pytest.raises(openai.APIStatusError) as late:
        client.chat.completions.create(
            model="tiny-moe", messages=MESSAGES, n=64, max_tokens=1900, extra_body={"ignore_eos": True}
        )
    assert late.value.status_code == 504
    assert time.monotonic() - began >= 0.3
