"""Writes tests/text/data/templates/goldens.json: what Jinja2 renders of our templates and snippets.

    .venv/bin/python tools/template_goldens/make.py
"""

import json
import pathlib
import sys

import jinja2

import conversations
import oracle
import snippets

FOLDER = pathlib.Path(__file__).parents[2] / "tests/text/data/templates"


def result_of(source, inputs):
    text, error = oracle.render(source, inputs)
    if error is None:
        return {"text": text}
    result = {"error": str(error), "kind": type(error).__name__}
    if isinstance(error, jinja2.TemplateSyntaxError):
        result["line"] = error.lineno
    return result


def main():
    renders = []
    for file in sorted(FOLDER.glob("*.jinja")):
        source = file.read_text()
        for name, inputs in conversations.CONVERSATIONS.items():
            renders.append({"template": file.name, "inputs": name, **result_of(source, inputs)})
    short = [{"source": source, **result_of(source, snippets.INPUTS)} for source in snippets.SNIPPETS]
    goldens = {
        "versions": {"jinja2": jinja2.__version__, "python": sys.version.split()[0]},
        "inputs": conversations.CONVERSATIONS,
        "renders": renders,
        "snippet_inputs": snippets.INPUTS,
        "snippets": short,
    }
    text = json.dumps(goldens, ensure_ascii=False, indent=1)
    (FOLDER / "goldens.json").write_text(text + "\n")
    failed = sum("error" in entry for entry in renders + short)
    print(f"{len(renders)} renders, {len(short)} snippets, {failed} of them errors")


if __name__ == "__main__":
    main()
