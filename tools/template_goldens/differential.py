"""Renders random templates by Jinja2 and by moeopt and prints where they differ.

    .venv/bin/python tools/template_goldens/differential.py RENDER_LINES [--count N] [--seed S]

RENDER_LINES is render_lines.cpp, linked with libmoeopt_text and libmoeopt_base. What moeopt refuses
as not supported is counted and passed over; a difference is another text, or an error on one side.
"""

import argparse
import json
import random
import signal
import subprocess
import sys

import oracle

INPUTS = {
    "s": "Hello, World", "x": "ix", "y": ["iy", "y2"], "t": "  a b\tc \n", "u": "Grüße 你好 ΑΣ 😀", "e": "", "q": "it's \"<&>\"",
    "i": 7, "n": -3, "z": 0, "f": 2.5, "g": 1e20, "b": True, "no": None,
    "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "m": [1, "x", None, 2.0, [1], {"k": 1}], "el": [],
    "d": {"b": 1, "a": "x", "items": [1, 2], "get": None}, "ed": {},
    "r": [{"k": "B", "v": 2, "t": {"y": 1}}, {"k": "a", "v": 1, "t": {"y": 2}}, {"k": "b", "v": 3}],
}
NAMES = list(INPUTS) + ["x", "y", "undef", "ns"]
STRINGS = ["", " ", "a", "l", "Hello", ",", "\\n", "é", "%s", "%d|%5.2f", "k", "v", "t.y", "0", "12",
           " 3.5 ", "{}-{0}", "A b-c"]
INTS = ["0", "1", "2", "-1", "3", "10", "0x1f", "1_000"]
FLOATS = ["0.5", "2.0", "1e3", "1.5e-7", "100000000000000000.0"]
FILTERS0 = ["abs", "capitalize", "count", "e", "escape", "first", "float", "forceescape", "int", "items",
            "join", "last", "length", "list", "lower", "max", "min", "reverse", "round", "safe", "sort",
            "string", "sum", "title", "tojson", "trim", "unique", "upper", "wordcount", "dictsort",
            "default", "d", "indent", "center", "map('upper')", "map('string')", "select", "reject"]
FILTERS = ["attr({s})", "batch({i})", "batch({i}, {v})", "center({i})", "d({v})", "d({v}, true)",
           "default({v}, boolean={v})", "dictsort(reverse={v})", "dictsort(by='value')", "format({v})",
           "format({v}, {v})", "groupby('k')", "groupby({s})|list", "indent({i})",
           "indent({s}, {v}, {v})", "int({v})", "int(default={v}, base={i})", "float({v})", "join({v})",
           "join({s}, attribute={s})", "map(attribute={s})", "map(attribute={s}, default={v})",
           "map('int')", "map('length')", "map('default', {v})", "max(attribute={s})",
           "min(case_sensitive=true)", "reject({t})", "rejectattr('k', {t})", "rejectattr({s})",
           "replace({s}, {s})", "replace({v}, {v}, {i})", "round({i})", "round({i}, 'ceil')",
           "round(method='floor')", "select({t})", "selectattr({s})", "selectattr('v', {t})",
           "slice({i})", "slice({i}, {v})", "sort(reverse=true)", "sort(attribute='k')",
           "sort(attribute='k,v', case_sensitive={v})", "sum(start={v})", "sum(attribute='v')",
           "tojson(indent={i})", "tojson(ensure_ascii=true)", "tojson(sort_keys={v})",
           "tojson(separators=(',', ':'))", "trim({s})", "unique(attribute='k')",
           "unique(case_sensitive=true)"]
TESTS = ["odd", "even", "defined", "undefined", "none", "boolean", "true", "false", "integer", "float",
         "lower", "upper", "mapping", "number", "sequence", "iterable", "string", "callable", "escaped",
         "divisibleby({i})", "in({v})", "eq({v})", "==({v})", "equalto({v})", "ne({v})", "gt({v})",
         "lt({v})", "ge({v})", "le({v})", "sameas({v})", "divisibleby {i}", "in {v}"]
TEST_NAMES = ["'odd'", "'string'", "'defined'", "'none'", "'mapping'", "'equalto', 1", "'in', [1, 2]",
              "'gt', 1", "'number'"]
METHODS = ["capitalize()", "count({s})", "count({s}, {i})", "endswith({s})", "find({s})",
           "find({s}, {i}, {i})", "format({v})", "format({v}, {v}, a={v})", "index({s})", "isalpha()",
           "isdigit()", "islower()", "isspace()", "isupper()", "istitle()", "isalnum()", "isascii()",
           "join({v})", "ljust({i})", "rjust({i}, {s})", "center({i})", "lower()", "lstrip()",
           "lstrip({s})", "partition({s})", "rpartition({s})", "removeprefix({s})", "removesuffix({s})",
           "replace({s}, {s})", "replace({s}, {s}, {i})", "rfind({s})", "rsplit()", "rsplit({s})",
           "rsplit({s}, {i})", "rsplit(none, {i})", "rstrip()", "rstrip({s})", "split()", "split({s})",
           "split({s}, {i})", "split(none, {i})", "split(maxsplit={i})", "splitlines()",
           "splitlines(true)", "startswith({s})", "startswith(({s}, {s}), {i})", "strip()",
           "strip({s})", "swapcase()", "title()", "upper()", "zfill({i})", "get({v})", "get({s}, {v})",
           "items()", "keys()", "values()", "items()|list", "keys()|list", "index({v})", "count({v})",
           "append({v})", "update({v})", "copy()"]


class Generator:
    def __init__(self, rng, depth):
        self.rng = rng
        self.depth = depth

    def fill(self, pattern, depth):
        out = pattern
        while "{" in out:
            start = out.index("{")
            end = out.index("}", start)
            kind = out[start + 1:end]
            value = {"v": lambda: self.expression(depth - 1), "s": self.string,
                     "i": lambda: self.rng.choice(INTS + ["i", "n"]),
                     "t": lambda: self.rng.choice(TEST_NAMES)}[kind]()
            # Braces of a literal must not be filled again.
            out = out[:start] + value.replace("{", "\0").replace("}", "\1") + out[end + 1:]
        return out.replace("\0", "{").replace("\1", "}")

    def string(self):
        quote = self.rng.choice("'\"")
        return quote + self.rng.choice(STRINGS) + quote

    def atom(self):
        pick = self.rng.random()
        if pick < 0.55:
            return self.rng.choice(NAMES)
        if pick < 0.7:
            return self.string()
        if pick < 0.85:
            return self.rng.choice(INTS)
        if pick < 0.92:
            return self.rng.choice(FLOATS)
        return self.rng.choice(["true", "false", "none", "[]", "{}", "loop.index", "loop", "range(4)",
                                "loop.last", "loop.first", "loop.previtem", "loop.nextitem",
                                "loop.length", "loop.revindex", "loop.cycle('a', 'b')",
                                "loop.changed(x)", "namespace(a=1)", "ns.a"])

    def expression(self, depth=None):
        rng = self.rng
        depth = self.depth if depth is None else min(depth, self.depth)
        if depth <= 0:
            return self.atom()
        inner = lambda: self.expression(depth - 1)
        kind = rng.randrange(19)
        if kind < 3:
            return self.atom()
        if kind == 3:
            op = rng.choice(["+", "-", "*", "/", "//", "%", "**", "~", "+", "~"])
            return f"{inner()} {op} {inner()}"
        if kind == 4:
            return f"({inner()})"
        if kind == 5:
            op = rng.choice(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
            return f"{inner()} {op} {inner()}"
        if kind == 6:
            return f"{inner()} {rng.choice(['and', 'or'])} {inner()}"
        if kind == 7:
            return f"{rng.choice(['not ', '-', '+'])}{inner()}"
        if kind == 8:
            return f"{inner()} if {inner()}" + (f" else {inner()}" if rng.random() < 0.7 else "")
        if kind == 9:
            return "[" + ", ".join(inner() for _ in range(rng.randrange(4))) + "]"
        if kind == 10:
            return "(" + "".join(inner() + ", " for _ in range(rng.randrange(4))) + ")"
        if kind == 11:
            return "{" + ", ".join(f"{self.string()}: {inner()}" for _ in range(rng.randrange(3))) + "}"
        if kind == 12:
            bound = lambda: rng.choice(["", "", "0", "1", "-1", "2", "-2", "i", "none"])
            step = rng.choice(["", ":" + bound(), ":-1"])
            # Not on literals: Jinja folds those by other rules.
            return f"{rng.choice(NAMES)}[{bound()}:{bound()}{step}]"
        if kind == 13:
            return rng.choice([f"{self.atom()}[{inner()}]", f"{self.atom()}.{rng.choice(['k', 'a', 'items', 'v', 'get', 'append'])}"])
        if kind == 14:
            negated = rng.choice(["is", "is", "is not"])
            return f"{self.atom()} {negated} {self.fill(rng.choice(TESTS), 1)}"
        if kind in (15, 16):
            pattern = rng.choice(FILTERS0 if rng.random() < 0.5 else FILTERS)
            return f"{self.atom() if rng.random() < 0.6 else '(' + inner() + ')'}|{self.fill(pattern, depth)}"
        return f"{self.atom()}.{self.fill(rng.choice(METHODS), depth)}"

    def begin(self):
        return "{%" + self.rng.choice(["", "", "", "-", "+"]) + self.rng.choice([" ", ""])

    def end(self):
        return self.rng.choice([" ", ""]) + self.rng.choice(["", "", "", "-", "+"]) + "%}"

    def text(self):
        return self.rng.choice(["", " ", "\n", "  \n", "a", "text\n", "\t", " \n\n ", "{# c #}",
                                "{#- c -#}\n", "{# c #}\n", "\r\n"])

    def tag(self, body):
        return self.begin() + body + self.end()

    def statement(self, depth):
        rng = self.rng
        kind = rng.randrange(15) if depth > 0 else rng.randrange(5)
        body = lambda: self.body(depth - 1)
        if kind < 4:
            dash = rng.choice(["", "", "-", "+"])
            return "{{" + dash + " " + self.expression() + " " + rng.choice(["", "-"]) + "}}"
        if kind == 4:
            target = rng.choice(["x", "y", "x, y", "ns.a", "l"])
            return self.tag(f"set {target} = {self.expression()}")
        if kind in (5, 6):
            out = self.tag(f"if {self.expression(2)}") + body()
            if rng.random() < 0.3:
                out += self.tag(f"elif {self.expression(2)}") + body()
            if rng.random() < 0.5:
                out += self.tag("else") + body()
            return out + self.tag("endif")
        if kind in (7, 8, 9):
            target = rng.choice(["x", "y", "x", "x, y"])
            condition = rng.choice(["", "", f" if {self.expression(1)}"])
            out = self.tag(f"for {target} in {self.expression(2)}{condition}") + body()
            if rng.random() < 0.2:
                out += self.tag(rng.choice(["break", "continue"]))
            if rng.random() < 0.2:
                out += self.tag("else") + body()
            return out + self.tag("endfor")
        if kind == 10:
            chain = rng.choice(["", "", "|upper", "|trim", "|replace('a', x)", "|length"])
            return self.tag(f"set x{chain}") + body() + self.tag("endset")
        if kind == 11:
            signature = rng.choice(["", "x", "x, y=1", "x=s, y=x"])
            call = rng.choice(["m()", "m(1)", "m(i, y=2)", "m(1, 2, 3)", "m(q=1)", "m(*l)", "m(**d)"])
            return (self.tag(f"macro m({signature})") + body() +
                    rng.choice(["", "", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller }}"]) +
                    self.tag("endmacro") +
                    rng.choice(["{{ " + call + " }}", self.tag(f"call {call}") + body() +
                                self.tag("endcall")]))
        if kind == 12:
            return self.tag(f"set ns = namespace(a={self.expression(1)})")
        if kind == 13:
            name = rng.choice(["upper", "trim", "indent(2)", "length"])
            return self.tag(f"filter {name}") + body() + self.tag("endfilter")
        return self.tag("generation") + body() + self.tag("endgeneration")

    def body(self, depth):
        out = self.text()
        for _ in range(self.rng.randrange(1, 4)):
            out += self.statement(depth) + self.text()
        return out


def differs(source, answer):
    """None when the two agree, "unsupported", or what differs."""
    signal.alarm(10)
    text, error = oracle.render(source, INPUTS)
    signal.alarm(0)
    if isinstance(error, TimeoutError):
        return "unsupported"
    got = answer.get("error")
    if got is not None and any(mark in got for mark in (
            "not supported", "does not fit 64 bits", "more than 100000 characters", "beyond 2**40",
            "bytes of values", "at most 100000")):
        return "unsupported"
    if error is not None:
        return None if got is not None else f"Jinja2 fails: {error!r}; moeopt gives {answer['text']!r}"
    if got is not None:
        return f"moeopt fails: {got}; Jinja2 gives {text!r}"
    if " at 0x" in text:
        return "unsupported"
    return None if text == answer["text"] else f"Jinja2 {text!r}; moeopt {answer['text']!r}"


def too_long(*_):
    raise TimeoutError


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("renderer")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--depth", type=int, default=3, help="of expressions: 1 fails least")
    parser.add_argument("--show", type=int, default=20)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    signal.signal(signal.SIGALRM, too_long)
    renderer = subprocess.Popen([args.renderer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    counts = {"equal": 0, "both fail": 0, "unsupported": 0, "different": 0}
    for _ in range(args.count):
        source = Generator(rng, args.depth).body(2)
        renderer.stdin.write(json.dumps({"template": source, "inputs": INPUTS}) + "\n")
        renderer.stdin.flush()
        answer = json.loads(renderer.stdout.readline())
        result = differs(source, answer)
        if result is None:
            counts["both fail" if "error" in answer else "equal"] += 1
        elif result == "unsupported":
            counts["unsupported"] += 1
        else:
            counts["different"] += 1
            if counts["different"] <= args.show:
                print(f"{source!r}\n    {result}\n")
    print(counts)
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
