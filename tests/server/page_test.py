"""The page at / in headless Chromium: against made-up servers in every state, and against the real
one where the program can serve. Screenshots are kept in build/page/."""

import json
import os
import pathlib
import re
import socket
import subprocess
import time
import urllib.request

import pytest

import chromium
import fake_server
from conftest import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "src/serve/page"
SHOTS = ROOT / "build/page"
PROGRAM = pathlib.Path(os.environ.get("MOEOPT_BIN", ROOT / "build/release/moeopt"))

needs_chromium = pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed (apt-get install chromium)")

IS_READY = "document.getElementById('state').dataset.state === 'ok'"
IS_DONE = "document.getElementById('stop').hidden && !!document.querySelector('.note')"


def text_of(page, selector):
    return page.run(f"document.querySelector({selector!r}).innerText")


def pixels(page):
    return page.run("(() => { const c = document.getElementById('heat'); let h = 0;"
                    " for (const v of c.getContext('2d').getImageData(0, 0, c.width, c.height).data) h = (h * 31 + v) | 0;"
                    " return h; })()")


@pytest.fixture(scope="module")
def page():
    browser = chromium.Page(1360, 860)
    yield browser
    browser.close()


@pytest.fixture
def serve(page):
    servers = []

    def start(**options):
        state = fake_server.State(**options)
        server = fake_server.start(state)
        servers.append(server)
        page.resize(1360, 860)
        page.prefer(color_scheme="light")
        page.console.clear()
        page.open(f"http://127.0.0.1:{server.server_address[1]}/")
        return state

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def chips(page):
    """(name, chip's text, state that its colour goes by) of each optimisation."""
    return [tuple(row) for row in page.run(
        "[...document.querySelectorAll('#optimisations li')].map((row) => [row.querySelector('.name').innerText,"
        " row.querySelector('.chip').innerText, row.querySelector('.chip').dataset.state])")]


def expected_chips(optimisations):
    """Those applied first, then those declined, then those that are off; else in the server's order."""
    signs = {"applied": "✓ applied", "declined": "– declined", "off": "○ off"}
    return [(row["name"], sign, row["state"]) for state, sign in signs.items() for row in optimisations if row["state"] == state]


def json_of(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def ask(page, question):
    page.run("document.getElementById('prompt').focus()")
    page.type(question)
    page.key("Enter")


@needs_chromium
def test_an_answer_streams_as_text(page, serve):
    state = serve(delay_s=0.03)
    page.wait(IS_READY)
    ask(page, "How many pencils?")
    page.wait("document.querySelector('.assistant .answer')?.innerText.includes('12 pencils')")
    assert "17" not in text_of(page, ".assistant")  # it came in parts
    assert page.run("document.querySelector('.assistant').getAttribute('aria-busy')") == "true"
    page.wait(IS_DONE)
    answer = text_of(page, ".assistant")
    assert "<b>not markup</b> & plain text" in answer and "#### 17" in answer
    assert re.search(r"\d+ tokens · [\d.]+ tokens/s · prompt 31 \(16 cached\) · first after \d+ ms", answer)
    # The second turn carries the first.
    ask(page, "And then?")
    page.wait("document.querySelectorAll('.note').length === 2")
    sent = state.requests[1]
    assert sent["stream"] is True and sent["model"] == "tiny-moe"
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][0]["content"] == "How many pencils?"
    page.run("document.getElementById('clear').click()")
    assert page.run("document.querySelectorAll('.message').length") == 0
    assert page.console == []


@needs_chromium
@pytest.mark.parametrize("how", ["document.getElementById('stop').click()", "Escape"])
def test_stop_ends_the_request(page, serve, how):
    state = serve(delay_s=0.02, words=["word"] * 5000)
    page.wait(IS_READY)
    ask(page, "Go on")
    page.wait("document.querySelector('.assistant .answer')?.innerText.length > 20")
    page.key("Escape") if how == "Escape" else page.run(how)
    page.wait(IS_DONE)
    assert "stopped" in text_of(page, ".note")
    deadline = time.monotonic() + 10
    while state.cancelled == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state.cancelled == 1 and state.tokens < 5000
    assert page.run("document.activeElement.id") == "prompt"


@needs_chromium
def test_figures_plan_and_reasons(page, serve):
    state = serve(delay_s=0.05, words=["word"] * 60)
    page.wait(IS_READY)
    ask(page, "Go")
    page.wait("Number(document.getElementById('tokens-s').textContent) > 2")
    page.wait("document.getElementById('running').textContent === '1'")
    assert "40 live, 90 cached, 894 free of 1024 blocks" in text_of(page, "#kv-text")
    assert text_of(page, "#waiting") == "3" and text_of(page, "#prefix-hits") == "32%"
    page.wait("document.getElementById('step-ms').textContent === '12.3'")
    health = state.health()
    assert chips(page) == expected_chips(health["optimisations"]) and len(health["optimisations"]) == 5
    rows = page.run("[...document.querySelectorAll('#optimisations li')].map((row) => row.innerText)")
    assert len(rows) == 5 and "applied" in rows[0] and "launches counted" in rows[0]
    assert any("declined" in row and "needs a Hopper GPU" in row for row in rows)
    assert any("off" in row and "expert_placement" in row for row in rows)
    assert "1024 KV blocks of 16 tokens" in text_of(page, "#plan-summary")
    assert "weights 7.14 MiB" in text_of(page, "#plan-ranks")
    page.run("document.querySelector('#plan-settings').closest('details').open = true")
    assert "auto: 8" in text_of(page, "#plan-settings")


@needs_chromium
def test_the_heat_map_moves_while_tokens_flow(page, serve):
    serve(delay_s=0.03, words=["word"] * 120)
    page.wait(IS_READY)
    assert text_of(page, "#heat-readout") == "No tokens yet."
    ask(page, "Go")
    seen = set()
    deadline = time.monotonic() + 6
    while len(seen) < 4 and time.monotonic() < deadline:
        seen.add(pixels(page))
        time.sleep(0.4)
    assert len(seen) >= 4
    page.screenshot(SHOTS / "streaming.png")
    page.run("document.getElementById('heat').focus()")
    for name in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.key(name)
    assert text_of(page, "#heat-readout").startswith("Layer 1, expert 1: ")
    page.run("document.getElementById('show-total').click()")
    assert page.run("document.getElementById('show-total').getAttribute('aria-pressed')") == "true"
    page.wait(IS_DONE)
    page.run("document.getElementById('heat').blur()")
    assert text_of(page, "#heat-readout").startswith("48 layers × 128 experts")
    page.run("document.querySelector('#heat-table').closest('details').open = true")
    page.wait("document.querySelectorAll('#heat-table tbody tr').length === 48")


@needs_chromium
def test_a_keyboard_is_enough(page, serve):
    serve(delay_s=0.0)
    page.wait(IS_READY)
    page.run("document.activeElement.blur()")
    reached = []
    for _ in range(24):
        page.key("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.className || document.activeElement.tagName"))
    for wanted in ("skip", "theme", "messages", "example", "prompt", "send", "SUMMARY", "show-latest", "show-total", "heat"):
        assert wanted in reached, reached
    # Whatever can be reached has a name.
    assert page.run("[...document.querySelectorAll('button, input, textarea, canvas, svg, progress')].filter((each) =>"
                    " !(each.getAttribute('aria-label') || each.labels?.length || each.textContent.trim())).length") == 0


@needs_chromium
@pytest.mark.parametrize("width", [320, 390, 768, 1360, 2560])
def test_nothing_sticks_out(page, serve, width):
    serve(delay_s=0.0, words=["averyveryverylongwordwithoutanyblank" * 12, "end"])
    page.resize(width, 700)
    page.wait(IS_READY)
    ask(page, "Go")
    page.wait(IS_DONE)
    assert page.run("document.documentElement.scrollWidth") <= width
    sticking = page.run("[...document.querySelectorAll('main *')].filter((each) => each.getBoundingClientRect().right > innerWidth + 1"
                        " && !each.closest('.scroll, .unseen')).map((each) => each.outerHTML.slice(0, 120))")
    assert sticking == []
    page.screenshot(SHOTS / f"width-{width}.png")


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(page, serve, scheme):
    serve(delay_s=0.0)
    page.prefer(color_scheme=scheme)
    page.wait(IS_READY)
    ask(page, "Go")
    page.wait(IS_DONE)
    page.wait("document.querySelectorAll('.chip').length === 5")
    assert page.run("document.documentElement.dataset.theme") == scheme
    weak = page.run("""(() => {
      const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const ground = (each) => {
        for (; each; each = each.parentElement) {
          const colour = numbers(getComputedStyle(each).backgroundColor);
          if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
      };
      const weak = [];
      for (const each of document.querySelectorAll('body *')) {
        if (![...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
        if (!each.checkVisibility() || each.closest(':disabled')) continue;
        const [a, b] = [light(numbers(getComputedStyle(each).color)), light(ground(each))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) weak.push(`${each.tagName}.${each.className} ${each.textContent.slice(0, 30)} ${contrast.toFixed(2)}`);
      }
      return weak;
    })()""")
    assert weak == []
    page.screenshot(SHOTS / f"{scheme}.png")


@needs_chromium
def test_loading_and_its_end(page, serve):
    state = serve(loading=True)
    page.wait("document.getElementById('state').dataset.state === 'loading'")
    page.wait("!document.getElementById('loading').hidden")
    assert text_of(page, "#loading-what") == "reading weights" and page.run("document.getElementById('progress').value") == 0.4
    state.loading = False
    page.wait(IS_READY)
    page.wait("document.getElementById('loading').hidden")


@needs_chromium
def test_trouble_is_said(page, serve):
    state = serve()
    page.wait(IS_READY)
    state.fail = "the queue is full"
    ask(page, "Go")
    page.wait(IS_DONE)
    assert text_of(page, ".note") == "failed: the queue is full"
    assert page.run("document.getElementById('prompt').value") == "Go"  # not lost
    state.status = "unhealthy"
    page.wait("document.getElementById('state-text').textContent === 'unhealthy'")


@needs_chromium
def test_a_server_that_goes_away(page, serve):
    serve()
    page.wait(IS_READY)
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    try:
        page.wait("document.getElementById('state-text').textContent === 'not reachable'")
    finally:
        page.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.wait(IS_READY)


@needs_chromium
def test_a_key_is_asked_for(page, serve):
    state = serve(key="secret")
    page.wait("!document.getElementById('key-form').hidden")
    page.run("document.getElementById('key').focus()")
    page.type("secret")
    page.key("Enter")
    page.wait("document.getElementById('key-form').hidden")
    ask(page, "Go")
    page.wait(IS_DONE)
    assert len(state.requests) == 1


@needs_chromium
def test_settings_are_sent(page, serve):
    state = serve(delay_s=0.0)
    page.wait(IS_READY)
    page.run("""for (const [id, value] of [['system', 'Be brief.'], ['temperature', '0'], ['max-tokens', '7'], ['seed', '3']])
      document.getElementById(id).value = value""")
    ask(page, "Go")
    page.wait(IS_DONE)
    sent = state.requests[0]
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["temperature"], sent["max_completion_tokens"], sent["seed"]) == (0, 7, 3) and "top_p" not in sent


@needs_chromium
def test_the_policy_holds(page, serve):
    serve()
    page.wait(IS_READY)
    assert page.console == []
    page.run("(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); })()")
    assert page.run("window.ran ?? 0") == 0  # the test itself can see a violation
    page.wait("true")
    assert any("Content Security Policy" in line for line in page.console)


def test_the_files_need_nothing_else():
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "@import" not in text, file
        assert "innerHTML" not in text and "eval(" not in text, file
        if file.suffix == ".html":
            assert not re.search(r"\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|<style", text), file


def test_the_ramp_is_in_order_of_lightness():
    ramp = re.search(r"kRamp = \[(.*?)\n\];", (PAGE / "heatmap.js").read_text(encoding="utf-8"), re.S).group(1)
    light = [0.2126 * int(r) + 0.7152 * int(g) + 0.0722 * int(b) for r, g, b in re.findall(r"\[(\d+), (\d+), (\d+)\]", ramp)]
    assert len(light) == 5 and all(b - a > 25 for a, b in zip(light, light[1:]))


def can_serve():
    if not PROGRAM.exists():
        return False
    return subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, check=False).returncode == 0


@needs_chromium
@pytest.mark.skipif(not can_serve(), reason="the program is not built, or cannot serve")
def test_the_real_server(page):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([PROGRAM, "serve", ROOT / "models/tiny-moe", "--port", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5)
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        page.resize(1360, 860)
        page.prefer(color_scheme="light")
        page.console.clear()
        page.open(f"http://127.0.0.1:{port}/")
        page.wait(IS_READY)
        wait_until(lambda: chips(page) == expected_chips(json_of(f"http://127.0.0.1:{port}/health")["optimisations"]))
        page.run("document.getElementById('temperature').value = '0'")
        page.run("document.querySelector('.example').click()")
        page.wait(IS_DONE, 60)
        assert "#### 76" in text_of(page, ".assistant")
        for shown in ("latest", "total"):
            page.run(f"document.getElementById('show-{shown}').click()")
            page.wait("document.getElementById('heat-readout').textContent.startsWith('4 layers × 16 experts')")
        page.wait("Number(document.getElementById('step-ms').textContent) > 0")
        wait_until(lambda: chips(page) == expected_chips(json_of(f"http://127.0.0.1:{port}/health")["optimisations"]))
        assert {state for _, _, state in chips(page)} >= {"applied", "declined"}
        assert "KV blocks of 16 tokens" in text_of(page, "#plan-summary")
        page.screenshot(SHOTS / "real.png")
        assert page.console == []
    finally:
        server.terminate()
        server.wait(30)
