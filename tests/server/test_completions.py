"""/v1/completions, /v1/models, /tokenize and /detokenize through the openai client."""

import openai
import pytest
from conftest import run_program

PROMPT = "A farm has"


def test_continues_a_text_as_the_program_does(client):
    expected = run_program("--prompt", PROMPT, "--max-tokens", "24")
    answer = client.completions.create(model="tiny-moe", prompt=PROMPT, max_tokens=24)
    assert answer.choices[0].text == expected["text"]
    assert answer.object == "text_completion"
    assert answer.usage.prompt_tokens == expected["prompt_tokens"]
    streamed = client.completions.create(model="tiny-moe", prompt=PROMPT, max_tokens=24, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == expected["text"]


def test_sixteen_tokens_unless_told(client):
    answer = client.completions.create(model="tiny-moe", prompt=PROMPT, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16


def test_prompts_of_every_kind(client):
    text = client.completions.create(model="tiny-moe", prompt=PROMPT, max_tokens=8).choices[0].text
    ids = client.post("../tokenize", cast_to=object, body={"prompt": PROMPT})["tokens"]
    assert client.completions.create(model="tiny-moe", prompt=ids, max_tokens=8).choices[0].text == text
    for prompts in ([PROMPT, PROMPT], [ids, ids]):
        answer = client.completions.create(model="tiny-moe", prompt=prompts, max_tokens=8, n=2)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        assert {choice.text for choice in answer.choices} == {text}
        assert answer.usage.prompt_tokens == 2 * len(ids)


def test_echo_with_logprobs_scores_a_text(client):
    answer = client.completions.create(model="tiny-moe", prompt=PROMPT, max_tokens=2, echo=True, logprobs=2)
    choice = answer.choices[0]
    assert choice.text.startswith(PROMPT)
    logprobs = choice.logprobs
    ids = client.post("../tokenize", cast_to=object, body={"prompt": PROMPT})["tokens"]
    assert len(logprobs.tokens) == len(ids) + 2
    assert "".join(logprobs.tokens) == choice.text
    assert logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert logprobs.text_offset[0] == 0
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    # The prompt alone, as evaluation harnesses ask for it.
    alone = client.completions.create(model="tiny-moe", prompt=PROMPT, max_tokens=0, echo=True, logprobs=2)
    assert alone.choices[0].text == PROMPT
    assert alone.choices[0].logprobs.token_logprobs == logprobs.token_logprobs[: len(ids)]
    # The log probability of what greedy decoding says is the best of each place.
    for token, best in zip(logprobs.tokens[len(ids) :], logprobs.top_logprobs[len(ids) :], strict=True):
        assert max(best, key=best.get) == token


def test_suffix_is_refused_by_name(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="tiny-moe", prompt=PROMPT, suffix="end")
    assert refused.value.body["param"] == "suffix"


REFUSED = [
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt[0]"),
    ({"prompt": {}}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt[1]"),
    ({"prompt": ["a", 1]}, "prompt[1]"),
    ({"prompt": [-1]}, "prompt[0]"),
    ({"prompt": [1536]}, "prompt"),
    ({"prompt": [2**31]}, "prompt[0]"),
    ({"prompt": ["a"] * 200}, "prompt"),
    ({"prompt": ["a"] * 100, "n": 2}, "n"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"max_tokens": 0}, "max_tokens"),
]


@pytest.mark.parametrize("wrong,param", REFUSED, ids=lambda value: str(value)[:60])
def test_wrong_fields_are_named(client, wrong, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/completions", cast_to=object, body={"model": "tiny-moe", "prompt": PROMPT, **wrong})
    assert refused.value.body["param"] == param


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny-moe"]
    assert client.models.retrieve("tiny-moe").owned_by == "moeopt"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other/model")


def test_tokenize_and_back(client):
    for text in ("Hello, world", "æøå 日本語 \U0001f600", " a\n\tb"):
        answer = client.post("../tokenize", cast_to=object, body={"prompt": text})
        assert answer["count"] == len(answer["tokens"])
        back = client.post("../detokenize", cast_to=object, body={"tokens": answer["tokens"]})
        assert back["prompt"] == text
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    assert client.post("../tokenize", cast_to=object, body=chat)["count"] > 3
    for wrong in ({}, {"prompt": "a", "messages": chat["messages"]}, {"prompt": 3}):
        with pytest.raises(openai.BadRequestError):
            client.post("../tokenize", cast_to=object, body=wrong)
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("../detokenize", cast_to=object, body={"tokens": [10**6]})
    assert refused.value.body["param"] == "tokens"
