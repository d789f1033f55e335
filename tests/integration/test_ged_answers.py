"""What the answers of repositories, and of the proxies before them, are taken for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.archive import GedDocument, GedObject
from domain.errors import ArchiveRefused, GedUnavailable
from ged.cmis import CmisRepository

SERVICE = {"A1": {"rootFolderUrl": "https://inside.example:8443/cmis/root/"}}
WANTED = GedDocument(name="x.pdf", mime_type="application/pdf", description="", size=1)


class Answers:
    """An HTTP server with one answer to all that is not the service document; ``seen`` holds the request heads."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.service = json.dumps(SERVICE).encode()
        self.seen: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.seen.append(head)
        lengths = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
        await reader.readexactly(int(lengths[0]) if lengths else 0)
        asked_for_service = head.split()[1] == "/browser"
        status, body = (200, self.service) if asked_for_service else (self.status, self.body)
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    answers = Answers()
    server = await asyncio.start_server(answers.serve, "127.0.0.1", 0)
    answers.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/browser"
    yield answers
    server.close()
    await server.wait_closed()


@pytest.fixture
async def ged(answers: Answers) -> AsyncIterator[CmisRepository]:
    repository = CmisRepository(answers.url, "A1", "dpj", "secret", deadline=5)
    yield repository
    await repository.aclose()


async def _once() -> AsyncIterator[bytes]:
    yield b"x"


def _exception(name: str) -> bytes:
    return json.dumps({"exception": name, "message": "marie@example.org"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"<html>who are you</html>", GedUnavailable),
        (403, _exception("permissionDenied"), GedUnavailable),
        (404, b"<html>no such application</html>", GedUnavailable),
        (409, _exception("constraint"), ArchiveRefused),
        (409, _exception("nameConstraintViolation"), GedUnavailable),
        (400, _exception("invalidArgument"), ArchiveRefused),
        (413, b"too large", ArchiveRefused),
        (500, _exception("storage"), GedUnavailable),
        (502, b"", GedUnavailable),
        (302, b"", GedUnavailable),
        (500, b'["not an object"]', GedUnavailable),
        (200, b"<html>sign in</html>", GedUnavailable),
        (200, b"[]", GedUnavailable),
        (200, b"{}", GedUnavailable),
        (200, b'{"succinctProperties": {"cmis:name": "x"}}', GedUnavailable),
        (200, b" " * (1 << 20) + b"{}", GedUnavailable),
    ],
)
async def test_answers(answers: Answers, ged: CmisRepository, status: int, body: bytes, error: type[Exception]) -> None:
    answers.status, answers.body = status, body
    with pytest.raises(error) as raised:
        await ged.create(["dpj"], WANTED, _once())
    with pytest.raises(error):
        await ged.find(["dpj"])
    assert "marie" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", ["runtime", "objectNotFound"])
async def test_every_call_reports_what_it_can_not_use(answers: Answers, ged: CmisRepository, name: str) -> None:
    answers.status, answers.body = 500, _exception(name)
    with pytest.raises(GedUnavailable):
        await ged.create_folder(["dpj"])
    with pytest.raises(GedUnavailable):
        _ = [piece async for piece in ged.read("1")]
    if name == "objectNotFound":
        await ged.delete("1")
        assert await ged.find(["dpj"]) is None
        assert await ged.create(["dpj"], WANTED, _once()) is None
    else:
        with pytest.raises(GedUnavailable):
            await ged.delete("1")


@pytest.mark.parametrize("service", [b"", b"[]", b"{}", b'{"A1": {}}', b'{"A1": {"rootFolderUrl": 5}}'])
async def test_a_service_document_without_our_repository(answers: Answers, ged: CmisRepository, service: bytes) -> None:
    answers.service = service
    with pytest.raises(GedUnavailable):
        await ged.check()


@pytest.mark.parametrize(("length", "size"), [(7, 7), (-1, None), ("7", None), (None, None)])
async def test_a_length_that_is_none_is_not_believed(
    answers: Answers, ged: CmisRepository, length: Any, size: int | None
) -> None:
    properties = {"cmis:objectId": "1", "cmis:contentStreamLength": length}
    answers.body = json.dumps({"succinctProperties": properties}).encode()
    assert await ged.find(["dpj"]) == GedObject("1", size)


async def test_the_password_goes_to_no_other_host(answers: Answers, ged: CmisRepository) -> None:
    answers.body = b'{"succinctProperties": {"cmis:objectId": "1"}}'
    await ged.find(["dpj", "a b"])
    request = answers.seen[-1]
    assert request.startswith("GET /cmis/root/dpj/a%20b?")
    assert "authorization: Basic " in request.replace("Authorization", "authorization")


async def test_a_content_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ged.cmis._SLOWEST", 1e12)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.split()[1] == "/browser":
            body = json.dumps(SERVICE).encode()
            writer.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        else:
            writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100000000\r\n\r\n")
            for _ in range(30):
                writer.write(b"x" * (256 << 10))
                await asyncio.sleep(0.1)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/browser"
    repository = CmisRepository(url, "A1", "dpj", "secret", deadline=0.3)
    try:
        with pytest.raises(GedUnavailable, match="slowly"):
            async for _ in repository.read("1"):
                pass
    finally:
        await repository.aclose()
        server.close()
