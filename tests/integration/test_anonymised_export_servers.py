"""An anonymised export of the real stores: personal texts and ids of production, planted wherever they can stand, are nowhere in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pymongo import MongoClient

from domain.documents import Decision, Document, Role, TimelineEntry
from domain.lifecycle import Status
from identity.tokens import issue_token
from operations.export.anonymised_export import PAGE
from processors.audit.chaining import AuditChainer, AuditFlusher
from runtime.wiring.site import Site
from storage.mongodb.audit import MongoAuditStore
from storage.postgres.audit.chain import PostgresUnchainedLines, PostgresUnflushedEntries
from storage.postgres.export import PostgresExportRows
from tests.support.api_processes import ROOT, settings_with
from tests.support.audit_lines import a_line
from tests.support.builders import a_document, a_dossier

MARK = "zyxdurand"
IDS = frozenset({"document", "dossier", "client", "depositor", "validator", "entity", "conversation"})
FILES = ("audit.jsonl", "documents.jsonl", "manifest.json", "timeline.jsonl")


class Production:
    """A tenant whose every text has the mark in it."""

    def __init__(self, stack: Mapping[str, str], dsn: str, mongo: str) -> None:
        self.tenant = f"{MARK}-{uuid4().hex[:8]}"
        self.changed = {"DPJ_POSTGRES_DSN": dsn, "DPJ_MONGO_DATABASE": mongo}
        self._stack = stack
        self.site = Site(settings_with(stack, postgres_dsn=dsn, mongo_database=mongo))
        self.secrets: set[str] = {self.tenant}

    def _document(self, dossier: Any) -> Document:
        one = uuid4()
        status = Status.ARCHIVED
        return a_document(
            dossier,
            status,
            id=one,
            tenant=self.tenant,
            original_name=f"{MARK}-passeport.pdf",
            object_key=f"documents/{MARK}/{one}",
            depositor_id=self.site.personal.pseudonym("actor", f"{self.tenant}/{MARK}"),
            depositor_email_sealed=self.site.personal.seal(f"{MARK}@example.org"),
            tags=(f"tag-{MARK}",),
            metadata={"numero": f"n-{MARK}"},
            validator_id=uuid4().hex,
            validation_comment=f"vu avec {MARK}",
            rejection_reason=f"non {MARK}",
            pending_decision=Decision(Status.VALIDATED, uuid4().hex, datetime.now(UTC), f"oui {MARK}"),
            ged_id=f"ged-{MARK}-{one}",
            ged_path=f"/dpj/{self.tenant}/2026/{dossier.id}/{one}.pdf",
            correlation_id=uuid4(),
            size=765_432,
            failure_code=None,
            thumbnail_note=None,
        )

    async def fill(self, count: int) -> None:
        dossier = a_dossier(f"D-{MARK}-{uuid4().hex[:6]}", tenant=self.tenant, client_id=f"client-{MARK}")
        documents = [self._document(dossier) for _ in range(count)]
        attempt = replace(self._document(dossier), status=Status.ABANDONED)
        other = a_dossier(tenant="other")
        elsewhere = a_document(other)
        link = uuid4()
        async with self.site.database.transaction() as work:
            for tenant in (self.tenant, "bank"):
                await work.tenants.add(tenant, "tests")
            await work.dossiers.add(dossier)
            await work.dossiers.add(other)
            for document in (*documents, attempt, elsewhere):
                await work.documents.add(document)
            for document in documents:
                for kind in ("STORED", "ARCHIVED"):
                    entry = TimelineEntry(
                        document_id=document.id,
                        dossier_id=dossier.id,
                        type=kind,
                        actor=document.depositor_id,
                        at=datetime.now(UTC),
                        details={
                            "size": 765_432,
                            "reason": MARK,
                            "reference": f"CASE-{MARK}",
                            "ged_path": document.ged_path,
                        },
                    )
                    await work.timeline.add(entry)
                line = a_line(
                    self.tenant,
                    entity_id=str(document.id),
                    actor=document.depositor_id,
                    correlation_id=document.correlation_id,
                    ip_sealed=self.site.personal.seal("198.51.100.77"),
                    details=json.dumps(
                        {"reason": f"R-{MARK}", "purpose": MARK, "sha256": document.sha256, "size": 765_432}
                    ),
                )
                await work.audit_chains.append(line)
                self.secrets |= {str(line.event_id)}
            for odd in (
                a_line(self.tenant, entity_type="token", entity_id=MARK, action="token.revoked", actor=f"link:{link}"),
                a_line(self.tenant, entity_type=MARK, entity_id=self.tenant, action=f"{MARK} was here", details=MARK),
            ):
                await work.audit_chains.append(odd)
        for document in (*documents, attempt):
            self.secrets |= {
                str(value)
                for value in (
                    document.id,
                    document.dossier_id,
                    document.depositor_id,
                    document.validator_id,
                    document.ged_id,
                    document.correlation_id,
                    document.stored_name,
                    document.object_key,
                    document.sha256,
                    document.depositor_email_sealed,
                )
            }
        self.secrets |= {str(link), "198.51.100.77", MARK, str(elsewhere.id)}
        await self.audited()

    async def audited(self) -> None:
        """What the audit worker does; the last lines stay on their way."""
        pending = PostgresUnflushedEntries(self.site.postgres)
        chainer = AuditChainer(PostgresUnchainedLines(self.site.postgres))
        while await chainer.run_once():
            pass
        settings = self.site.settings
        store = MongoAuditStore(settings.mongo_url.get_secret_value(), settings.mongo_database)
        await AuditFlusher(pending, store, self.site.database).flush()
        await store.aclose()

    def dpj(self, *words: str, status: int = 0, **environment: str) -> Any:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_")}
        given = {**clean, **self._stack, **self.changed, "DPJ_SETTINGS": "/nonexistent", **environment}
        if environment.get("DPJ_JWT_PRIVATE_KEY_FILE") == "":
            del given["DPJ_JWT_PRIVATE_KEY_FILE"]
        command = [sys.executable, "-m", "runtime.cli.main", "export", "anonymised", *words, "--json"]
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == status, (words, done.stdout[-500:], done.stderr[-1500:])
        return json.loads(done.stdout)

    def token(self, role: Role) -> str:
        settings = self.site.settings
        assert settings.jwt_private_key_file is not None
        return issue_token(
            settings.jwt_private_key_file, settings.jwt_issuer, settings.jwt_audience, MARK, "bank", [role], 600
        )


@pytest.fixture
async def production(stack: Mapping[str, str], database_dsn: str) -> Any:
    name = f"export-{uuid4().hex[:12]}"
    made = Production(stack, database_dsn, name)
    await made.site.codec.check()
    yield made
    await made.site.aclose()
    with MongoClient[dict[str, Any]](stack["DPJ_MONGO_URL"]) as client:
        client.drop_database(name)


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        yield path.name, path.read_text()


def lines_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


async def test_nothing_personal_and_no_id_of_production_is_in_it(production: Production, tmp_path: Path) -> None:
    await production.fill(PAGE // 10)
    folders = [tmp_path / "one", tmp_path / "two"]
    token = production.token(Role.OPERATOR)
    for folder, times in zip(folders, ("day", "shifted"), strict=True):
        words = ("--tenant", production.tenant, "--to", str(folder), "--reason", "TEST-1", "--times", times)
        told = production.dpj(*words, DPJ_TOKEN=token)
        assert told["lines"]["documents.jsonl"] == 50
        assert told["lines"]["timeline.jsonl"] == 100
        assert told["lines"]["audit.jsonl"] >= 52
    for folder in folders:
        found = dict(contents(folder))
        assert tuple(found) == FILES
        for name, text in found.items():
            assert len(text) > 100, name
            assert [secret for secret in production.secrets if secret.lower() in text.lower()] == [], name
    one, two = (lines_of(folder, "documents.jsonl") for folder in folders)
    assert {line["size"] for line in one} == {765_432}
    assert {line["client"] for line in one} != {line["client"] for line in two}
    for name in ("documents.jsonl", "timeline.jsonl", "audit.jsonl"):
        ids = [
            {str(value) for line in lines_of(folder, name) for key, value in line.items() if key in IDS}
            for folder in folders
        ]
        assert ids[0]
        assert not ids[0] & ids[1]
    timeline = lines_of(folders[0], "timeline.jsonl")
    assert {line["document"] for line in timeline} == {line["document"] for line in one}
    assert {json.dumps(line["details"]) for line in timeline} == {'{"size": 765432}'}


async def test_it_is_an_operators_and_on_record(production: Production, tmp_path: Path) -> None:
    await production.fill(2)
    words = ("--tenant", production.tenant, "--to", str(tmp_path / "x"), "--reason", "TEST-1")
    refused = production.dpj(*words, status=1, DPJ_TOKEN=production.token(Role.AUDITOR))
    assert refused["error"]["code"] == "forbidden"
    nobody = production.dpj(*words, status=1, DPJ_JWT_PRIVATE_KEY_FILE="")
    assert nobody["error"]["code"] == "token_needed"
    assert "reason_invalid" in json.dumps(
        production.dpj(*words[:-1], "Monsieur Durand", status=1, DPJ_TOKEN=production.token(Role.OPERATOR))
    )
    assert not (tmp_path / "x").exists()
    told = production.dpj(*words, DPJ_TOKEN=production.token(Role.OPERATOR))
    again = production.dpj(*words, status=1, DPJ_TOKEN=production.token(Role.OPERATOR))
    assert again["error"]["code"] == "os_error"
    async with production.site.postgres.connection() as connection:
        rows = await connection.fetch("SELECT body FROM outbox WHERE topic = 'dpj.audit.recorded' ORDER BY id")
    lines = [await production.site.codec.decode("dpj.audit.recorded", row["body"]) for row in rows]
    found = [line for line in lines if getattr(line, "entity_id", "") == told["export"]]
    assert [getattr(line, "action", "") for line in found] == ["export.anonymised", "export.anonymised.completed"]
    assert {line.actor for line in found} == {production.site.personal.pseudonym("actor", f"bank/{MARK}")}
    assert {line.tenant for line in found} == {production.tenant}


async def test_pages_are_read_once_and_in_order(production: Production) -> None:
    await production.fill(7)
    rows = PostgresExportRows(production.site.postgres)
    assert await rows.count(production.tenant) == 7
    after, seen = UUID(int=0), list[UUID]()
    while page := await rows.documents(production.tenant, after, 3):
        assert len(page) <= 3
        seen += [row.id for row in page]
        after = page[-1].id
    assert seen == sorted(seen)
    assert len(set(seen)) == 7
    last, entries = None, []
    while found := await rows.timeline(seen, last, 4):
        entries += [(row.document_id, row.rank) for row in found]
        last = entries[-1]
    assert entries == sorted(set(entries))
    assert len(entries) == 14
