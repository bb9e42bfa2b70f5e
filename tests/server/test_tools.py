"""Tools through the openai client: shown to the template, calls read back, results fed back, in Qwen's and DeepSeek's
formats. The models (tool_models.py) say given texts, so that every answer is known."""

import asyncio
import json

import pytest
import tool_models
from conftest import Server, async_client_of, client_of
from tool_models import ARGUMENTS, ARGUMENTS_JSON

MESSAGES = [{"role": "user", "content": "How warm is it?"}]
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Of a city & its <days>",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Zürich"]}}, "required": ["city"],
                       "additionalProperties": False}}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}},
]  # fmt: skip
ASK = dict(model="m", messages=MESSAGES, tools=TOOLS)
MARKERS = ("tool_call", "tool▁", "```", "<|", "<｜")


@pytest.fixture(scope="module", params=["qwen", "deepseek"])
def made(request, folder):
    """A ToolModel, its server and a client."""
    tool_model = getattr(tool_models, request.param)(folder / request.param)
    server = Server(folder, "--served-model-name", "m", model=str(tool_model.model.folder))
    with client_of(server) as client:
        yield tool_model, server, client
    server.idle()
    assert server.stop() == 0, server.stderr()


def says(script, **more):
    return {"extra_body": {"chat_template_kwargs": {"says": script, **more}}}


def calls_of(message):
    return [(call.function.name, call.function.arguments) for call in message.tool_calls or []]


class Reassembled:
    """What a stream's deltas add up to, checked on the way."""

    def __init__(self, index=0):
        self.index, self.content, self.reasoning, self.finish = index, "", "", None
        self.calls: list[dict] = []
        self.n_deltas = 0

    def take(self, chunk):
        for choice in chunk.choices:
            if choice.index != self.index:
                continue
            assert self.finish is None, "nothing comes after the end"
            self.content += choice.delta.content or ""
            self.reasoning += choice.delta.model_extra.get("reasoning_content") or ""
            for call in choice.delta.tool_calls or []:
                if call.index == len(self.calls):
                    assert call.id and call.type == "function" and call.function.name
                    self.calls.append({"id": call.id, "name": call.function.name, "arguments": ""})
                else:
                    assert call.index == len(self.calls) - 1, "one call after the other"
                    assert call.id is None and call.type is None and call.function.name is None
                self.calls[call.index]["arguments"] += call.function.arguments
                self.n_deltas += 1
            self.finish = choice.finish_reason
        return self

    def pairs(self):
        return [(call["name"], call["arguments"]) for call in self.calls]


def test_calls_are_read_back(made):
    tool_model, _, client = made
    for more in ({}, {"tool_choice": "auto"}, {"parallel_tool_calls": True}):
        [choice] = client.chat.completions.create(**ASK, **more).choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == tool_model.content
        first, second = choice.message.tool_calls
        assert (first.function.name, second.function.name) == ("get_weather", "now")
        assert first.function.arguments == ARGUMENTS_JSON and json.loads(ARGUMENTS_JSON) == ARGUMENTS
        assert json.loads(second.function.arguments) == {}
        assert {first.type, second.type} == {"function"}
        assert first.id != second.id and first.id.startswith("call_")


def test_deltas_add_up_to_the_whole_answer(made):
    whole = made[2].chat.completions.create(**ASK, n=2)
    streams = [Reassembled(0), Reassembled(1)]
    for chunk in made[2].chat.completions.create(**ASK, n=2, stream=True):
        for stream in streams:
            stream.take(chunk)
        for choice in chunk.choices:
            assert not any(marker in (choice.delta.content or "") for marker in MARKERS)
    for stream, choice in zip(streams, whole.choices, strict=True):
        assert stream.finish == choice.finish_reason == "tool_calls"
        assert stream.content == choice.message.content
        assert stream.pairs() == calls_of(choice.message) and len(stream.calls) == 2
        assert stream.n_deltas > 10, "arguments stream as they come"
    ids = [call["id"] for stream in streams for call in stream.calls]
    assert len(set(ids)) == 4


def test_calls_in_their_other_form_are_read_back(made):
    """Qwen's without white space, and DeepSeek V3.1's."""
    [choice] = made[2].chat.completions.create(**ASK, **says("compact")).choices
    assert calls_of(choice.message) == [("get_weather", ARGUMENTS_JSON), ("now", "{}")]
    assert choice.message.content == "Let me see."


def test_what_only_looks_like_a_call_is_content(made):
    [choice] = made[2].chat.completions.create(**ASK, **says("broken")).choices
    assert choice.message.tool_calls is None and choice.finish_reason == "stop"
    assert choice.message.content == "".join(made[0].scripts["broken"])


def prompt_of(client, **body):
    ids = client.post("../tokenize", cast_to=object, body=body)["tokens"]
    return client.post("../detokenize", cast_to=object, body={"tokens": ids})["prompt"], len(ids)


def test_the_template_is_given_the_tools(made):
    """As JSON that says what the client said; the chat has the very prompt that /tokenize shows."""
    tool_model, _, client = made
    prompt, n_tokens = prompt_of(client, messages=MESSAGES, tools=TOOLS)
    assert prompt.startswith(tool_model.tools_shown)
    lines = prompt[len(tool_model.tools_shown) :].splitlines()
    assert [json.loads(line) for line in lines[:2]] == TOOLS
    assert client.chat.completions.create(**ASK).usage.prompt_tokens == n_tokens
    without, n_without = prompt_of(client, messages=MESSAGES)
    assert "get_weather" not in without
    answer = client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.usage.prompt_tokens == n_without
    assert answer.choices[0].message.content == "There is no tool here."


def test_tool_choice_none_shows_no_tools_and_reads_no_calls(made):
    tool_model, _, client = made
    _, n_without = prompt_of(client, messages=MESSAGES)
    answer = client.chat.completions.create(**ASK, tool_choice="none")
    assert answer.usage.prompt_tokens == n_without
    assert answer.choices[0].message.content == "There is no tool here."
    assert answer.choices[0].finish_reason == "stop"
    # Text that would be a call stays text.
    show = {"chat_template_kwargs": {"says": "calls"}, "skip_special_tokens": False}
    [choice] = client.chat.completions.create(**ASK, tool_choice="none", extra_body=show).choices
    assert choice.message.content == "".join(tool_model.scripts["calls"])
    assert choice.message.tool_calls is None and choice.finish_reason == "stop"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=["required", "named"])
def test_a_forced_call_is_one_of_the_tools(made, choice):
    arguments = dict(ASK, tool_choice=choice, temperature=1, seed=3)
    [whole] = made[2].chat.completions.create(**arguments).choices
    assert whole.finish_reason == "tool_calls" and whole.message.content is None
    [(name, text)] = calls_of(whole.message)
    called = json.loads(text)
    if choice != "required" or name == "get_weather":
        assert name == "get_weather" and called["city"] in ("Oslo", "Zürich")
    else:
        assert (name, called) == ("now", {})
    stream = Reassembled()
    for chunk in made[2].chat.completions.create(**arguments, stream=True):
        stream.take(chunk)
    assert (stream.pairs(), stream.finish, stream.content) == ([(name, text)], "tool_calls", "")


def test_results_are_fed_back(made):
    tool_model, _, client = made
    message = client.chat.completions.create(**ASK).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "31"}
    conversation = [*MESSAGES, message.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(model="m", messages=conversation, tools=TOOLS)
    assert answer.choices[0].message.content == "It is 31 degrees."
    assert answer.choices[0].finish_reason == "stop"
    prompt, n_tokens = prompt_of(client, messages=conversation, tools=TOOLS)
    assert prompt.endswith(tool_model.second_turn + "<|says:result|>"), prompt
    assert answer.usage.prompt_tokens == n_tokens
    lost = [*conversation[:-1], {**result, "content": "32"}]
    [choice] = client.chat.completions.create(model="m", messages=lost, tools=TOOLS).choices
    assert choice.message.content == "Nobody told me."


def test_a_call_that_is_cut_says_so(made):
    """As OpenAI does: what there is of the arguments, and finish_reason "length"."""
    tool_model, _, client = made
    ids = tool_model.model.scripts["calls"]
    text = [tool_model.model.tokens[i] for i in ids]
    n_tokens = next(i for i in range(len(text)) if b"Altstadt" in b"".join(t if isinstance(t, bytes) else b"" for t in text[:i]))
    [choice] = client.chat.completions.create(**ASK, max_tokens=n_tokens).choices
    [(name, arguments)] = calls_of(choice.message)
    assert choice.finish_reason == "length" and name == "get_weather"
    assert "Altstadt" in arguments and ARGUMENTS_JSON.startswith(arguments) and arguments != ARGUMENTS_JSON


def test_reasoning_comes_before_the_calls(made):
    thinking = {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}
    answer = made[2].chat.completions.create(**ASK, **thinking)
    [choice] = answer.choices
    assert choice.message.reasoning_content == "I need the weather.\nAnd the time."
    assert calls_of(choice.message) == [("get_weather", ARGUMENTS_JSON), ("now", "{}")]
    assert choice.finish_reason == "tool_calls" and not choice.message.content
    script = made[0].model.scripts["thinks"]
    n_reasoning = script.index(made[0].model.ids["</think>"])
    assert answer.usage.completion_tokens == len(script)
    assert 0 <= n_reasoning - answer.usage.completion_tokens_details.reasoning_tokens <= 1
    stream = Reassembled()
    for chunk in made[2].chat.completions.create(**ASK, **thinking, stream=True):
        stream.take(chunk)
    assert (stream.reasoning, stream.content) == (choice.message.reasoning_content, choice.message.content or "")
    assert (stream.pairs(), stream.finish) == (calls_of(choice.message), "tool_calls")
    off = {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}
    [choice] = made[2].chat.completions.create(**ASK, **off).choices
    assert "reasoning_content" not in choice.message.model_extra and len(choice.message.tool_calls) == 2
    raw = {"extra_body": {**thinking["extra_body"], "separate_reasoning": False}}
    [choice] = made[2].chat.completions.create(model="m", messages=MESSAGES, tools=TOOLS, tool_choice="none", **raw).choices
    assert choice.message.content.startswith("I need the weather.\nAnd the time.</think>")


def test_tools_through_the_async_client(made):
    async def ask():
        async with async_client_of(made[1]) as client:
            async def stream():
                reassembled = Reassembled()
                async for chunk in await client.chat.completions.create(**ASK, stream=True):
                    reassembled.take(chunk)
                return reassembled.pairs(), reassembled.finish

            async def whole():
                [choice] = (await client.chat.completions.create(**ASK)).choices
                return calls_of(choice.message), choice.finish_reason

            return await asyncio.gather(*[f() for f in (stream, whole) for _ in range(4)])

    expected = ([("get_weather", ARGUMENTS_JSON), ("now", "{}")], "tool_calls")
    assert asyncio.run(ask()) == [expected] * 8
