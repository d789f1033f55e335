"""Request bodies: the streaming multipart reader, raw bodies, ranges, names."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from domain.refusals import (
    BodyMalformed,
    BodyTooSlow,
    BodyTruncated,
    IdempotencyKeyInvalid,
    MediaTypeUnsupported,
    RangeNotSatisfiable,
)
from ingest_api.body import Body, parse_json
from ingest_api.models import LinkInput, UploadMetadata
from ingest_api.multipart import MAX_METADATA_BYTES, UploadForm
from ingest_api.problems import InvalidFields
from ingest_api.ranges import is_current, requested_span
from ingest_api.uploads import read_upload
from tests.support.builders import ManualSeconds

BOUNDARY = b"--X-boundary"
METADATA: dict[str, Any] = {
    "type": "CNI",
    "dossier_id": str(uuid4()),
    "depositor": {"email": "marie@example.org", "language": "fr"},
}


def form(
    content: bytes,
    *,
    metadata: bytes = b"{}",
    names: tuple[str, str] = ("metadata", "file"),
    end: bytes = b"--\r\n",
    extra: bytes = b"",
) -> bytes:
    first, second = names
    return (
        b"--" + BOUNDARY + f'\r\nContent-Disposition: form-data; name="{first}"\r\n\r\n'.encode() + metadata
        + b"\r\n--" + BOUNDARY
        + f'\r\nContent-Disposition: form-data; name="{second}"; filename="a b.pdf"\r\n'.encode()
        + b"Content-Type: application/pdf\r\n\r\n" + content + b"\r\n" + extra + b"--" + BOUNDARY + end
    )  # fmt: skip


def body(*pieces: bytes, disconnect: bool = False) -> Body:
    left: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    last = {"type": "http.disconnect"} if disconnect else {"type": "http.request", "body": b"", "more_body": False}

    async def receive() -> Any:
        return left.pop(0) if left else last

    return Body(receive, timeout=1, monotonic=ManualSeconds())


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


async def read(source: Body) -> tuple[bytes, str | None, str | None, bytes]:
    reader = UploadForm(source, BOUNDARY)
    metadata = await reader.metadata()
    head = await reader.file()
    content = b"".join([piece async for piece in reader.content()])
    return metadata, head.file_name, head.media_type, content


@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([b"\r\n--", BOUNDARY, b"\r", b"\n", b"-", b"x"]), max_size=30).map(b"".join),
    st.integers(1, 300),
)
@settings(max_examples=200, deadline=None)
def test_a_file_comes_out_as_it_went_in_however_it_is_cut(content: bytes, size: int) -> None:
    if b"\r\n--" + BOUNDARY in b"\r\n" + content + b"\r\n":
        return
    found = asyncio.run(read(body(*cut(form(content, metadata=b'{"a": 1}'), size))))
    assert found == (b'{"a": 1}', "a b.pdf", "application/pdf", content)


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_body_cut_at_any_boundary_is_truncated(size: int) -> None:
    whole = form(b"content")
    for end in range(len(whole) - 4):
        with pytest.raises(BodyTruncated):
            await read(body(*cut(whole[:end], size)))


async def test_a_client_that_leaves_truncates() -> None:
    with pytest.raises(BodyTruncated):
        await read(body(form(b"content")[:-20], disconnect=True))


@pytest.mark.parametrize(
    "bad",
    [
        form(b"x", names=("file", "metadata")),
        form(b"x", names=("metadata", "other")),
        form(b"x", names=("other", "file")),
        form(b"x", metadata=b"m" * (MAX_METADATA_BYTES + 1)),
        form(b"x", extra=b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="more"\r\n\r\ny\r\n'),
        b"not multipart at all",
        b"--" + BOUNDARY + b"--\r\n",
        b"--" + BOUNDARY + b"\r\nContent-Disposition: attachment; name=metadata\r\n\r\n",
        b"--" + BOUNDARY + b"\r\n" + b"X: " + b"y" * 5000 + b"\r\n\r\n",
        b"--" + BOUNDARY + b"\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(9)) + b"\r\n",
        b"preamble\r\n" + form(b"x"),
        b"\r\n" * 600 + form(b"x"),
        form(b"x", end=b"more\r\n"),
        form(b"x").replace(b"\r\nContent-Type: ", b"\r\n folded: "),
        form(b"x").replace(b"application/pdf", b"application\n/pdf"),
        form(b"x").replace(b"application/pdf", b"application\0/pdf"),
    ],
)
async def test_other_shapes_are_malformed(bad: bytes) -> None:
    for size in (11, 1 << 20):
        with pytest.raises((BodyMalformed, BodyTruncated)):
            await read(body(*cut(bad, size)))


async def test_what_follows_the_final_boundary_is_bounded() -> None:
    assert (await read(body(form(b"x", end=b"--\r\nepilogue"))))[3] == b"x"
    with pytest.raises(BodyMalformed):
        await read(body(*cut(form(b"x", end=b"--\r\n" + b"e" * 2000), 11)))


async def test_a_boundary_has_a_limit() -> None:
    with pytest.raises(BodyMalformed):
        UploadForm(body(), b"b" * 300)


async def test_a_silent_sender_is_too_slow() -> None:
    async def receive() -> Any:
        await asyncio.sleep(30)

    with pytest.raises(BodyTooSlow):
        await anext(aiter(Body(receive, timeout=0.01)))


async def test_a_trickling_sender_is_too_slow() -> None:
    now = [0.0]

    async def receive() -> Any:
        now[0] += 5.0
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(BodyTooSlow):
        [piece async for piece in Body(receive, timeout=10, monotonic=lambda: now[0])]
    assert now[0] < 60


def request(headers: dict[str, str], content: bytes = b"") -> Request:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]

    async def receive() -> Any:
        return {"type": "http.request", "body": content, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": raw, "path": "/", "query_string": b""}, receive)


def encoded(metadata: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(metadata).encode()).decode()


async def test_a_raw_body_is_the_file() -> None:
    metadata = {**METADATA, "file_name": "pièce.pdf", "sha256": "AB" * 32, "tags": ["x"], "metadata": {"n": 1}}
    headers = {
        "Content-Type": "application/pdf; q=1",
        "X-DPJ-Metadata": encoded(metadata).rstrip("="),
        "Content-Length": "4",
        "Idempotency-Key": "k",
    }
    upload = await read_upload(request(headers, b"%PDF"), timeout=30)
    assert (upload.file_name, upload.declared_type, upload.at_least) == ("pièce.pdf", "application/pdf", 4)
    assert (upload.sha256, upload.tags, upload.metadata) == ("ab" * 32, ("x",), {"n": 1})
    assert upload.idempotency_key == "k"
    assert b"".join([piece async for piece in upload.content]) == b"%PDF"
    assert "marie" not in repr(upload)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, MediaTypeUnsupported),
        ({"Content-Type": "multipart/mixed; boundary=x"}, MediaTypeUnsupported),
        ({"Content-Type": "application/x-www-form-urlencoded"}, MediaTypeUnsupported),
        ({"Content-Type": "application/pdf"}, BodyMalformed),
        ({"Content-Type": "application/pdf", "Content-Encoding": "gzip"}, MediaTypeUnsupported),
        ({"Content-Type": "multipart/form-data"}, BodyMalformed),
        ({"Content-Type": "application/pdf", "X-DPJ-Metadata": "???"}, BodyMalformed),
        ({"Content-Type": "application/pdf", "X-DPJ-Metadata": "a" * 20000}, BodyMalformed),
        ({"Content-Type": "application/pdf", "X-DPJ-Metadata": encoded({})}, InvalidFields),
    ],
)
async def test_requests_of_no_known_form_are_refused(headers: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        await read_upload(request(headers), timeout=30)


SECRET = "s3cret-value"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "no spaces"}, "type"),
        ({"dossier_id": SECRET}, "dossier_id"),
        ({"dossier_id": 7}, "dossier_id"),
        ({"depositor": {"email": SECRET}}, "depositor.email"),
        ({"depositor": {"email": f"{SECRET}\r\nBcc: x@example.org"}}, "depositor.email"),
        ({"depositor": {"email": "a@b.org", "language": SECRET}}, "depositor.language"),
        ({"depositor": {"email": "a@b.org", SECRET: 1}}, "depositor.*"),
        ({"tags": [SECRET * 9]}, "tags.0"),
        ({"tags": ["nul\0"]}, "tags.0"),
        ({"tags": ["t"] * 21}, "tags"),
        ({"sha256": SECRET}, "sha256"),
        ({"metadata": {SECRET: {"nested": 1}}}, "metadata.*"),
        ({"metadata": {SECRET: "\ud800"}}, "metadata"),
        ({"metadata": {f"k{number}": 1 for number in range(33)}}, "metadata"),
        ({"file_name": "a\nb"}, "file_name"),
        ({SECRET: True}, "*"),
    ],
)
def test_invalid_metadata_names_fields_and_echoes_nothing(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        parse_json(json.dumps({**METADATA, **changes}).encode(), UploadMetadata)
    fields = [one.field for one in refused.value.fields]
    assert any(name.startswith(field) for name in fields) or fields == ["(document)"]
    assert SECRET not in repr(refused.value.fields)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"type": "\xff"}'])
def test_what_is_not_json_is_invalid(content: bytes) -> None:
    with pytest.raises(InvalidFields):
        parse_json(content, UploadMetadata)


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-", (2, 10)),
        ("bytes=2-5", (2, 6)),
        ("bytes=2-500", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-300", (0, 10)),
        ("BYTES=1-2", (1, 3)),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=x", None),
        ("", None),
    ],
)
def test_ranges(asked: str, span: tuple[int, int] | None) -> None:
    assert requested_span({"range": asked}, 10, '"e"') == span


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_ranges_outside(asked: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        requested_span({"range": asked}, 10, '"e"')
    assert refused.value.size == 10


def test_if_range_and_if_none_match() -> None:
    assert requested_span({"range": "bytes=0-0", "if-range": '"e"'}, 10, '"e"') == (0, 1)
    assert requested_span({"range": "bytes=0-0", "if-range": '"other"'}, 10, '"e"') is None
    assert requested_span({"range": "bytes=0-0", "if-range": "Sat, 21 Nov 2026 00:00:00 GMT"}, 10, '"e"') is None
    assert is_current({"if-none-match": '"x", W/"e"'}, '"e"')
    assert is_current({"if-none-match": "*"}, '"e"')
    assert not is_current({"if-none-match": '"x"'}, '"e"')
    assert not is_current({}, '"e"')


async def test_closing_the_content_midway_is_fine() -> None:
    reader = UploadForm(body(*cut(form(b"c" * 1000), 50)), BOUNDARY)
    await reader.metadata()
    await reader.file()
    content = reader.content()
    assert isinstance(content, AsyncGenerator)
    assert await anext(content)
    await content.aclose()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ('{"purpose": "a", "purpose": "b"}', "purpose"),
        ('{"purpose": "a", "\\u0070urpose": "a"}', "purpose"),
    ],
)
def test_a_name_that_stands_twice_is_refused(content: str, field: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        parse_json(content.encode(), LinkInput)
    assert [(one.field, one.code) for one in refused.value.fields] == [(field, "duplicate")]


def test_a_free_name_that_stands_twice_is_refused_and_not_told() -> None:
    text = json.dumps({**METADATA, "metadata": {"a": 1}}).replace('{"a": 1}', f'{{"{SECRET}": 1, "{SECRET}": 2}}')
    with pytest.raises(InvalidFields) as refused:
        parse_json(text.encode(), UploadMetadata)
    assert [(one.field, one.code) for one in refused.value.fields] == [("*", "duplicate")]
    # One name in two objects is no duplicate.
    assert parse_json(json.dumps({**METADATA, "metadata": {"type": "x"}}).encode(), UploadMetadata).metadata == {
        "type": "x"
    }


@pytest.mark.parametrize(
    ("name", "error"), [("Idempotency-Key", IdempotencyKeyInvalid), ("X-DPJ-Metadata", BodyMalformed)]
)
async def test_headers_that_contradict_each_other_are_refused(name: str, error: type[Exception]) -> None:
    metadata = encoded({**METADATA, "file_name": "a.pdf"})
    asked = request({"Content-Type": "application/pdf", "X-DPJ-Metadata": metadata, "Idempotency-Key": "k"}, b"%PDF")
    first = asked.headers[name]
    asked.scope["headers"].append((name.lower().encode(), first.encode()))
    assert (await read_upload(asked, timeout=30)).idempotency_key == "k"
    asked = Request({**asked.scope, "headers": [*asked.scope["headers"], (name.lower().encode(), b"other")]})
    with pytest.raises(error):
        await read_upload(asked, timeout=30)
