"""Audit lines about a document are sealed under its own key, others under the site's; an erasure takes the first and leaves the chain."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from crypto.personal_data import PersonalDataKeys
from domain.audit_chain import StoredEntry, verify
from domain.documents import Document, Role
from domain.erasure import LegalBasis
from domain.errors import AuditConflict
from domain.events import AuditRecorded
from domain.lifecycle import Status
from domain.subjects import Legibility, subject_of
from processors.audit.reading import AuditEntryReader, OpenedAuditEntry
from processors.documents.callers import Caller, LinkVisitor
from processors.documents.dossiers import NewDossier
from tests.support.audit_lines import chain_of
from tests.support.builders import a_document
from tests.support.fakes_intake import IntakeBench, opened
from tests.support.memory_subject_keys import MemorySubjectKeyReader

OPERATOR = Role.OPERATOR
Act = Callable[[IntakeBench, Document], Awaitable[Any]]


def key_of(bench: IntakeBench, document: Document) -> str | None:
    held = bench.database.rows.subject_keys.get(subject_of(document))
    return held and held.wrapped


async def _content(bench: IntakeBench, document: Document) -> None:
    async for _ in await bench.reading.read(bench.caller(), document.id):
        pass


async def _link(bench: IntakeBench, document: Document) -> None:
    link, token = await bench.links.create(bench.caller(), document.id, "partner", 60)
    visitor = LinkVisitor(correlation_id=uuid4(), ip="192.0.2.7", user_agent="agent/1")
    async for _ in await bench.links.read(visitor, token):
        pass
    await bench.links.revoke(bench.caller(), document.id, link.id)


async def _keep(bench: IntakeBench, document: Document) -> None:
    operator = bench.caller(OPERATOR)
    await bench.retention.read(operator, document.id)
    await bench.retention.set_hold(operator, document.id, "CASE-1", "LITIGATION")
    await bench.retention.lift_hold(operator, document.id, "CASE-1", "CLOSED")
    await bench.retention.extend(operator, document.id, bench.clock.at + timedelta(days=9000), "AUDIT-9")


ACTS: dict[str, Act] = {
    "document.read": lambda bench, document: bench.reading.document(bench.caller(), document.id),
    "document.events.read": lambda bench, document: bench.reading.timeline(bench.caller(), document.id),
    "document.content.read": _content,
    "document.link.used": _link,
    "document.retention.extended": _keep,
    "document.validated": lambda bench, document: bench.validation.validate(bench.caller(), document.id, None),
}


@pytest.mark.parametrize("action", ACTS)
@pytest.mark.parametrize("kept", [True, False])
async def test_every_line_about_a_document_is_sealed_under_its_one_key(
    bench: IntakeBench, action: str, *, kept: bool
) -> None:
    """Also of a document from before there were such keys: its first line makes one."""
    document = await bench.stored(Status.VERIFIED)
    if not kept:
        bench.database.rows.subject_keys.clear()
    before = len(bench.audited())
    await ACTS[action](bench, document)
    lines = bench.audited()[before:]
    assert action in [line.action for line in lines]
    assert {opened(bench, line) for line in lines} == {("192.0.2.7", "agent/1")}
    assert len(bench.database.rows.subject_keys) == 1


async def test_an_upload_writes_its_document_with_a_key(bench: IntakeBench) -> None:
    first, second = await bench.stored(), await bench.stored()
    assert key_of(bench, first) != key_of(bench, second)
    assert [opened(bench, line) for line in bench.audited()] == [("192.0.2.7", "agent/1")] * 2
    assert str(key_of(bench, first)) not in repr(bench.database.rows.outbox)


async def test_an_upload_that_fails_leaves_no_key(bench: IntakeBench) -> None:
    with pytest.raises(Exception, match="SHA-256"):
        await bench.receive(sha256="0" * 64)
    assert bench.database.rows.subject_keys == {}


async def test_what_is_about_no_document_is_sealed_under_the_sites_key(bench: IntakeBench) -> None:
    await bench.dossiers.create(bench.caller(), NewDossier(number="D-9", client_id="C", journey_type="LOAN"))
    await bench.dossiers.page(bench.caller())
    await bench.reading.page(bench.caller())
    await bench.reading.types(bench.caller())
    lines = bench.audited()
    assert len(lines) == 4
    assert {bench.personal.unseal(line.ip_sealed or "") for line in lines} == {"192.0.2.7"}
    assert bench.database.rows.subject_keys == {}


async def test_an_attempt_that_an_operator_looks_at_gets_no_key(bench: IntakeBench) -> None:
    attempt = a_document(bench.dossier, Status.PENDING)
    bench.database.put(attempt)
    await bench.reading.document(bench.caller(OPERATOR), attempt.id)
    assert bench.database.rows.subject_keys == {}
    assert bench.personal.unseal(bench.audited()[-1].ip_sealed or "") == "192.0.2.7"


async def test_a_caller_without_an_address_needs_no_key(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    bench.database.rows.subject_keys.clear()
    caller = Caller(subject="u1", tenant="acme", roles=frozenset({Role.PORTAL}), correlation_id=uuid4())
    await bench.reading.document(caller, document.id)
    assert (bench.audited()[-1].ip_sealed, bench.database.rows.subject_keys) == (None, {})


async def erase(bench: IntakeBench, document: Document) -> None:
    await bench.erasure_requests.request(bench.caller(OPERATOR), document.id, "T-1", LegalBasis.GDPR_17_1_B)


async def test_an_erasure_destroys_its_own_documents_key_and_no_other(bench: IntakeBench) -> None:
    document, neighbour = await bench.stored(Status.VERIFIED), await bench.stored(Status.VERIFIED)
    await erase(bench, document)
    held = bench.database.rows.subject_keys[subject_of(document)]
    assert (held.wrapped, held.destroyed_at is not None) == (None, True)
    assert key_of(bench, neighbour) is not None


async def test_who_asks_for_an_erasure_and_who_comes_after_it_stays_known(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    await erase(bench, document)
    await erase(bench, document)
    await bench.reading.document(bench.caller(), document.id)
    lines = bench.audited()[-3:]
    assert [line.action for line in lines] == ["document.erasing", "document.erase.repeated", "document.read"]
    assert {bench.personal.unseal(line.ip_sealed or "") for line in lines} == {"192.0.2.7"}
    assert key_of(bench, document) is None


async def test_a_document_from_before_the_keys_gets_none_after_its_erasure(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    bench.database.rows.subject_keys.clear()
    await erase(bench, document)
    late = bench.database.rows.documents[document.id]
    async with bench.database.transaction() as work:
        assert await work.subjects.ensure(subject_of(late), "k") is None


async def test_a_line_whose_key_is_destroyed_this_moment_is_sealed_under_the_sites(bench: IntakeBench) -> None:
    """Who read the document a moment before its erasure, when it had no key yet."""
    document = await bench.stored(Status.VERIFIED)
    bench.database.rows.subject_keys.clear()
    read = bench.database.rows.documents[document.id]
    await erase(bench, document)
    async with bench.database.transaction() as work:
        origin = await bench.reading._origins.about(work, read, bench.caller())
    assert bench.personal.unseal(origin.ip_sealed or "") == "192.0.2.7"


async def test_a_sites_key_that_was_taken_away_keeps_nobody_from_reading(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    other = IntakeBench()
    other.database = bench.database
    other.reading._database = bench.database
    await other.reading.document(other.caller(), document.id)
    assert other.personal.unseal(bench.audited()[-1].ip_sealed or "") == "192.0.2.7"


async def test_neither_who_acts_nor_whose_file_it_is_stands_in_an_event_or_a_line(bench: IntakeBench) -> None:
    """Actors and dossiers are there under pseudonyms, of one actor the same one everywhere; clients are not there at all."""
    marked = bench.caller(Role.PORTAL, Role.VALIDATOR, subject="zyx-portal")
    dossier = await bench.dossiers.create(
        marked, NewDossier(number="D-zyx", client_id="zyx-client", journey_type="LOAN")
    )
    receipt = await bench.receive(caller=marked, dossier_id=dossier.id)
    await bench.validation.validate(marked, UUID(receipt.body["id"]), "zyx")
    written = bench.database.rows.outbox
    assert "zyx" not in repr(written)
    assert {line.actor for line in bench.audited()} == {event.actor for event in bench.events()}
    assert len({line.actor for line in bench.audited()}) == 1
    assert str(dossier.id) not in repr(bench.events())


# --- the auditor's look ------------------------------------------------------------------------------------------------


class Entries:
    """An audit store that holds the lines in one chain."""

    def __init__(self, lines: list[AuditRecorded]) -> None:
        self.chain = chain_of(lines)

    async def of_entity(self, tenant: str, entity_id: str) -> AsyncGenerator[StoredEntry, None]:
        for entry in self.chain:
            if entry.tenant == tenant and entry.fields()["entity_id"] == entity_id:
                yield StoredEntry(entry, faithful=True)


async def look(
    bench: IntakeBench, document_id: UUID, personal: PersonalDataKeys | None = None
) -> list[OpenedAuditEntry]:
    entries = Entries([line for line in bench.audited() if line.tenant == "acme"])
    reader = MemorySubjectKeyReader(bench.database)
    reading = AuditEntryReader(entries, reader, personal or bench.personal, bench.database, bench.clock, "u-auditor")
    found = [entry async for entry in reading.about("acme", document_id, "AUDIT-7")]
    assert verify("acme", entries.chain) is None
    return found


async def test_an_auditor_reads_addresses_until_they_are_erased(bench: IntakeBench) -> None:
    document, neighbour = await bench.stored(Status.VERIFIED), await bench.stored(Status.VERIFIED)
    await bench.reading.document(bench.caller(), document.id)
    before = await look(bench, document.id)
    assert [(one.ip.text, one.user_agent.text) for one in before] == [("192.0.2.7", "agent/1")] * 2
    await erase(bench, document)
    after = await look(bench, document.id)
    read, asked = after[:2], after[-1]
    for one in read:
        assert (one.ip.legibility, one.ip.text) == (Legibility.ERASED, None)
        assert one.user_agent.erased_at == bench.database.rows.subject_keys[subject_of(document)].destroyed_at
    assert (asked.action, asked.ip.text) == ("document.erasing", "192.0.2.7")
    assert {one.ip.legibility for one in await look(bench, neighbour.id)} == {Legibility.CLEAR}


async def test_looking_is_on_record_before_the_first_entry_is_given(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    await look(bench, document.id)
    line = bench.audited()[-1]
    assert (line.action, line.actor, line.entity_id) == ("audit.unsealed", "u-auditor", str(document.id))
    assert json.loads(line.details) == {"reason": "AUDIT-7"}
    again = await look(bench, document.id)
    assert (again[-1].action, again[-1].ip.legibility) == ("audit.unsealed", Legibility.ABSENT)


async def test_what_no_erasure_explains_is_unreadable_and_not_erased(bench: IntakeBench) -> None:
    document = await bench.stored(Status.VERIFIED)
    foreign = PersonalDataKeys([b"x" * 32], b"p" * 32)
    assert (await look(bench, document.id, foreign))[0].ip.legibility is Legibility.UNREADABLE
    bench.database.rows.subject_keys.clear()
    assert (await look(bench, document.id))[0].ip.legibility is Legibility.UNREADABLE


async def test_an_entry_that_is_none_stops_the_look(bench: IntakeBench) -> None:
    class Broken(Entries):
        async def of_entity(self, tenant: str, entity_id: str) -> AsyncGenerator[StoredEntry, None]:
            yield StoredEntry(replace(self.chain[0], body=b"[]"), faithful=False)

    document = await bench.stored(Status.VERIFIED)
    reader = MemorySubjectKeyReader(bench.database)
    reading = AuditEntryReader(
        Broken(bench.audited()), reader, bench.personal, bench.database, bench.clock, "u-auditor"
    )  # fmt: skip
    with pytest.raises(AuditConflict):
        [entry async for entry in reading.about("acme", document.id, "AUDIT-7")]
