"""Optimisations left out of a program that has the switches for it (preset `switches`, MOEOPT_BYPASS): the
one whose code did not run is declined, the others are applied, and every count is what the requests cost."""

import shutil
import subprocess

import openai
import pytest
from conftest import MODEL, PROGRAM, ROOT, client_of

LAYERS = 2
STEP = ("--max-num-batched-tokens", "64")
OPTIMISATIONS = ("chunked-prefill", "fp8", "prefix-cache")
NOT_SEEN = "its counter did not move in the start-up step"


@pytest.fixture(scope="module")
def fp8_model(tmp_path_factory):
    """A small random model with fp8 weights, and a tokenizer that knows its ids."""
    folder = tmp_path_factory.mktemp("fp8-model")
    for file in ("config.json", "model.safetensors"):
        shutil.copy(ROOT / "tests/golden/qwen3-fp8" / file, folder)
    shutil.copy(ROOT / "models/tiny-moe/tokenizer.json", folder)
    return str(folder)


def states(server) -> dict[str, dict]:
    return {one["name"]: one for one in server.get("/health")["optimisations"]}


def launches(server) -> dict[str, int]:
    server.idle()
    return {name: states(server)[name]["launches"] for name in OPTIMISATIONS}


def ask(server, prompt: list[int]):
    with client_of(server) as client:
        answer = client.completions.create(
            model="m", prompt=prompt, max_tokens=3, temperature=0, extra_body={"ignore_eos": True}
        )
    return answer.choices[0].text, answer.usage.prompt_tokens_details.cached_tokens


def start_without(start, monkeypatch, model: str, left_out: str):
    monkeypatch.setenv("MOEOPT_BYPASS", left_out)
    return start("--served-model-name", "m", *STEP, model=model)


LONG = [3 + i * i % 60 for i in range(200)]


@pytest.mark.parametrize("left_out", ["", *OPTIMISATIONS, ",".join(OPTIMISATIONS)])
def test_what_is_left_out_is_declined_and_nothing_else(start, monkeypatch, fp8_model, left_out):
    server = start_without(start, monkeypatch, fp8_model, left_out)
    for name in OPTIMISATIONS:
        state = states(server)[name]
        declined = name in left_out.split(",")
        assert state["state"] == ("declined" if declined else "applied"), name
        assert state["reason"] == (NOT_SEEN if declined else "")
        assert state["layers"] == (0 if declined else LAYERS)
        assert state["launches"] == 0, "the start-up step is counted apart"

    chunks = 4  # 200 tokens in steps of 64
    if "chunked-prefill" in left_out:
        with pytest.raises(openai.BadRequestError, match="the context holds 64"):
            ask(server, LONG)
        chunks = 0
    else:
        ask(server, LONG)
    assert launches(server)["chunked-prefill"] == chunks

    short = LONG[:40]
    ask(server, [70, *short])
    hits = launches(server)["prefix-cache"]
    _, cached = ask(server, [70, *short])
    assert cached == (0 if "prefix-cache" in left_out else 32)  # two whole blocks of 16
    assert launches(server)["prefix-cache"] - hits == cached
    assert (launches(server)["fp8"] == 0) == ("fp8" in left_out)


@pytest.mark.parametrize("name", ["chunked-prefill", "prefix-cache"])
def test_leaving_them_out_changes_no_answer(start, monkeypatch, name):
    with_it = start("--served-model-name", "m", *STEP)
    without = start_without(start, monkeypatch, MODEL, name)
    for _ in range(2):
        assert ask(with_it, LONG[:60])[0] == ask(without, LONG[:60])[0]


@pytest.mark.parametrize("name", OPTIMISATIONS)
def test_one_that_is_required_and_left_out_ends_the_start(monkeypatch, fp8_model, name):
    monkeypatch.setenv("MOEOPT_BYPASS", name)
    done = subprocess.run(
        [PROGRAM, "serve", fp8_model, "--port", "0", f"--require-{name}"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert name in done.stderr and NOT_SEEN in done.stderr
