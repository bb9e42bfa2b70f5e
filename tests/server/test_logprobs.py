"""Log probabilities of /v1/chat/completions and /v1/completions against what they must be: exact ones of a scripted
model, whose logits are known, and those of the shipped model that scoring the same tokens as a prompt gives."""

import math

import pytest
import tool_models
from conftest import Server, client_of, run_program

QUESTION = "Tell me about the sky and a turtle"  # of which the model is not sure
MESSAGES = [{"role": "user", "content": QUESTION}]
TOP = 20


@pytest.fixture(scope="module")
def scripted(folder):
    """A ScriptedModel and a client of its server."""
    model = tool_models.qwen(folder / "logprobs").model
    server = Server(folder, "--served-model-name", "m", model=str(model.folder))
    with client_of(server) as client:
        yield model, client
    assert server.stop() == 0, server.stderr()


def close(values):
    return pytest.approx(values, abs=2e-5)


def bytes_of(token):
    return token if isinstance(token, bytes) else token.encode()


def test_chat_of_known_logits(scripted):
    model, client = scripted
    script = model.scripts["plain"]
    asked = dict(model="m", messages=MESSAGES, logprobs=True, top_logprobs=TOP)
    entries = client.chat.completions.create(**asked).choices[0].logprobs.content
    assert [bytes(entry.bytes) for entry in entries] == [bytes_of(model.tokens[i]) for i in script[:-1]]
    last = model.ids["<|says:plain|>"]
    for token, entry in zip(script, entries):
        known = model.logprobs(last)
        assert entry.logprob == close(known[token]) and -1 < entry.logprob < -0.01
        assert [top.logprob for top in entry.top_logprobs] == close(sorted(known, reverse=True)[:TOP])
        for top in entry.top_logprobs:
            likely = [i for i, each in enumerate(model.tokens) if bytes_of(each) == bytes(top.bytes)]
            assert any(top.logprob == close(known[i]) for i in likely), "the value is of that token"
        last = token
    # What the temperature and the bias make of the logits is not what is told: logprobs are the model's own.
    hot = client.chat.completions.create(**asked, temperature=0.01, seed=1).choices[0].logprobs.content
    assert [entry.logprob for entry in hot] == close([entry.logprob for entry in entries])


def test_completion_of_known_logits(scripted):
    model, client = scripted
    script = model.scripts["plain"]
    prompt = [65, model.ids["<|says:plain|>"]]
    logprobs = client.completions.create(model="m", prompt=prompt, max_tokens=50, echo=True, logprobs=3).choices[0].logprobs
    ids = [*prompt, *script[:-1]]
    known = [model.logprobs(last)[token] for last, token in zip(ids, ids[1:])]
    assert logprobs.token_logprobs[0] is None and logprobs.token_logprobs[1:] == close(known)
    assert len(logprobs.top_logprobs) == len(ids)
    for last, top in zip(ids, logprobs.top_logprobs[1:]):
        best = sorted(model.logprobs(last), reverse=True)[:3]
        assert sorted(top.values(), reverse=True)[:3] == close(best)


@pytest.mark.parametrize("how", [{}, {"temperature": 2, "seed": 5}, {"logit_bias": {"17": 12}}], ids=["greedy", "sampled", "biased"])
def test_chat_agrees_with_scoring(client, how):
    """The same tokens as a prompt: another path through the engine, which samples nothing."""
    flags = [flag for name, value in how.items() if name != "logit_bias" for flag in (f"--{name}", str(value))]
    flags += ["--logit-bias", "17=12"] if "logit_bias" in how else []
    ids = run_program("--chat", QUESTION, "--max-tokens", "40", *flags)["ids"]
    prompt = client.post("../tokenize", cast_to=object, body={"messages": MESSAGES})["tokens"]
    choice = client.chat.completions.create(
        model="tiny-moe", messages=MESSAGES, max_tokens=40, logprobs=True, top_logprobs=TOP, **how
    ).choices[0]
    entries = choice.logprobs.content
    ids = ids[: len(entries)]
    scored = client.completions.create(
        model="tiny-moe", prompt=prompt + ids, max_tokens=0, echo=True, logprobs=TOP
    ).choices[0].logprobs  # fmt: skip
    assert "".join(scored.tokens[len(prompt) :]) == choice.message.content
    assert [entry.logprob for entry in entries] == close(scored.token_logprobs[len(prompt) :])
    for entry, top in zip(entries, scored.top_logprobs[len(prompt) :], strict=True):
        best = [each.logprob for each in entry.top_logprobs]
        assert best == sorted(best, reverse=True) and best == close(sorted(top.values(), reverse=True)[:TOP])
        assert sum(math.exp(value) for value in best) <= 1 + 1e-4
        assert entry.logprob <= best[0] + 1e-6
        if how == {}:
            assert (entry.token, entry.logprob) == (entry.top_logprobs[0].token, best[0]), "greedy takes the likeliest"
    assert any(entry.logprob < -0.01 for entry in entries)
    if how != {}:
        assert any(entry.token != entry.top_logprobs[0].token for entry in entries)
