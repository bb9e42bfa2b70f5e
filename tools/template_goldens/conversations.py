"""The conversations that every template of ours is rendered with."""

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a place.\nToday only.",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "A town, as \"Köln\""},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": ["integer", "null"], "default": 1},
        "points": {"type": "array", "items": {"type": "object", "properties": {
            "x": {"type": "number"}, "y": {"type": "number"}}, "required": ["x", "y"]}}},
        "required": ["place"]}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Now.", "parameters": {
    "type": "object", "properties": {}}, "return": {"type": "string"}}}
SECRET = {"type": "function", "function": {"name": "secret", "description": "<&>'", "parameters": None}}


def call(name, arguments, id="call00001"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
PLAIN = [
    {"role": "system", "content": "  Be brief. "},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And < 'that' & \"this\"?\n"},
]
TOOL_TURNS = [
    {"role": "user", "content": "Weather in Köln and Łódź? 🌧"},
    {"role": "assistant", "content": "", "tool_calls": [
        call("get_weather", {"place": "Köln", "days": 2, "exact": 1.0, "more": None})]},
    {"role": "tool", "tool_call_id": "call00001", "content": "{\"t\": 7.5}"},
    {"role": "assistant", "content": "<think>\nNow the other.\n</think>\n\nRain in Köln."},
    {"role": "user", "content": "And tomorrow?"},
]
CONVERSATIONS = {
    "plain": {"messages": PLAIN, "add_generation_prompt": True, **TOKENS},
    "no_prompt": {"messages": PLAIN[1:3], "add_generation_prompt": False, "tools": None, **TOKENS},
    "tools": {"messages": TOOL_TURNS, "tools": [WEATHER, CLOCK, SECRET], "documents": None,
              "add_generation_prompt": True, **TOKENS},
    "tools_outside_user": {"messages": PLAIN, "tools": [CLOCK], "tools_in_user_message": False,
                           "date_string": "1 Jan 2026", "add_generation_prompt": True, **TOKENS},
    "builtin": {"messages": [PLAIN[0], PLAIN[1], {"role": "assistant", "tool_calls": [
        call("search", {"query": "2 + 2"}, "123456789")]},
        {"role": "ipython", "content": {"output": [4, 4.5, True]}}],
        "builtin_tools": ["search", "code_interpreter"], "add_generation_prompt": True, **TOKENS},
    "several_steps": {"messages": [
        {"role": "system", "content": "S"}, {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "<think>plan</think>\n\nlooking", "tool_calls": [
            call("a", "{\"raw\": 1}"), call("b", {"k": [1, {"z": "é"}]})]},
        {"role": "tool", "content": "one"}, {"role": "tool", "content": "two"},
        {"role": "assistant", "thoughts": "\nfinal thoughts\n", "content": "\n\nAnswer"}],
        "tools": [WEATHER], "add_generation_prompt": False, **TOKENS},
    "thinking_off": {"messages": PLAIN[1:2], "enable_thinking": False, "add_generation_prompt": True,
                     **TOKENS},
    "wrong_order": {"messages": [PLAIN[1], PLAIN[1]], **TOKENS},
    "odd_role": {"messages": [{"role": "user", "content": "x"}, {"role": "narrator", "content": "y"}],
                 **TOKENS},
    "bad_call_id": {"messages": [PLAIN[1], {"role": "assistant", "tool_calls": [call("a", {}, "1")]}],
                    **TOKENS},
    "two_systems": {"messages": [PLAIN[0], PLAIN[0], PLAIN[1]], **TOKENS},
    "parts": {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "look"}, {"type": "text", "text": "here"}]}], **TOKENS},
    "null_content": {"messages": [PLAIN[1], {"role": "assistant", "content": None, "tool_calls": [
        call("clock", {})]}, {"role": "tool", "content": "12:00", "tool_call_id": ""}],
        "add_generation_prompt": True, **TOKENS},
    "unicode": {"messages": [{"role": "user", "content": "ß ŉ İ ΑΣ ﬁ e\u0301 \u200b\u202e \U0001F468\u200d\U0001F469 "
                              "\x00\x01\x7f\u0085\u2028 <|end|></s>[/ASK]"}, PLAIN[2], PLAIN[3]], **TOKENS},
    "empty_list": {"messages": [], "add_generation_prompt": True, **TOKENS},
    "no_messages": {"add_generation_prompt": True, **TOKENS},
}
