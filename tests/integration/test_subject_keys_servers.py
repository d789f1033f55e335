"""Keys of subjects on the real servers: what an upload costs, what an erasure takes, and that the signed audit log stays as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from pymongo import AsyncMongoClient

import storage.postgres.database
from crypto.personal_data import PersonalDataKeys
from domain.documents import Document, Role
from domain.erasure import LegalBasis
from domain.events import AuditRecorded
from domain.subjects import Legibility
from ingest_api.presenters import document_body
from processors.audit.reading import AuditEntryReader, OpenedAuditEntry
from processors.documents.callers import Caller
from processors.documents.intake import Intake
from processors.documents.reading import DocumentReader
from processors.documents.upload_attempts import UploadAttempts
from processors.documents.validation import Validation
from processors.retention.erasure_request import ErasureRequests
from processors.retention.legal_holds import RetentionActions
from schemas.codec import EventCodec
from storage.postgres.connections import prepare_connection
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.keys.subject_keys import PostgresSubjectKeyReader
from storage.postgres.queries import PostgresQueries
from tests.integration.test_audit_checkpoints import Site
from tests.support.audit_histories import verified
from tests.support.audit_lines import a_line
from tests.support.builders import a_dossier
from tests.support.fakes_intake import IntakeBench, PrefixSniffer

PORTAL_IP, AGENT = "198.51.100.77", "Navigateur de Durand/1"


class OnServers:
    """The API's use cases over PostgreSQL, contents in memory; audit lines go their whole way, to a signed checkpoint."""

    def __init__(self, site: Site, codec: EventCodec) -> None:
        self.site, self.codec = site, codec
        self.bench = IntakeBench()
        self.personal = self.bench.personal
        database, clock = site.database, site.clock
        self.dossier = a_dossier(tenant=site.tenant)
        self.attempts = UploadAttempts(database, self.bench.content, clock, lease_seconds=60.0)
        texts = self.bench.texts
        self.intake = Intake(database, self.bench.content, self.attempts, PrefixSniffer(), self.personal, texts, clock)
        queries = PostgresQueries(site.postgres)
        self.reading = DocumentReader(database, queries, self.bench.stopped, self.bench.content, self.personal, clock)
        self.validation = Validation(database, self.personal, texts, clock)
        self.keeping = RetentionActions(database, self.personal, clock)
        self.erasing = ErasureRequests(database, self.personal, clock)
        self.moved: set[int] = set()

    def caller(self, *roles: Role, subject: str = "durand") -> Caller:
        made = self.bench.caller(*roles, tenant=self.site.tenant, subject=subject)
        return replace(made, ip=PORTAL_IP, user_agent=AGENT)

    async def upload(self) -> UUID:
        upload = self.bench.upload(dossier_id=self.dossier.id)
        receipt = await self.intake.receive(self.caller(), upload, document_body)
        return UUID(receipt.body["id"])

    async def document(self, document_id: UUID) -> Document:
        async with self.site.database.transaction() as work:
            return await work.documents.get(document_id)

    async def erase(self, document_id: UUID) -> None:
        await self.erasing.request(self.caller(Role.OPERATOR), document_id, "T-1", LegalBasis.GDPR_17_1_B)

    async def audit(self) -> None:
        """What relay and audit worker do."""
        rows = await self.site.sql("SELECT id, body FROM outbox WHERE topic = 'dpj.audit.recorded' ORDER BY id")
        lines = []
        for row in rows:
            if row["id"] not in self.moved:
                self.moved.add(row["id"])
                event = await self.codec.decode("dpj.audit.recorded", row["body"])
                assert isinstance(event, AuditRecorded)
                lines.append(event)
        await self.site.write(*lines)

    async def look(self, document_id: UUID, personal: PersonalDataKeys | None = None) -> list[OpenedAuditEntry]:
        reader = PostgresSubjectKeyReader(self.site.postgres)
        parts = (self.site.history, reader, personal or self.personal, self.site.database, self.site.clock)
        async with aclosing(AuditEntryReader(*parts, "u-auditor").about(self.site.tenant, document_id, "A-1")) as found:
            return [entry async for entry in found]


@pytest.fixture
async def servers(
    stack: Mapping[str, str], postgres: Postgres, database: PostgresDatabase, codec: EventCodec
) -> AsyncIterator[OnServers]:
    name = f"subjects-{uuid4().hex[:12]}"
    site = Site(dict(stack), postgres, database, name)
    made = OnServers(site, codec)
    async with database.transaction() as work:
        await work.dossiers.add(made.dossier)
    yield made
    async with AsyncMongoClient[dict[str, Any]](stack["DPJ_MONGO_URL"]) as client:
        await client.drop_database(name)
    await site.history.aclose()
    await site.store.aclose()
    await site.signer.aclose()


async def test_an_erasure_takes_the_addresses_and_leaves_the_signed_log_as_it_was(
    servers: OnServers, tmp_path: Path, capsys: Any
) -> None:
    document, neighbour = await servers.upload(), await servers.upload()
    for one in (document, neighbour):
        await servers.reading.document(servers.caller(), one)
    await servers.reading.page(servers.caller())
    await servers.audit()
    await servers.site.checkpointer.run_once()
    before = await servers.look(document)
    assert [(one.action, one.ip.text, one.user_agent.text) for one in before] == [
        ("document.stored", PORTAL_IP, AGENT),
        ("document.read", PORTAL_IP, AGENT),
    ]
    signed = [entry.body for entry in await servers.site.entries()]

    await servers.erase(document)
    await servers.erase(document)
    await servers.audit()
    await servers.site.checkpointer.run_once()
    after = await servers.look(document)
    assert [one.ip.legibility for one in after[:2]] == [Legibility.ERASED] * 2
    assert [one.user_agent.text for one in after[:2]] == [None] * 2
    assert {one.user_agent.text for one in after[2:] if one.action.startswith("document.eras")} == {AGENT}
    assert {one.ip.text for one in await servers.look(neighbour)} == {PORTAL_IP}

    assert [entry.body for entry in await servers.site.entries()][: len(signed)] == signed
    report = await servers.site.report()
    assert report.intact, report.report_lines
    assert report.chains[0].signed == report.chains[0].verified == len(await servers.site.entries())
    folder = await servers.site.exported(tmp_path / "export")
    kept = tmp_path / "keys.json"
    kept.write_bytes((folder / "keys.json").read_bytes())
    code, told = verified(capsys, "export", folder, "--keys", kept, "--tenant", servers.site.tenant)
    assert (code, told["verified"]) == (0, True)


async def test_whoever_has_every_key_of_the_site_reads_nothing_of_what_was_erased(servers: OnServers) -> None:
    document = await servers.upload()
    row = (await servers.site.sql("SELECT * FROM cles_sujets WHERE sujet = $1", document))[0]
    assert row["cle_enveloppee"].startswith("k1.")
    await servers.erase(document)
    row = (await servers.site.sql("SELECT * FROM cles_sujets WHERE sujet = $1", document))[0]
    assert (row["cle_enveloppee"], row["detruite_a"] is not None) == (None, True)
    held = await servers.site.sql("SELECT to_jsonb(t)::text AS held FROM cles_sujets t")
    assert not [one for one in held if "k1." in one["held"]]


class Statements:
    """What the pool's connections are told, BEGIN and COMMIT apart."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def prepare(self, connection: asyncpg.Connection[Any]) -> None:
        await prepare_connection(connection)
        connection.add_query_logger(self._heard)

    def _heard(self, record: Any) -> None:
        if record.query.rstrip(";") not in {"BEGIN", "COMMIT"}:
            self.said.append(" ".join(record.query.split()))

    async def of(self, act: Any) -> list[str]:
        await asyncio.sleep(0)
        self.said.clear()
        await act
        await asyncio.sleep(0)
        return list(self.said)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    heard = Statements()
    monkeypatch.setattr(storage.postgres.database, "prepare_connection", heard.prepare)
    return heard


async def test_a_key_costs_no_statement_of_its_own(statements: Statements, servers: OnServers) -> None:
    """Neither at an upload, which takes three, nor at a read of a document that has one; the first line about an older one takes one."""
    document = await servers.upload()
    uploaded = await statements.of(servers.upload())
    assert len(uploaded) == 3, uploaded
    assert sum("cles_sujets" in said for said in uploaded) == 1
    read = await statements.of(servers.reading.document(servers.caller(), document))
    await servers.site.sql("DELETE FROM cles_sujets")
    older = await statements.of(servers.reading.document(servers.caller(), document))
    assert len(older) == len(read) + 1
    assert "INSERT INTO cles_sujets" in older[1]
    again = await statements.of(servers.reading.document(servers.caller(), document))
    assert len(again) == len(read)


async def test_an_upload_that_is_refused_at_its_end_leaves_no_key(servers: OnServers) -> None:
    upload = servers.bench.upload(dossier_id=servers.dossier.id, sha256="0" * 64)
    with pytest.raises(Exception, match="SHA-256"):
        await servers.intake.receive(servers.caller(), upload, document_body)
    assert await servers.site.sql("SELECT 1 FROM cles_sujets") == []


async def test_many_uploads_of_one_moment_have_each_their_own_key(servers: OnServers) -> None:
    documents = await asyncio.gather(*(servers.upload() for _ in range(40)))
    await servers.audit()
    held = await servers.site.sql("SELECT sujet, cle_enveloppee FROM cles_sujets")
    assert {row["sujet"] for row in held} == set(documents)
    assert len({row["cle_enveloppee"] for row in held}) == 40
    for document in documents:
        assert [entry.ip.text for entry in await servers.look(document)] == [PORTAL_IP]


@pytest.mark.parametrize("kept", [True, False])
async def test_readers_beside_an_erasure_bring_no_key_back(servers: OnServers, *, kept: bool) -> None:
    """Whether the document has a key, or is from before there were any: then each reader would make one."""
    for _ in range(5):
        document = await servers.upload()
        if not kept:
            await servers.site.sql("DELETE FROM cles_sujets WHERE detruite_a IS NULL")
        readers = [servers.reading.document(servers.caller(), document) for _ in range(8)]
        await asyncio.gather(*readers[:4], servers.erase(document), *readers[4:])
        rows = await servers.site.sql("SELECT cle_enveloppee FROM cles_sujets WHERE sujet = $1", document)
        assert [row["cle_enveloppee"] for row in rows] == [None]
        assert (await servers.document(document)).subject_key is None
    await servers.audit()
    assert (await servers.site.report()).intact


async def test_lines_from_before_the_keys_stay_readable(servers: OnServers) -> None:
    """Under the site's key, as an earlier release wrote them; also after an erasure, which knows no key of theirs."""
    document = await servers.upload()
    older = servers.personal.seal(PORTAL_IP)
    line = a_line(servers.site.tenant, entity_id=str(document), ip_sealed=older, action="document.read")
    await servers.audit()
    await servers.site.write(line)
    await servers.erase(document)
    await servers.audit()
    found = {entry.action: entry.ip for entry in await servers.look(document)}
    assert (found["document.stored"].legibility, found["document.read"].text) == (Legibility.ERASED, PORTAL_IP)
