"""The small S3 client against a real store: signatures, proof of the body, connections that died."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from minio.credentials import Credentials
from minio.signer import sign_v4_s3

from domain.errors import ObjectStoreUnavailable
from storage.objects.s3_requests import S3Requests, SigV4Signer
from tests.support.free_ports import free_port

pytestmark = pytest.mark.full


def _requests(stack: Mapping[str, str], endpoint: str | None = None) -> S3Requests:
    endpoint = endpoint or stack["DPJ_MINIO_ENDPOINT"]
    signer = SigV4Signer(endpoint, stack["DPJ_MINIO_ACCESS_KEY"], stack["DPJ_MINIO_SECRET_KEY"], "us-east-1")
    return S3Requests(endpoint, signer, tls=None, connections=4, deadline=10.0, connect_timeout=3.0)


@pytest.fixture
async def requests(stack: Mapping[str, str]) -> AsyncIterator[S3Requests]:
    made = _requests(stack)
    yield made
    made.close()


def _path(stack: Mapping[str, str]) -> str:
    return f"/{stack['DPJ_MINIO_BUCKET']}/tests/{uuid4()}"


async def test_an_object_is_put_and_seen(requests: S3Requests, stack: Mapping[str, str]) -> None:
    path, body = _path(stack), bytearray(b"sealed" * 1000)
    answer = await requests.request("PUT", path, body)
    assert answer.status == 200
    assert answer.headers[b"etag"].strip(b'"') == hashlib.md5(body, usedforsecurity=False).hexdigest().encode()
    seen = await requests.request("HEAD", path)
    assert (seen.status, seen.headers[b"content-length"], seen.body) == (200, str(len(body)).encode(), b"")
    assert (await requests.request("HEAD", _path(stack))).status == 404


async def test_a_part_of_an_object_comes_with_its_place(requests: S3Requests, stack: Mapping[str, str]) -> None:
    path, body = _path(stack), bytes(range(256)) * 1000
    etag = (await requests.request("PUT", path, body)).headers[b"etag"].decode()
    headers = {"Range": "bytes=100-200099", "If-Match": etag}
    part = await requests.request("GET", path, headers=headers, limit=300_000)
    assert (part.status, part.headers[b"content-range"]) == (206, b"bytes 100-200099/256000")
    assert part.body == body[100:200_100]
    assert (await requests.request("GET", path, headers={"If-Match": '"another"'})).status == 412


async def test_an_answer_longer_than_wanted_is_not_taken(requests: S3Requests, stack: Mapping[str, str]) -> None:
    path = _path(stack)
    await requests.request("PUT", path, bytes(200_000))
    with pytest.raises(ObjectStoreUnavailable):
        await requests.request("GET", path, limit=100_000)
    assert (await requests.request("HEAD", path)).status == 200


async def test_many_at_once_share_few_connections(requests: S3Requests, stack: Mapping[str, str]) -> None:
    answers = await asyncio.gather(*(requests.request("PUT", _path(stack), b"x" * size) for size in range(1, 40)))
    assert {answer.status for answer in answers} == {200}


async def test_the_store_refuses_a_body_that_is_not_what_was_signed(
    requests: S3Requests, stack: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, head = _path(stack), requests._signer.head
    other = hashlib.sha256(b"what was meant").hexdigest()
    monkeypatch.setattr(requests._signer, "head", lambda method, path, _, *rest: head(method, path, other, *rest))
    answer = await requests.request("PUT", path, b"what arrived")
    assert answer.status == 400
    monkeypatch.undo()
    assert (await requests.request("HEAD", path)).status == 404


async def test_a_connection_that_died_at_rest_is_replaced(requests: S3Requests, stack: Mapping[str, str]) -> None:
    await requests.request("HEAD", _path(stack))
    (kept,) = requests._idle
    kept._transport.abort()
    assert (await requests.request("HEAD", _path(stack))).status == 404


async def test_nobody_there(stack: Mapping[str, str]) -> None:
    port = free_port()
    requests = _requests(stack, endpoint=f"127.0.0.1:{port}")
    with pytest.raises(ObjectStoreUnavailable):
        await requests.request("PUT", _path(stack), b"x")


def test_signatures_are_those_of_the_vendor() -> None:
    now = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
    digest = hashlib.sha256(b"body").hexdigest()
    head = SigV4Signer("store:9000", "access", "secret", "eu-west-3").head("PUT", "/bucket/a/b.c", digest, 4, now)
    headers = {"Host": "store:9000", "x-amz-content-sha256": digest, "x-amz-date": "20260301T123005Z"}
    signed = sign_v4_s3(
        method="PUT",
        url=urlsplit("http://store:9000/bucket/a/b.c"),
        region="eu-west-3",
        headers=headers,
        credentials=Credentials("access", "secret"),
        content_sha256=digest,
        date=now,
    )
    assert f"Authorization: {signed['Authorization']}\r\n".encode() in head
