"""Scripted models that call tools, in the two ways of writing calls that are read: Qwen's (Hermes) and DeepSeek's.

The templates are in those models' styles. What the model says depends on what reaches its template: a tool's result,
else whether there are tools; `says` among chat_template_kwargs names a script instead.
"""

import dataclasses
import pathlib

from conftest import ROOT
from scripted_model import ScriptedModel

ARGUMENTS = {"city": 'Zürich "Altstadt"', "days": [1, 2], "at": {"hour": 7}}
ARGUMENTS_JSON = '{"city": "Zürich \\"Altstadt\\"", "days": [1, 2], "at": {"hour": 7}}'
CHOOSE = """
{%- if messages[-1].role == 'tool' %}{% set said = 'result' if messages[-1].content == '31' else 'lost' %}
{%- else %}{% set said = says or ('calls' if tools else 'plain') %}{% endif %}
{{- '<|says:' + said + '|>' if not enable_thinking else '' }}"""

QWEN = """{%- if tools %}
{{- '<|im_start|>system\\n# Tools\\n\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}
{{- '\\n</tools>\\n\\nFor each call:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}{{ '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- else %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}{{ call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}""" + CHOOSE + """
{%- if enable_thinking %}{{ '<think>' }}{% endif %}"""
QWEN_CALLS = f"""<tool_call>
{{"name": "get_weather", "arguments": {ARGUMENTS_JSON}}}
</tool_call>
<tool_call>
{{"name": "now", "arguments": {{}}}}
</tool_call>"""

BEGINS, BEGIN, SEP, END, ENDS = (
    f"<｜tool▁{name}｜>" for name in ("calls▁begin", "call▁begin", "sep", "call▁end", "calls▁end")
)
DEEPSEEK = """{{- '<｜begin▁of▁sentence｜>' }}
{%- if tools %}{{ '## Tools\\n' }}{% for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{% endfor %}{% endif %}
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '<｜User｜>' + message.content }}
{%- elif message.role == 'tool' %}{{ '<｜tool▁output▁begin｜>' + message.content + '<｜tool▁output▁end｜>' }}
{%- elif message.role == 'assistant' %}{{ '<｜Assistant｜>' + message.content.split('</think>')[-1] }}
{%- if message.tool_calls %}{{ '<｜tool▁calls▁begin｜>' }}
{%- for call in message.tool_calls %}
{{- '<｜tool▁call▁begin｜>' + call.type + '<｜tool▁sep｜>' + call.function.name + '\\n```json\\n' }}
{{- call.function.arguments | tojson }}{{ '\\n```<｜tool▁call▁end｜>' }}
{%- endfor %}{{ '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}{% endif %}
{%- else %}{{ message.content }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<｜Assistant｜>' }}{% endif %}""" + CHOOSE + """
{%- if enable_thinking %}{{ '<think>' }}{% endif %}"""


@dataclasses.dataclass
class ToolModel:
    model: ScriptedModel
    scripts: dict[str, list[str]]
    content: str  # what of the script "calls" is no call
    tools_shown: str  # in a prompt, before a tool
    second_turn: str  # a prompt of messages, from the answer with calls on, but for the end that names the script


def qwen(folder: pathlib.Path) -> ToolModel:
    scripts = {
        "calls": ["Let me look.\n" + QWEN_CALLS],
        "compact": ['Let me see.<tool_call>{"name":"get_weather","arguments":' + ARGUMENTS_JSON + "}</tool_call>"
                    '<tool_call>{"arguments":{},"name":"now"}</tool_call>'],
        "broken": ["Look: <tool_call>\nno JSON\n</tool_call>"],
        "thinks": ["I need the weather.\nAnd the time.", "</think>", "\n\n" + QWEN_CALLS],
        "plain": ["There is no tool here."],
        "result": ["It is 31 degrees."],
        "lost": ["Nobody told me."],
    }  # fmt: skip
    model = ScriptedModel(
        folder, scripts, specials=["<|im_start|>", "<|im_end|>", "<think>", "</think>"], end="<|im_end|>",
        template=QWEN, tokenizer=ROOT / "models/tiny-moe/tokenizer.json", opens={"<think>": "thinks"},
    )  # fmt: skip
    second = ("<|im_start|>assistant\nLet me look.\n\n" + QWEN_CALLS + "<|im_end|>\n<|im_start|>user\n<tool_response>\n31\n</tool_response><|im_end|>\n<|im_start|>assistant\n")  # fmt: skip
    return ToolModel(model, scripts, "Let me look.\n", "<|im_start|>system\n# Tools\n\n<tools>\n", second)


def deepseek(folder: pathlib.Path) -> ToolModel:
    # The markers are special tokens in the first call, and spelt out in what follows.
    first = ["get_weather\n```json\n" + ARGUMENTS_JSON + "\n```"]
    second = f"\n{BEGIN}function{SEP}now\n```json\n{{}}\n```{END}"
    scripts = {
        "calls": ["Let me look.", BEGINS, BEGIN, "function", SEP, *first, END, second, ENDS],
        "compact": [f"Let me see.{BEGINS}{BEGIN}get_weather{SEP}{ARGUMENTS_JSON}{END}{BEGIN}now{SEP}{{}}{END}{ENDS}"],
        "broken": [f"Look: {BEGINS}{BEGIN}function{SEP}get_weather\nno fence{END}{ENDS}"],
        "thinks": ["I need the weather.\nAnd the time.", "</think>", f"{BEGINS}{BEGIN}function{SEP}get_weather\n```json\n"
                   f"{ARGUMENTS_JSON}\n```{END}{BEGIN}function{SEP}now\n```json\n{{}}\n```{END}{ENDS}"],
        "plain": ["There is no tool here."],
        "result": ["It is 31 degrees."],
        "lost": ["Nobody told me."],
    }  # fmt: skip
    specials = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", BEGINS, BEGIN, SEP, END,
                ENDS, "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<think>", "</think>"]  # fmt: skip
    model = ScriptedModel(
        folder, scripts, specials=specials, end="<｜end▁of▁sentence｜>", template=DEEPSEEK,
        tokenizer=ROOT / "models/tiny-moe/tokenizer.json", opens={"<think>": "thinks"},
    )  # fmt: skip
    turn = ("<｜Assistant｜>Let me look." + BEGINS + BEGIN + "function" + SEP + first[0] + END + BEGIN + "function" + SEP
            + "now\n```json\n{}\n```" + END + ENDS + "<｜end▁of▁sentence｜><｜tool▁output▁begin｜>31<｜tool▁output▁end｜>")  # fmt: skip
    return ToolModel(model, scripts, "Let me look.", "<｜begin▁of▁sentence｜>## Tools\n", turn)
