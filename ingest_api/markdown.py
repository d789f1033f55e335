"""The OpenAPI document as a page for people: ``python -m ingest_api.markdown < openapi.json``."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ingest_api.guide import guide

Node = Mapping[str, Any]

#: The longest line of prose; rows of tables and headings stay whole.
WIDTH: Final = 120


def page_of(document: Node) -> str:
    """Markdown of the guide; of every operation: what it does, its parameters, bodies, example, answers; of every schema's fields."""
    lines = [f"# {document['info']['title']}: HTTP API", "", "Made from `openapi.json` by `make docs`.", ""]
    lines += [document["info"]["description"].strip(), "", *guide()]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += [f"### {method.upper()} {path}", "", operation.get("description", "").strip(), ""]
            lines += [*_parameters(operation), *_bodies(operation), *_example(operation), *_answers(operation)]
    lines += ["## Schemas", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += [f"### {name}", "", *_fields(schema), "", *_examples(schema)]
    return "\n".join(_wrapped_prose("\n".join(lines).rstrip())).rstrip() + "\n"


def _wrapped_prose(text: str) -> Iterator[str]:
    """Paragraphs and items of lists in lines of ``WIDTH`` at most; code, tables, headings and pictures stay as they are."""
    paragraph: list[str] = []
    is_code = False
    for line in (*text.split("\n"), ""):
        goes_on = bool(line) and not is_code and not line.startswith(("|", "#", "!", "- ", "* ", "```"))
        if not goes_on:
            yield from _folded(paragraph)
            paragraph = []
        if goes_on or (line.startswith(("- ", "* ")) and not is_code):
            paragraph.append(line)
        else:
            yield line
        is_code ^= line.startswith("```")


def _folded(paragraph: list[str]) -> Iterator[str]:
    whole = " ".join(line.strip() for line in paragraph)
    if whole:
        indent = "  " if whole.startswith(("- ", "* ")) else ""
        yield textwrap.fill(whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _parameters(operation: Node) -> Iterator[str]:
    parameters = operation.get("parameters", ())
    if parameters:
        yield from ("| parameter | in | type | |", "|---|---|---|---|")
        for parameter in parameters:
            need = "required. " if parameter.get("required") else ""
            note = _cell(need + parameter.get("description", ""))
            yield f"| `{parameter['name']}` | {parameter['in']} | {_type(parameter.get('schema', {}))} | {note} |"
        yield ""


def _bodies(operation: Node) -> Iterator[str]:
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"Body `{media_type}`: {_type(body.get('schema', {}))}"
        yield ""


def _example(operation: Node) -> Iterator[str]:
    for sample in operation.get("x-codeSamples", ()):
        yield from ("```sh", *sample["source"].split("\n"), "```", "")


def _answers(operation: Node) -> Iterator[str]:
    yield from ("| answer | | body |", "|---|---|---|")
    for status, answer in sorted(operation["responses"].items()):
        bodies = [f"`{kind}` {_type(body.get('schema', {}))}" for kind, body in answer.get("content", {}).items()]
        yield f"| {status} | {_cell(answer.get('description', ''))} | {', '.join(bodies)} |"
    yield ""


def _fields(schema: Node) -> Iterator[str]:
    if schema.get("description"):
        yield from (schema["description"].strip(), "")
    fields = schema.get("properties", {})
    if not fields:
        yield _type(schema)
        return
    required = set(schema.get("required", ()))
    yield from ("| field | type | |", "|---|---|---|")
    for name, field in fields.items():
        need = "required. " if name in required else ""
        yield f"| `{name}` | {_type(field)} | {_cell(need + field.get('description', ''))} |"


def _examples(schema: Node) -> Iterator[str]:
    for example in schema.get("examples", ()):
        yield from ("```json", *json.dumps(example, indent=2, ensure_ascii=False).split("\n"), "```", "")


def _type(schema: Node) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(_type(choice) for choice in schema[word])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("format") or schema.get("type") or "any")
    bounds = [
        f"{sign} {schema[word]}"
        for word, sign in (("minimum", ">="), ("maximum", "<="), ("minLength", "length >="), ("maxLength", "length <="))
        if word in schema
    ]
    return f"{kind} ({', '.join(bounds)})" if bounds else kind


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page_of(json.load(sys.stdin)))
