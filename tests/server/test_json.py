"""response_format: what ends by itself is a JSON object, or JSON of the schema; what max_tokens cuts is the beginning of
one, with finish_reason "length" as OpenAI says it."""

import itertools
import json

import jsonschema_rs
import pytest
from conftest import QUESTION

MESSAGES = [{"role": "user", "content": QUESTION}]
ANY = {"type": "json_object"}
NESTED = {
    "type": "object",
    "properties": {
        "animal": {"enum": ["horse", "hen", None, 3]},
        "legs": {"type": "integer", "minimum": -20, "maximum": 400},
        "weight": {"type": "number", "minimum": -2, "exclusiveMaximum": 1000},
        "rows": {
            "type": "array", "minItems": 1, "maxItems": 3,
            "items": {"type": "array", "maxItems": 2, "items": {"type": "boolean"}},
        },
        "farm": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 9},
                "owner": {"$ref": "#/$defs/person"},
                "size": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1, "maximum": 9}]},
            },
            "required": ["name", "owner"], "additionalProperties": False,
        },
    },
    "required": ["animal", "legs", "weight", "rows", "farm"], "additionalProperties": False,
    "$defs": {
        "person": {
            "type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}, "kind": {"const": "owner"}},
            "required": ["age", "kind"], "additionalProperties": False,
        },
    },
}  # fmt: skip
HELD = {"type": "json_schema", "json_schema": {"name": "farm", "schema": NESTED, "strict": True}}


def ask(client, **more):
    return client.chat.completions.create(model="tiny-moe", messages=MESSAGES, **more).choices


def token_of(client, text):
    [token] = client.post("../tokenize", cast_to=object, body={"prompt": text, "add_special_tokens": False})["tokens"]
    return str(token)


def is_beginning(text):
    """Whether some end makes a JSON object of it: a value or what is left of one, then all that is open is closed."""
    open_brackets, in_string, escaped = [], False, False
    for character in text:
        if in_string:
            in_string, escaped = escaped or character != '"', character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            open_brackets.append("]" if character == "[" else "}")
        elif character in "]}":
            if not open_brackets or open_brackets.pop() != character:
                return False
    ends = ["", "0", ":0", '"":0', '"a":0', '"', '":0', "rue", "ue", "e", "alse", "lse", "se", "ull", "ll", "l", "+0"]
    ends += [escape + end for escape in ("n", "0", "00", "000", "0000", "u0000") for end in ('"', '":0')]
    closed = "".join(reversed(open_brackets))
    for begin, end in itertools.product(("", "{"), ends):
        try:
            if isinstance(json.loads(begin + text + end + closed + ("}" if begin else "")), dict):
                return begin == "" or text.strip() == ""
        except ValueError:
            pass
    return False


def test_the_judge_of_beginnings():
    whole = '{"a": [1.5e+3, true, null, {"b\\u00e9\\n": "x"}], "c": {}}'
    assert all(is_beginning(whole[:n]) for n in range(len(whole) + 1))
    assert not any(map(is_beginning, ('{"a" 1', "{]", "[1", "{1", '{"a":tx', '{"a":1}}', "Sure: {", '{"a":1,,', '{"a":01', "nul")))


def test_an_object_that_ends_is_an_object(client):
    # The model hardly closes a bracket by itself; what it is let to say after one it closes is for the grammar to say.
    bias = {token_of(client, "}"): 12, token_of(client, '"'): 4}
    finished = 0
    for temperature, seed in itertools.product((0.7, 1, 2), (1, 2)):
        for choice in ask(client, response_format=ANY, logit_bias=bias, temperature=temperature, seed=seed, n=8, max_tokens=200):
            text = choice.message.content
            assert choice.finish_reason in ("stop", "length")
            if choice.finish_reason == "stop":
                assert isinstance(json.loads(text), dict), text
                finished += len(text) > 4
            else:
                assert is_beginning(text), text
    assert finished >= 20


@pytest.mark.parametrize("form", [ANY, HELD], ids=["json_object", "json_schema"])
def test_what_is_cut_is_a_beginning(client, form):
    how = dict(response_format=form, temperature=1.3, seed=7)
    [longer] = ask(client, **how, max_tokens=160)
    for n_tokens in (1, 2, 3, 5, 8, 13, 21, 34, 55):
        answer = client.chat.completions.create(model="tiny-moe", messages=MESSAGES, **how, max_tokens=n_tokens)
        [cut] = answer.choices
        assert answer.usage.completion_tokens == n_tokens and cut.finish_reason == "length"
        assert longer.message.content.startswith(cut.message.content.rstrip("\ufffd"))
        assert is_beginning(cut.message.content.rstrip("\ufffd")), cut.message.content
    for choice in ask(client, response_format=form, temperature=3, seed=1, n=16, max_tokens=24):
        assert is_beginning(choice.message.content.rstrip("\ufffd")), choice.message.content


@pytest.mark.parametrize("temperature", [0, 1, 4])
def test_nested_schemas_hold(client, temperature):
    validator = jsonschema_rs.Draft202012Validator(NESTED)
    choices = ask(client, response_format=HELD, temperature=temperature, seed=9, n=16, max_tokens=900)
    for choice in choices:
        assert choice.finish_reason == "stop"
        value = json.loads(choice.message.content)
        assert validator.is_valid(value), value
    assert temperature == 0 or len({choice.message.content for choice in choices}) > 8


def test_a_stream_says_the_same(client):
    how = dict(response_format=HELD, temperature=1, seed=2, max_tokens=900)
    [whole] = ask(client, **how)
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(model="tiny-moe", messages=MESSAGES, stream=True, **how)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == whole.message.content
    assert chunks[-1].finish_reason == whole.finish_reason == "stop"
