"""Runs hostile cases through intake, integrity and rendering, in memory but for the parsers, which are real children."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from domain.documents import Document
from domain.events import DocumentQuarantined, DocumentUploaded, DocumentVerified, Event
from domain.lifecycle import Status
from domain.personal_texts import ClearTexts
from domain.renderings import RENDERED_TYPES
from ingest_api.sniffing import MagicSniffer
from processors.events.integrity import IntegrityProcessor
from processors.events.renditions import RenditionProcessor
from rendering.pool import RenderPool
from tests.support.api import BOUNDARY, FORM_END, FORM_TYPE, a_client, an_app, bearer, metadata_of
from tests.support.fakes_intake import IntakeBench, a_rule
from tests.support.hostile.cases import THUMBNAIL, Case, refused, without
from tests.support.rendering import offspring

MEMORY_BYTES = 512 << 20
TIMEOUT = 20.0
LOOK_SECONDS = 0.02


class Facts:
    """Extended metadata in a dict; what is put must be what a document database takes."""

    def __init__(self) -> None:
        self.held: dict[UUID, Mapping[str, Any]] = {}

    async def put(self, document_id: UUID, tenant: str, metadata: Mapping[str, Any]) -> None:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
        text.encode()
        self.held[document_id] = json.loads(text)

    async def delete(self, document_id: UUID, tenant: str) -> None:
        self.held.pop(document_id, None)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """``end`` as ``Case.end``; ``seconds`` from the upload's first byte to the end; what is kept of the upload's ``texts``, in the
    clear, and of the parsers' ``facts``: nothing of what was refused. ``download`` is the Content-Disposition that it is served
    under."""

    end: str
    seconds: float
    texts: ClearTexts | None
    facts: Mapping[str, Any]
    download: str = ""


class CaseRunner:
    """The way of a document over memory, with real parsers and the real sniffer."""

    def __init__(self, pool: RenderPool) -> None:
        self.bench = bench = IntakeBench()
        bench.intake = bench.an_intake(MagicSniffer())
        bench.database.rows.types["CNI"] = a_rule(allowed_formats=RENDERED_TYPES, max_size_bytes=200 << 20)
        self.facts = Facts()
        self.integrity = IntegrityProcessor(bench.database, bench.content, bench.clock)
        self.renditions = RenditionProcessor(bench.database, bench.content, pool, self.facts, bench.clock)
        self.peak = 0
        self.pool = pool

    async def run(self, client: httpx.AsyncClient, case: Case) -> CaseResult:
        began = time.monotonic()
        answer = await self._post(client, case)
        if answer.status_code != 201:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.status_code < 500, answer.text
            return CaseResult(refused(answer.json()["code"]), time.monotonic() - began, None, {})
        document_id = UUID(answer.json()["id"])
        event = self._event(DocumentUploaded, document_id)
        await self._commit(self.integrity, event)
        if self._row(document_id).status is Status.QUARANTINED:
            said = self._event(DocumentQuarantined, document_id)
            end = f"QUARANTINED: {said.reason_code}"
            return CaseResult(end, time.monotonic() - began, self._texts(document_id), {})
        await self._commit(self.renditions, self._event(DocumentVerified, document_id))
        document = self._row(document_id)
        assert document.status is Status.VERIFIED
        end = THUMBNAIL if document.thumbnail_note is None else without(document.thumbnail_note)
        facts, seconds = self.facts.held.get(document_id, {}), time.monotonic() - began
        served = await client.get(answer.json()["links"]["content"], headers={**bearer(), "Range": "bytes=0-0"})
        self._forget(document)
        return CaseResult(end, seconds, self._texts(document_id), facts, served.headers["content-disposition"])

    async def _post(self, client: httpx.AsyncClient, case: Case) -> httpx.Response:
        said = json.dumps(metadata_of(self.bench, **case.metadata)).encode()
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n'.encode()
            + said
            + f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="'.encode()
            + case.file_name
            + f'"\r\nContent-Type: {case.mime_type}\r\n\r\n'.encode()
            + await asyncio.to_thread(case.make)
            + FORM_END
        )
        return await client.post("/api/v1/documents", headers={**bearer(), **FORM_TYPE}, content=body)

    async def _commit(self, processor: Any, event: Event) -> None:
        commit = await processor.process(event)
        async with self.bench.database.transaction() as work:
            await commit(work)

    def _event(self, kind: type[Any], document_id: UUID) -> Any:
        return next(e for e in self.bench.events() if isinstance(e, kind) and e.document_id == document_id)

    def _row(self, document_id: UUID) -> Document:
        return self.bench.database.rows.documents[document_id]

    def _texts(self, document_id: UUID) -> ClearTexts:
        return self.bench.texts.shown(self._row(document_id)).texts

    def _forget(self, document: Document) -> None:
        """Several hundred documents need not stay in memory."""
        for key in [key for key in self.bench.objects.objects if key.startswith(document.object_key)]:
            del self.bench.objects.objects[key]

    async def watch(self) -> None:
        """Note the largest memory that any child ever held."""
        while True:
            for child in self.pool.pids:
                for pid in (child, *offspring(child)):
                    self.peak = max(self.peak, peak_of(pid))
            await asyncio.sleep(LOOK_SECONDS)


def peak_of(pid: int) -> int:
    """The most that the process ever had resident, in bytes (proc(5), VmHWM); 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@asynccontextmanager
async def a_case_runner(**limits: Any) -> AsyncIterator[tuple[CaseRunner, httpx.AsyncClient]]:
    pool = RenderPool(**{"children": 1, "timeout": TIMEOUT, "memory_bytes": MEMORY_BYTES, "confined": True, **limits})
    gauntlet = CaseRunner(pool)
    watching = asyncio.create_task(gauntlet.watch())
    try:
        async with a_client(an_app(gauntlet.bench, body_timeout=60.0)) as client:
            yield gauntlet, client
    finally:
        watching.cancel()
        await pool.aclose()
