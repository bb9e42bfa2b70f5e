"""response_format, forced tools, and the parsing of calls and reasoning, through the openai client."""

import json
import pathlib
import shutil

import openai
import pytest
from conftest import MODEL, QUESTION, Server

MESSAGES = [{"role": "user", "content": QUESTION}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "legs": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["horse", "hen"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "legs", "kind", "tags"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "count_legs",
            "description": "Counts legs",
            "parameters": {
                "type": "object",
                "properties": {"horses": {"type": "integer", "minimum": 0, "maximum": 999}},
                "required": ["horses"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "give_up", "parameters": {"type": "object", "properties": {}}}},
]


def format_of(schema):
    return {"type": "json_schema", "json_schema": {"name": "animal", "schema": schema, "strict": True}}


@pytest.mark.parametrize("temperature", [0, 1, 5])
def test_json_of_a_schema(client, temperature):
    answer = client.chat.completions.create(
        model="tiny-moe", messages=MESSAGES, response_format=format_of(SCHEMA), temperature=temperature,
        seed=5, n=3, max_tokens=900,
    )  # fmt: skip
    for choice in answer.choices:
        value = json.loads(choice.message.content)
        assert choice.finish_reason == "stop"
        assert list(value) == ["name", "legs", "kind", "tags"]
        assert len(value["name"]) <= 8 and 0 <= value["legs"] <= 99 and value["kind"] in ("horse", "hen")


def test_any_json_object_streams(client):
    stream = client.chat.completions.create(
        model="tiny-moe", messages=MESSAGES, response_format={"type": "json_object"}, temperature=1.5, seed=1,
        max_tokens=1500, stream=True,
    )  # fmt: skip
    text, finish = "", None
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason or finish
    assert text.lstrip().startswith("{")
    if finish == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    "schema", [{"type": "alien"}, {"type": "string", "pattern": "(a+)+$"}, {"$ref": "#/nowhere"}, {"type": "integer", "minimum": 5, "maximum": 1}]
)  # fmt: skip
def test_a_schema_that_cannot_be_held_to_is_refused(client, schema):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny-moe", messages=MESSAGES, response_format=format_of(schema))
    assert refused.value.body["param"] == "response_format.json_schema.schema"


def test_a_named_tool_is_called(client):
    choice = {"type": "function", "function": {"name": "count_legs"}}
    answer = client.chat.completions.create(
        model="tiny-moe", messages=MESSAGES, tools=TOOLS, tool_choice=choice, temperature=1, seed=2, max_tokens=900
    ).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    [call] = answer.message.tool_calls
    assert call.type == "function" and call.id.startswith("call_")
    assert call.function.name == "count_legs"
    assert set(json.loads(call.function.arguments)) == {"horses"}


def test_required_calls_one_of_the_tools_and_streams(client):
    arguments = dict(
        model="tiny-moe", messages=MESSAGES, tools=TOOLS, tool_choice="required", temperature=1, seed=4, max_tokens=900
    )
    whole = client.chat.completions.create(**arguments).choices[0].message.tool_calls[0]
    name, text, ids = "", "", set()
    for chunk in client.chat.completions.create(**arguments, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.index == 0
            name += call.function.name or ""
            text += call.function.arguments or ""
            if call.id:
                ids.add(call.id)
    assert len(ids) == 1
    assert (name, text) == (whole.function.name, whole.function.arguments)
    assert name in ("count_legs", "give_up")
    json.loads(text)


def test_tools_that_the_template_does_not_know_are_refused(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny-moe", messages=MESSAGES, tools=TOOLS)
    assert refused.value.body["param"] == "tools"
    client.chat.completions.create(model="tiny-moe", messages=MESSAGES, tools=TOOLS, tool_choice="none", max_tokens=2)
    choice = {"type": "function", "function": {"name": "other"}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny-moe", messages=MESSAGES, tools=TOOLS, tool_choice=choice)
    assert refused.value.body["param"] == "tool_choice.function.name"


# A template that shows the tools and puts words into the model's mouth shows what is parsed back:
# what the model "says" is the end of its prompt here, as it repeats nothing of its own.
TEMPLATE = """{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor -%}
{%- if tools %}{% for tool in tools %}{{ tool.function.name }} {% endfor %}<tool_call>{% endif -%}
<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{# </think> #}"""


def test_a_template_of_ones_own_with_thinking(start, folder):
    file = folder / "thinking.jinja"
    file.write_text(TEMPLATE)
    server = start("--chat-template", str(file), "--served-model-name", "mine", "--served-model-name", "tiny-moe")
    with openai.OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["mine", "tiny-moe"]
        thinking = client.chat.completions.create(
            model="mine", messages=MESSAGES, max_tokens=20, extra_body={"chat_template_kwargs": {"enable_thinking": True}}
        )
        assert thinking.choices[0].message.reasoning_content, "the prompt left <think> open"
        assert thinking.choices[0].message.content == ""
        assert thinking.usage.completion_tokens_details.reasoning_tokens > 0
        plain = client.chat.completions.create(model="tiny-moe", messages=MESSAGES, max_tokens=20)
        assert plain.choices[0].message.content
        assert plain.model == "mine"
        pieces = [
            chunk.choices[0].delta.model_extra.get("reasoning_content", "")
            for chunk in client.chat.completions.create(
                model="mine", messages=MESSAGES, max_tokens=20, stream=True,
                extra_body={"chat_template_kwargs": {"enable_thinking": True}},
            )
        ]  # fmt: skip
        assert "".join(pieces) == thinking.choices[0].message.reasoning_content
        client.chat.completions.create(model="mine", messages=MESSAGES, tools=TOOLS, max_tokens=5)


@pytest.fixture(scope="module")
def thinking(folder):
    """The shipped model with </think> in place of its unused <|endoftext|>, and a template that opens reasoning."""
    model = folder / "thinker"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(pathlib.Path(MODEL) / name, model)
    tokenizer = json.loads((pathlib.Path(MODEL) / "tokenizer.json").read_text())
    [ends] = [token for token in tokenizer["added_tokens"] if token["id"] == THINK_END]
    ends |= {"content": "</think>", "special": False}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    (model / "generation_config.json").write_text('{"eos_token_id": 1535}')
    (model / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    template = folder / "thinker.jinja"
    template.write_text(TEMPLATE)
    server = Server(folder, "--chat-template", str(template), "--served-model-name", "tiny-moe", model=str(model))
    with openai.OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0) as made:
        yield made
    assert server.stop() == 0


THINK_END = 1533
# </think> comes about every tenth token, and after it nowhere but where the grammar would let it.
THINK = dict(model="tiny-moe", messages=MESSAGES, temperature=1.5, max_tokens=1500, logit_bias={str(THINK_END): 11},
             extra_body={"chat_template_kwargs": {"enable_thinking": True}})  # fmt: skip


def test_json_begins_after_the_reasoning(thinking):
    answer = thinking.chat.completions.create(response_format=format_of(SCHEMA), n=8, seed=3, **THINK)
    for choice in answer.choices:
        assert choice.finish_reason == "stop", choice
        assert set(json.loads(choice.message.content)) == {"name", "legs", "kind", "tags"}
    reasonings = [choice.message.reasoning_content or "" for choice in answer.choices]
    assert sum(len(text) > 20 for text in reasonings) >= 3, "free text, not JSON of the schema"
    raw = {**THINK, "extra_body": {**THINK["extra_body"], "separate_reasoning": False}}
    whole = thinking.chat.completions.create(response_format=format_of(SCHEMA), n=8, seed=3, **raw)
    for split, choice in zip(answer.choices, whole.choices):
        reasoning, end, text = choice.message.content.partition("</think>")
        assert end and json.loads(text) == json.loads(split.message.content)
        assert reasoning.strip("\n") == (split.message.reasoning_content or "").strip("\n")


def test_a_forced_call_begins_after_the_reasoning(thinking):
    arguments = dict(tools=TOOLS, tool_choice="required", seed=5, **THINK)
    answer = thinking.chat.completions.create(n=4, **arguments)
    for choice in answer.choices:
        assert choice.finish_reason == "tool_calls" and not choice.message.content
        json.loads(choice.message.tool_calls[0].function.arguments)
    assert any(choice.message.reasoning_content for choice in answer.choices)
    reasoning, called = "", ""
    for chunk in thinking.chat.completions.create(stream=True, **arguments):
        delta = chunk.choices[0].delta
        reasoning += delta.model_extra.get("reasoning_content") or ""
        for call in delta.tool_calls or []:
            called += call.function.arguments or ""
    first = answer.choices[0].message
    assert (reasoning, called) == (first.reasoning_content or "", first.tool_calls[0].function.arguments)


def test_json_begins_at_once_where_no_reasoning_is_open(thinking):
    closed = {**THINK, "extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}
    choice = thinking.chat.completions.create(response_format=format_of(SCHEMA), seed=3, **closed).choices[0]
    assert set(json.loads(choice.message.content)) == {"name", "legs", "kind", "tags"}


def test_reasoning_that_no_token_ends_is_refused(start, folder):
    file = folder / "endless.jinja"
    file.write_text(TEMPLATE)
    server = start("--chat-template", str(file), "--served-model-name", "tiny-moe")
    with openai.OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(response_format=format_of(SCHEMA), **{**THINK, "logit_bias": {}})
        assert refused.value.body["param"] == "response_format"
