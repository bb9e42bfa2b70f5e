"""The async openai client: many requests at a time whose texts are those of `moeopt run`, and what cancelling does."""

import asyncio
import json
import time

import openai
import pytest
from conftest import QUESTION, arguments_of, async_client_of, flags_of, run_program

MESSAGES = [{"role": "user", "content": QUESTION}]
PROMPT = "A farm has"
ENDLESS = {"max_tokens": 1900, "extra_body": {"ignore_eos": True}}
GENERATIONS = [
    {"max_tokens": 60},
    *({"max_tokens": 30 + seed, "temperature": 1.4, "top_p": 0.9, "seed": seed} for seed in range(6)),
    {"max_tokens": 40, "temperature": 1, "seed": 3, "top_k": 5, "min_p": 0.02},
    {"max_tokens": 40, "temperature": 1.2, "seed": 9, "repetition_penalty": 1.2},
]


def with_client(server, work):
    """What `work` of an async client comes to."""

    async def run():
        async with async_client_of(server) as client:
            return await work(client)

    return asyncio.run(run())


async def text_of(stream, n=10**9):
    """Of a stream's first n pieces."""
    text = ""
    async for chunk in stream:
        for choice in chunk.choices:
            text += choice.text if hasattr(choice, "text") else choice.delta.content or ""
        n -= 1
        if n == 0:
            break
    return text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_texts_are_those_of_the_program(server, stream):
    """Chats and completions at the same time, more than run in one step."""
    expected = [run_program(flag, text, *flags_of(each))["text"]
                for flag, text in (("--chat", QUESTION), ("--prompt", PROMPT)) for each in GENERATIONS]  # fmt: skip

    async def work(client):
        async def chat(parameters):
            answer = await client.chat.completions.create(
                model="tiny-moe", messages=MESSAGES, stream=stream, **arguments_of(parameters))  # fmt: skip
            return await text_of(answer) if stream else answer.choices[0].message.content

        async def complete(parameters):
            answer = await client.completions.create(
                model="tiny-moe", prompt=PROMPT, stream=stream, **arguments_of(parameters))  # fmt: skip
            return await text_of(answer) if stream else answer.choices[0].text

        return await asyncio.gather(*map(chat, GENERATIONS), *map(complete, GENERATIONS))

    assert with_client(server, work) == expected


def test_the_other_features(server):
    async def work(client):
        create = client.chat.completions.create
        schema = {"type": "object", "properties": {"legs": {"enum": [4, 8]}}, "required": ["legs"], "additionalProperties": False}
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
        models, held, scored, usage, several = await asyncio.gather(
            client.models.list(),
            create(model="tiny-moe", messages=MESSAGES, response_format=wanted),
            client.completions.create(model="tiny-moe", prompt=PROMPT, max_tokens=0, echo=True, logprobs=1),
            create(model="tiny-moe", messages=MESSAGES, max_tokens=5, stream=True, stream_options={"include_usage": True}),
            create(model="tiny-moe", messages=MESSAGES, max_tokens=5, n=3, logprobs=True),
        )
        assert [model.id for model in models.data] == ["tiny-moe"]
        assert json.loads(held.choices[0].message.content)["legs"] in (4, 8)
        assert scored.choices[0].text == PROMPT and scored.choices[0].logprobs.token_logprobs[1] < 0
        assert [chunk.usage.completion_tokens async for chunk in usage if chunk.usage] == [5]
        assert [len(choice.logprobs.content) for choice in several.choices] == [5, 5, 5]
        with pytest.raises(openai.BadRequestError) as refused:
            await create(model="tiny-moe", messages=MESSAGES, temperature=-1)
        assert refused.value.body["param"] == "temperature"
        with pytest.raises(openai.NotFoundError):
            await create(model="gpt-9", messages=MESSAGES)

    with_client(server, work)


@pytest.mark.parametrize("how", ["task", "close", "timeout", "whole"])
def test_cancelling_ends_the_request_alone(server, how):
    expected = run_program("--chat", QUESTION, "--max-tokens", "60")["text"]
    request_id = f"async-{how}-{time.monotonic_ns()}"
    before = server.idle()["backend"]["tokens"]

    async def work(client):
        started = asyncio.Event()

        async def endless():
            create = client.chat.completions.create
            ask = dict(model="tiny-moe", messages=MESSAGES, extra_headers={"X-Request-Id": request_id}, **ENDLESS)
            if how == "whole":
                started.set()
                return await create(**ask)
            stream = await create(**ask, stream=True)
            if how == "close":
                await text_of(stream, 5)
                await stream.close()
                return started.set()
            async for _ in stream:
                started.set()
            return None

        async def others():
            answers = [client.chat.completions.create(model="tiny-moe", messages=MESSAGES, max_tokens=60) for _ in range(4)]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*answers)]

        beside = asyncio.create_task(others())
        if how == "timeout":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(endless(), 0.15)
        else:
            task = asyncio.create_task(endless())
            await started.wait()
            if how == "whole":
                await asyncio.sleep(0.1)
            task.cancel()
            if how != "close":
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert await beside == [expected] * 4

    with_client(server, work)
    [line] = server.log_lines(request_id)
    assert " 499 " in line and "client gone" in line, line
    computed = server.idle()["backend"]["tokens"] - before
    assert computed < 1600, f"{computed} tokens were computed, those that nobody waited for too"
