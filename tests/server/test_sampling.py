"""Every parameter of a generation, each on its own, over HTTP: the answer is that of `moeopt run` with the same flag,
and another one than without it, so that a parameter which is ignored is found."""

import pytest
from conftest import arguments_of, flags_of, run_program

QUESTION = "Tell me about the sky and a turtle"  # of which the model is not sure
MESSAGES = [{"role": "user", "content": QUESTION}]
SAMPLED = {"temperature": 1.5, "seed": 3}
PARAMETERS = [
    ({}, {"temperature": 0.7, "seed": 3}),
    ({"temperature": 1.5}, {"seed": 8}),
    (SAMPLED, {"top_p": 0.5}),
    (SAMPLED, {"top_k": 2}),
    (SAMPLED, {"min_p": 0.3}),
    (SAMPLED, {"repetition_penalty": 1.4}),
    (SAMPLED, {"presence_penalty": 1.9}),
    (SAMPLED, {"frequency_penalty": 1.9}),
    ({}, {"repetition_penalty": 3}),
    ({}, {"logit_bias": {"17": 12}}),
    ({}, {"stop": ["sal", "never"]}),
    ({}, {"min_tokens": 75}),
    ({}, {"ignore_eos": True}),
    ({}, {"max_tokens": 9}),
    ({}, {"max_completion_tokens": 9}),
]


@pytest.mark.parametrize("base,more", PARAMETERS, ids=lambda value: "-".join(value))
def test_a_parameter_on_its_own(client, base, more):
    limit = {} if "max_tokens" in more or "max_completion_tokens" in more else {"max_tokens": 80}
    with_it, without_it = {**limit, **base, **more}, {"max_tokens": 80, **base}
    expected = run_program("--chat", QUESTION, *flags_of(with_it))
    without = run_program("--chat", QUESTION, *flags_of({**without_it, "seed": without_it.get("seed", 0)}))
    answer = client.chat.completions.create(model="tiny-moe", messages=MESSAGES, **arguments_of(with_it))
    assert answer.choices[0].message.content == expected["text"] != without["text"]
    assert answer.choices[0].finish_reason == expected["finish_reason"]
    assert answer.usage.completion_tokens == expected["output_tokens"]
    prompt = client.post("../tokenize", cast_to=object, body={"messages": MESSAGES})["tokens"]
    completion = client.completions.create(model="tiny-moe", prompt=prompt, **arguments_of(
        {name.replace("completion_", ""): value for name, value in with_it.items()}))  # fmt: skip
    assert completion.choices[0].text == expected["text"]
    pieces = client.chat.completions.create(model="tiny-moe", messages=MESSAGES, stream=True, **arguments_of(with_it))
    assert "".join(choice.delta.content or "" for chunk in pieces for choice in chunk.choices) == expected["text"]


def test_what_each_one_means(client):
    """Where the answer itself shows it."""

    def ask(**parameters):
        return client.chat.completions.create(model="tiny-moe", messages=MESSAGES, **arguments_of(parameters))

    hot = {"temperature": 50, "max_tokens": 12}
    greedy = ask(max_tokens=12).choices[0].message.content
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1}):
        assert ask(**hot, seed=1, **narrow).choices[0].message.content == greedy, narrow
        assert ask(**hot, seed=1).choices[0].message.content != greedy
    natural = ask().usage.completion_tokens
    longer = ask(min_tokens=natural + 5, max_tokens=natural + 20)
    assert natural + 5 <= longer.usage.completion_tokens
    endless = ask(ignore_eos=True, max_tokens=natural + 7)
    assert (endless.usage.completion_tokens, endless.choices[0].finish_reason) == (natural + 7, "length")
    answers = ask(n=4, temperature=1.5, seed=2, max_tokens=20).choices
    assert len({choice.message.content for choice in answers}) > 1 and [choice.index for choice in answers] == [0, 1, 2, 3]
    forced = ask(logit_bias={"17": 100}, max_tokens=3)
    assert forced.choices[0].message.content == 3 * client.post(
        "../detokenize", cast_to=object, body={"tokens": [17]})["prompt"]  # fmt: skip
    ends = client.post("../tokenize", cast_to=object, body={"prompt": greedy, "add_special_tokens": False})["tokens"][4]
    stopped = ask(stop_token_ids=[ends], max_tokens=12)
    assert stopped.choices[0].finish_reason == "stop" and stopped.usage.completion_tokens <= 5
    assert greedy.startswith(stopped.choices[0].message.content) and stopped.choices[0].message.content != greedy
    shown = ask(ignore_eos=True, skip_special_tokens=False, max_tokens=natural + 7)
    assert "<|im_end|>" in shown.choices[0].message.content and "<|im_end|>" not in endless.choices[0].message.content
