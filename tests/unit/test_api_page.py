"""docs/API.md and its picture are made of the code's own tables, and leave nothing of them out."""

from __future__ import annotations

import ast
import inspect
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from domain import lifecycle
from domain.error_table import ERROR_TABLE
from domain.lifecycle import TRANSITIONS, Status
from ingest_api import (
    field_errors,
    lifecycle_picture,
    models,
    models_erasure,
    models_operations,
    openapi,
    openapi_examples,
)
from ingest_api.app import routes_only
from ingest_api.lifecycle_picture import picture
from ingest_api.markdown import page_of
from ingest_api.openapi import document_of
from ingest_api.problems import OTHER_ROUTE_FAILURE, ROUTE_FAILURES

MODELS = (models, models_erasure, models_operations)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return document_of(routes_only())


@pytest.fixture(scope="module")
def page(document: dict[str, Any]) -> str:
    return page_of(document)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["operationId"]: one for path in document["paths"].values() for one in path.values()}


def rows(page: str, heading: str) -> dict[str, str]:
    """First cell -> row, of the first table below a heading."""
    below = page.split(f"\n{heading}\n", 1)[1]
    table = below[below.index("\n|---") :].strip().split("\n\n", 1)[0].split("\n")[1:]
    return {row.split("|")[1].strip().strip("`"): row for row in table}


def test_every_operation_has_one_example_of_its_own(document: dict[str, Any], page: str) -> None:
    found = operations(document)
    assert openapi_examples.COMMANDS.keys() == found.keys()
    for operation in found.values():
        (sample,) = operation["x-codeSamples"]
        assert f"```sh\n{sample['source']}\n```" in page
        assert "$TOKEN" in sample["source"] or operation["security"] == []


def test_examples_call_the_path_and_method_of_their_operation(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            source = operation["x-codeSamples"][0]["source"]
            begin = "$API$LINK_URL" if operation["operationId"] == "open_link" else f"$API{path.split('{')[0]}"
            assert begin in source
            sends = "-d " in source or "-F " in source
            posts = sends or "-X POST" in source
            assert method == ("delete" if "-X DELETE" in source else "post" if posts else "get")


def test_every_code_is_in_the_page_once(page: str) -> None:
    answers, failures = rows(page, "## Codes"), rows(page, "### Codes of failures")
    own = {OTHER_ROUTE_FAILURE.code, *(row.code for row in ROUTE_FAILURES.values())}
    assert answers.keys() | failures.keys() == ERROR_TABLE.keys() | own
    assert not answers.keys() & failures.keys()
    assert "| wait |" in answers["database_unavailable"]
    assert "| wait |" in answers["receipt_pending"]
    assert "| yes |" in answers["internal_error"]
    assert "| no |" in answers["forbidden"]


def test_every_code_of_a_field_is_in_the_page(page: str) -> None:
    """What the functions return first, read out of their source."""
    returned = set()
    for function in (field_errors.explain, field_errors._limit):
        for node in ast.walk(ast.parse(inspect.getsource(function))):
            if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
                returned.add(node.elts[0].value)
    assert returned | {field_errors.json_error("x").code} == field_errors.FIELD_CODES.keys()
    assert rows(page, "### Codes of fields").keys() == field_errors.FIELD_CODES.keys()


def test_every_state_is_in_the_page_with_what_may_follow(page: str) -> None:
    told = rows(page, "## The life of a document")
    assert told.keys() == {status.value for status in Status}
    for status, ends in TRANSITIONS.items():
        following = told[status.value].rpartition("|")[0].rpartition("|")[2]
        named = {end for end in Status if f"`{end.value}`" in following}
        assert named == ends - {Status.ERASING}


def test_the_picture_has_every_state_and_transition() -> None:
    drawn = ET.fromstring(picture())  # noqa: S314 - our own
    texts = {text.text for text in drawn.iter(f"{SVG}text")}
    assert {status.value for status in Status} <= texts
    arrows = [path for path in drawn.iter(f"{SVG}path") if path.get("class") in {"a", "e", "e end"}]
    transitions = sum(len(ends) for ends in TRANSITIONS.values())
    assert len(arrows) == transitions + 1  # the line that all erasures but that of ARCHIVED join


def test_a_changed_lifecycle_makes_no_old_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    for changed in ({Status.REJECTED: frozenset({Status.VERIFIED})}, {Status.VERIFIED: frozenset({Status.ERASING})}):
        monkeypatch.setattr(lifecycle_picture, "TRANSITIONS", {**lifecycle.TRANSITIONS, **changed})
        with pytest.raises(ValueError, match="lifecycle"):
            picture()


def test_files_in_the_repository_are_fresh(document: dict[str, Any], page: str) -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert (docs / "lifecycle.svg").read_text("utf-8") == picture()
    assert (docs / "API.md").read_text("utf-8") == page
    assert json.loads((docs / "openapi.json").read_text("utf-8")) == document


def test_examples_are_what_their_schemas_say(document: dict[str, Any], page: str) -> None:
    """Bodies and answers; that real answers have the same members is for tests/e2e/test_documented_examples.py."""
    schemas = document["components"]["schemas"]
    given = {**openapi.EXAMPLES, **openapi_examples.ANSWERS}
    assert {name for name, schema in schemas.items() if "examples" in schema} == given.keys()
    for name, example in given.items():
        model = next(found for part in MODELS if (found := getattr(part, name, None)) is not None)
        model.model_validate_json(json.dumps(example))
        assert example.keys() <= model.model_fields.keys()
        if name in openapi_examples.ANSWERS:
            assert example.keys() == model.model_fields.keys()
        assert f"```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```" in page
