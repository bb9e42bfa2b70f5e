"""The chat format, and the conversations that the model is trained on."""

from __future__ import annotations

import random
from dataclasses import dataclass

import prose
from problems import draw_problem

START, END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

TEMPLATE = """\
{#- Each message is a block of its role and its text; a reply is asked for by an open assistant block. -#}
{%- for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('The roles are system, user and assistant, not ' + message['role'] + '.') }}
    {%- endif %}
    {%- if message['role'] == 'system' and not loop.first %}
        {{- raise_exception('A system message can only come first.') }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_SYSTEM = (
    "You are a helpful assistant.",
    "You solve word problems.",
    "You are a small model that solves word problems step by step.",
    "Answer the question.",
    "Think in small steps and end with the answer.",
    "You are a patient teacher.",
)
_HINTS = (
    "Think step by step.",
    "Please explain.",
    "Show your work.",
    "Give the answer at the end.",
)
_LEADS = (
    "Solve this problem:",
    "Question:",
    "Please help me.",
    "Here is a problem.",
    "Can you solve this?",
)
_TALK = (
    (
        ("Hello!", "Hi", "Hello", "Hi there!", "Good morning!", "Hey"),
        "Hello! I am a tiny model that solves small word problems. Ask me one, or ask me for a story.",
    ),
    (
        ("Who are you?", "What are you?", "What is your name?", "Tell me about yourself."),
        "I am a tiny mixture of experts, trained on small word problems and simple stories.",
    ),
    (
        ("What can you do?", "Help", "How can you help me?", "What do you know?"),
        "I can solve small word problems with whole numbers, step by step, and I can tell short stories.",
    ),
    (("Thank you!", "Thanks", "Thanks a lot!", "Great, thank you."), "You are welcome."),
    (("Bye", "Goodbye!", "See you later."), "Goodbye!"),
)
_ASKS = {
    "story": (
        "Tell me a story.",
        "Tell me a short story.",
        "Please tell me a story about an animal.",
        "A story, please.",
    ),
    "place": ("Describe a place.", "Tell me about a town.", "Describe a small town."),
    "letter": ("Write a letter.", "Write a short letter to a friend.", "Please write a letter."),
    "animal_article": (
        "Tell me about an animal.",
        "Describe an animal.",
        "What do you know about animals?",
    ),
    "how_to": (
        "Explain how to make something.",
        "Give me some instructions.",
        "Teach me something useful.",
    ),
}


@dataclass(frozen=True)
class Turn:
    """One exchange: what is given to the model and what it should write."""

    prompt: str
    reply: str


def block(role: str, text: str) -> str:
    return f"{START}{role}\n{text}{END}\n"


def prompt(question: str, system: str = "") -> str:
    """What the template renders for one user message and an open reply."""
    opening = block("system", system) if system else ""
    return f"{opening}{block('user', question)}{START}assistant\n"


def _exchange(rng: random.Random) -> tuple[str, str]:
    """A user's text and the reply to it: mostly a problem, sometimes small talk or a request for a text."""
    kind = rng.random()
    if kind < 0.92:
        problem = draw_problem(rng, held_out=False)
        lead = f"{rng.choice(_LEADS)} " if rng.random() < 0.05 else ""
        hint = f" {rng.choice(_HINTS)}" if rng.random() < 0.05 else ""
        return lead + problem.question + hint, problem.solution
    if kind < 0.94:
        questions, reply = rng.choice(_TALK)
        return rng.choice(questions), reply
    rule = rng.choice(list(_ASKS))
    return rng.choice(_ASKS[rule]), prose.expand(rule, rng)


def _system(rng: random.Random) -> str:
    """Mostly none; else a usual line or any text, so that no system message throws the model off."""
    if rng.random() >= 0.2:
        return ""
    return rng.choice(_SYSTEM) if rng.random() < 0.6 else prose.draw_prose(rng, from_held_out=False)


def draw_conversation(rng: random.Random) -> list[Turn]:
    """A conversation of one to three exchanges; one in five opens with a system message."""
    system = _system(rng)
    turns = []
    for index in range(1 if rng.random() < 0.8 else rng.randint(2, 3)):
        question, reply = _exchange(rng)
        turns.append(Turn(prompt(question, system if index == 0 else ""), f"{reply}{END}\n"))
    return turns
