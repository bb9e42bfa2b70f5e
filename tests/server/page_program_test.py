"""The page at / of the real program in headless Chromium, while things happen: the model loads, tokens flow.

Both are over in an instant on a small model, so that the program is let run for a part of the time only.
"""

import re
import signal
import threading
import time
import urllib.request

import pytest

import chromium
from conftest import ROOT, Server
from page_test import IS_DONE, IS_READY, SHOTS, ask, needs_chromium, pixels, text_of
from scripted_model import hollow_model

STREAMS = "document.querySelector('.assistant[aria-busy=true] .answer')?.innerText.length > 0"


@pytest.fixture(scope="module")
def page():
    browser = chromium.Page(1360, 860)
    yield browser
    browser.close()


class Slowed:
    """While it lasts, a server runs for `share` of the time, some milliseconds at a time."""

    def __init__(self, server, share):
        self.process, self.share = server.process, share
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        slice_s = 0.08
        while not self.ended.wait(slice_s * self.share):
            self.process.send_signal(signal.SIGSTOP)
            self.ended.wait(slice_s * (1 - self.share))
            self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def opened(page, server):
    page.open("about:blank")  # what the last server's page has to say ends here
    page.console.clear()
    page.open(server.url + "/")


def wait_listening(server):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(server.url + "/version", timeout=5):
                return
        except OSError:
            time.sleep(0.01)
    raise AssertionError(server.stderr())


@needs_chromium
def test_loading_is_shown_and_moves(page, start, tmp_path):
    model = hollow_model(tmp_path / "hollow", ROOT / "models/tiny-moe/tokenizer.json", 1 << 30)
    server = start(wait=False, model=str(model))
    with Slowed(server, 0.06):
        wait_listening(server)
        opened(page, server)
        page.wait("document.getElementById('state').dataset.state === 'loading'")
        page.wait("!document.getElementById('loading').hidden")
        shown: list[float] = []
        deadline = time.monotonic() + 30
        while len(shown) < 3 and time.monotonic() < deadline:
            what, value = page.run("[document.getElementById('loading-what').innerText, document.getElementById('progress').value]")
            assert not page.run(IS_READY), f"ready after {shown}"
            if what == "reading weights" and value not in (0, *shown):
                shown.append(value)
            time.sleep(0.05)
        page.screenshot(SHOTS / "loading.png")
    assert len(shown) == 3 and shown == sorted(shown) and 0 < shown[0] < 1, shown
    assert page.run("document.getElementById('progress').getBoundingClientRect().height") > 0
    page.wait(IS_READY, 60)
    page.wait("document.getElementById('loading').hidden")
    page.screenshot(SHOTS / "loaded.png")
    assert all("503" in line and line.endswith("/ready") for line in page.console), page.console


@pytest.fixture(scope="module")
def slow_answers(folder):
    """The shipped model by the backend that takes its time."""
    server = Server(folder, "--backend", "reference")
    yield server
    assert server.stop() == 0, server.stderr()


def set_up(page):
    page.wait(IS_READY)
    page.run("""for (const [id, value] of [['temperature', '20'], ['max-tokens', '1500'], ['seed', '3']])
      document.getElementById(id).value = value""")


@needs_chromium
def test_the_heat_map_moves_while_tokens_flow(page, slow_answers):
    opened(page, slow_answers)
    set_up(page)
    page.run("document.getElementById('show-latest').click()")
    time.sleep(2.5)  # the latest look at an idle server
    resting = {pixels(page)}
    time.sleep(0.5)
    assert resting == {pixels(page)}, "nothing moves while nothing runs"
    moving: list[int] = []
    texts: list[int] = []
    with Slowed(slow_answers, 0.15):
        ask(page, "Tell me about the sky")
        page.wait(STREAMS)
        while page.run(STREAMS) and len(set(moving)) < 4:
            moving.append(pixels(page))
            texts.append(len(text_of(page, ".assistant .answer")))
            if len(set(moving)) == 3:
                page.screenshot(SHOTS / "real-streaming.png")
            time.sleep(0.3)
        page.run("document.getElementById('stop').click()")
    assert len(set(moving)) == 4, "the colours changed while the answer came"
    assert len(set(texts)) > 1 and texts == sorted(texts)
    page.wait(IS_DONE)
    assert all("getImageData" in line for line in page.console), page.console  # this test's own


def choose_cell(page):
    page.run("document.getElementById('heat').focus()")
    page.key("ArrowRight")
    page.key("ArrowDown")


@needs_chromium
def test_the_counts_shown_are_those_of_the_program(page, slow_answers):
    opened(page, slow_answers)
    set_up(page)
    page.run("document.getElementById('show-total').click()")
    seen: list[int] = []
    with Slowed(slow_answers, 0.15):
        ask(page, "Tell me about a turtle")
        page.wait(STREAMS)
        choose_cell(page)
        while page.run(STREAMS) and len(set(seen)) < 3:
            layer, expert, rows = re.match(r"Layer (\d+), expert (\d+): (\d+) rows", text_of(page, "#heat-readout")).groups()
            assert (layer, expert) == ("1", "1")
            seen.append(int(rows))
            time.sleep(0.2)
        page.run("document.getElementById('stop').click()")
    assert len(set(seen)) == 3 and seen == sorted(seen), seen
    page.wait(IS_DONE)
    slow_answers.idle()
    rows = slow_answers.get("/v1/routing")["total"][1][1]
    choose_cell(page)
    page.wait(f"document.getElementById('heat-readout').innerText.startsWith('Layer 1, expert 1: {rows} rows')", 10)
