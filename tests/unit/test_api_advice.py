"""What a client is told about a request that can't be met: what was expected, where it went wrong, what to do."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ingest_api.field_errors import explain
from ingest_api.presenters import API
from tests.support.api import FORM_END, FORM_TYPE, assert_problem, bearer, form_head, metadata_of, post_document
from tests.support.fakes_intake import PDF, IntakeBench


@pytest.mark.parametrize(
    ("changes", "field", "code", "words"),
    [
        ({"type": "a b"}, "type", "form_invalid", "1 to 64 letters (A-Z, a-z), digits, '.', '_' or '-'"),
        ({"type": None}, "type", "type_invalid", "must be a text"),
        ({"dossier_id": "x"}, "dossier_id", "type_invalid", "a UUID"),
        ({"depositor": {"email": "a@b.org", "language": "de"}}, "depositor.language", "value_not_allowed", "fr, en."),
        ({"depositor": {}}, "depositor.email", "required", "required"),
        ({"depositor": {"email": "x"}}, "depositor.email", "form_invalid", "name@example.org"),
        ({"sha256": "x"}, "sha256", "form_invalid", "64 hexadecimal digits"),
        ({"tags": ["x" * 65]}, "tags.0", "too_long", "at most 64 characters"),
        ({"tags": [""]}, "tags.0", "too_short", "at least 1 char"),
        ({"tags": ["x"] * 21}, "tags", "too_many", "at most 20 entries"),
        ({"file_name": "a\nb"}, "file_name", "form_invalid", "Control characters"),
        ({"metadata": {"k": {"n": 1}}}, "metadata.*", "type_invalid", "a number, true, false or null"),
        ({"metadata": {"k": "x" * 1001}}, "metadata.*", "too_long", "at most 1000 characters"),
        ({"metadata": {"k\u202e": 1}}, "metadata.*.*", "form_invalid", "reading direction"),
        ({"dosier_id": "x"}, "dosier_id", "unknown_field", "no such field"),
    ],
)
async def test_an_invalid_field_is_told_what_it_may_be(
    client: httpx.AsyncClient, bench: IntakeBench, changes: dict[str, Any], field: str, code: str, words: str
) -> None:
    response = await post_document(client, bench, **changes)
    (error,) = assert_problem(response, 422, "metadata_invalid")["errors"]
    assert (error["field"], error["code"], words in error["message"]) == (field, code, True), error


@pytest.mark.parametrize(
    ("query", "field", "code", "words"),
    [
        ("limit=0", "limit", "out_of_range", "at least 1"),
        ("limit=1000", "limit", "out_of_range", "at most"),
        ("limit=x", "limit", "type_invalid", "an integer"),
        ("status=x", "status", "value_not_allowed", "VERIFIED"),
        ("dossier=x", "dossier", "type_invalid", "a UUID"),
    ],
)
async def test_an_invalid_parameter_is_told_what_it_may_be(
    client: httpx.AsyncClient, query: str, field: str, code: str, words: str
) -> None:
    response = await client.get(f"{API}/documents?{query}", headers=bearer())
    (error,) = assert_problem(response, 400, "parameter_invalid")["errors"]
    assert (error["field"], error["code"], words in error["message"]) == (field, code, True), error


async def test_an_unknown_parameter_is_named_if_it_is_a_name(client: httpx.AsyncClient) -> None:
    response = await client.get(f"{API}/documents?dosier=x&%3Cb%3E=y", headers=bearer())
    detail = assert_problem(response, 400, "parameter_invalid")["detail"]
    assert "(dosier)" in detail
    assert "<b>" not in detail


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"purpose": "x",}', "line 1, column 17"),
        (b'{\n"purpose" "x"}', "line 2, column"),
        (b"\xff", "line 1, column"),
        (b"[" * 5_000, "line 1, column"),
    ],
)
async def test_an_error_of_json_has_its_place(client: httpx.AsyncClient, content: bytes, place: str) -> None:
    headers = {**bearer(), "Content-Type": "application/json"}
    response = await client.post(f"{API}/dossiers", headers=headers, content=content)
    (error,) = assert_problem(response, 422, "metadata_invalid")["errors"]
    assert (error["code"], place in error["message"]) == ("json_malformed", True), error


async def test_the_advice_fits_the_case(client: httpx.AsyncClient, bench: IntakeBench) -> None:
    async def told(path: str, status: int, code: str, headers: dict[str, str], content: bytes) -> dict[str, Any]:
        response = await client.post(f"{API}{path}", headers={**bearer(), **headers}, content=content)
        return assert_problem(response, status, code)

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await told("/dossiers", 415, "media_type_unsupported", form, b"number=1")
    assert "application/json" in answer["advice"]
    answer = await told("/documents", 400, "body_malformed", {"Content-Type": "application/pdf"}, PDF)
    assert "X-DPJ-Metadata" in answer["detail"]
    assert "base64url" in answer["advice"]
    extra = form_head(metadata_of(bench)).replace(b'name="file"', b'name="note"')
    answer = await told("/documents", 400, "body_malformed", FORM_TYPE, extra + PDF + FORM_END)
    assert "another part" in answer["detail"]
    assert "and no other" in answer["advice"]
    large = b'{"number": "' + b"x" * 70_000 + b'"}'
    answer = await told("/dossiers", 400, "body_malformed", {"Content-Type": "application/json"}, large)
    assert "65536 bytes" in answer["advice"]


def test_a_kind_that_is_new_gets_a_code_of_ours() -> None:
    assert explain("some_new_kind", {})[0] == "value_invalid"
