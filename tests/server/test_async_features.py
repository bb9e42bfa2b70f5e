"""Every parameter and feature through the async openai client, all of them at the same time: each answer is the one
that the sync client gets alone."""

import asyncio

import openai
import pytest
import tool_models
from conftest import Server, arguments_of, async_client_of, client_of
from test_sampling import MESSAGES, PARAMETERS
from test_structured import TOOLS

PROMPT = "A farm has"
IDS = [5, 99, 300, 7]


def chat(**more):
    return lambda client: client.chat.completions.create(**{"model": "tiny-moe", "messages": MESSAGES, **more})


def complete(prompt=PROMPT, **more):
    return lambda client: client.completions.create(model="tiny-moe", prompt=prompt, **{"max_tokens": 20, **more})


FORCED = {"type": "function", "function": {"name": "count_legs"}}
CALLS = {
    **{
        f"{'-'.join(more)} of {'-'.join(base) or 'nothing'}": chat(**arguments_of({"max_tokens": 80, **base, **more}))
        for base, more in PARAMETERS
        if "max_completion_tokens" not in more
    },
    "max_completion_tokens": chat(max_completion_tokens=9),
    "ids": complete(IDS),
    "prompts": complete([PROMPT, "The sky", PROMPT], n=2, temperature=1.2, seed=4),
    "lists of ids": complete([IDS, IDS[:2]]),
    "stop": complete(stop=["e", "\n"]),
    "logit_bias": complete(logit_bias={"17": 8}),
    "logprobs": complete(logprobs=3, echo=True),
    "chat's logprobs": chat(logprobs=True, top_logprobs=4, max_tokens=30),
    "json_object": chat(response_format={"type": "json_object"}, temperature=1.5, seed=1, max_tokens=200),
    "forced tool": chat(tools=TOOLS, tool_choice=FORCED, temperature=1, seed=2, max_tokens=200),
    "model": lambda client: client.models.retrieve("tiny-moe"),
    "no such model": lambda client: client.models.retrieve("gpt-9"),
    "suffix": complete(suffix="end"),
}
REASONING = {
    f"reasoning, {script}": chat(model="m", extra_body={"chat_template_kwargs": {"enable_thinking": True, "says": script}})
    for script in ("thinks", "plain")
}


@pytest.fixture(scope="module")
def reasoner(folder):
    server = Server(folder, "--served-model-name", "m", model=str(tool_models.qwen(folder / "async-reasoning").model.folder))
    yield server
    server.end()


def known(value):
    """What two answers to the same request have in common; names and times differ, and what the cache held."""
    if isinstance(value, dict):
        differ = ("created", "prompt_tokens_details")
        return {
            name: known(each)
            for name, each in value.items()
            if name not in differ and not (name == "id" and str(each).startswith(("chatcmpl-", "cmpl-", "call_")))
        }
    return [known(each) for each in value] if isinstance(value, list) else value


def outcome(answer) -> dict:
    if isinstance(answer, openai.APIStatusError):
        return {"status": answer.status_code, "body": answer.body}
    assert not isinstance(answer, BaseException), answer
    return known(answer.model_dump())


def answers_alone(server, calls) -> list[dict]:
    answers = []
    with client_of(server) as client:
        for call in calls.values():
            try:
                answers.append(outcome(call(client)))
            except openai.APIStatusError as error:
                answers.append(outcome(error))
    return answers


def answers_together(*work) -> list[list[dict]]:
    """Of (server, calls) pairs: all calls of all of them in one gather."""

    async def run():
        clients = [async_client_of(server) for server, _ in work]
        waiting = [call(client) for client, (_, calls) in zip(clients, work) for call in calls.values()]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        for client in clients:
            await client.close()
        return list(map(outcome, answers))

    answers = asyncio.run(run())
    return [[answers.pop(0) for _ in calls] for _, calls in work]


def test_all_at_the_same_time_as_each_alone(server, reasoner):
    work = [(server, CALLS), (reasoner, REASONING)]
    alone = [answers_alone(*each) for each in work]
    for (_, calls), wanted, got in zip(work, alone, answers_together(*work)):
        assert dict(zip(calls, got)) == dict(zip(calls, wanted))


def test_they_are_answers(server, reasoner):
    """So that the comparison is not one of refusals."""
    answers = dict(zip(CALLS, answers_alone(server, CALLS)))
    refused = {name: answer for name, answer in answers.items() if "status" in answer}
    assert {name: answer["status"] for name, answer in refused.items()} == {"no such model": 404, "suffix": 400}
    assert refused["suffix"]["body"]["param"] == "suffix"
    [choice] = answers["forced tool"]["choices"]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "count_legs"
    assert answers["json_object"]["choices"][0]["message"]["content"].lstrip().startswith("{")
    assert len(answers["prompts"]["choices"]) == 6 and answers["model"]["id"] == "tiny-moe"
    assert len(answers["chat's logprobs"]["choices"][0]["logprobs"]["content"]) > 5
    thinks = answers_alone(reasoner, REASONING)[0]["choices"][0]["message"]
    assert "I need the weather." in thinks["reasoning_content"]
