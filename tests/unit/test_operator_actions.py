"""What an operator may do about each consumer's letters, and what is refused with which reason."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.audit_chain import SYSTEM_TENANT
from domain.dead_letters import CUT_BYTES, REDRIVEN_FOR, REPLAYS, DeadLetter, HeldEvent, RecordPosition, RefusedRow
from domain.documents import Document
from domain.errors import DatabaseUnavailable, EventUndecodable, RegistryUnavailable
from domain.events import AuditRecorded, DocumentEvent, DocumentUploaded, DocumentValidated, DocumentVerified, Event
from domain.lifecycle import Status
from operations.kafka.dead_letters import AddressInvalid, parse_address
from processors.operators.dead_letters import OperatorActions
from tests.support.builders import NOW, a_document
from tests.support.memory import MemoryDatabase
from tests.support.memory_inbox import InboxRow

COMMON: dict[str, Any] = {
    "sequence": 1, "occurred_at": NOW, "correlation_id": UUID(int=5), "tenant": "acme", "actor": "a",
}  # fmt: skip
ABOUT: dict[str, Any] = {"object_key": "o", "size": 1, "mime_type": "m", "sha256": "s", "type_code": "CNI"}


def uploaded(document: Document) -> DocumentEvent:
    return DocumentUploaded(event_id=uuid4(), document_id=document.id, dossier_ref="d", **COMMON, **ABOUT)


def verified(document: Document) -> DocumentEvent:
    return DocumentVerified(event_id=uuid4(), document_id=document.id, **COMMON, **ABOUT)


def validated(document: Document) -> DocumentEvent:
    return DocumentValidated(event_id=uuid4(), document_id=document.id, validator="v", comment_code="NONE", **COMMON)


def recorded() -> AuditRecorded:
    return AuditRecorded(
        event_id=uuid4(), entity_type="document", entity_id="e", action="x", details="{}", old_state=None,
        new_state=None, ip_sealed=None, user_agent_sealed=None, **COMMON,
    )  # fmt: skip


class Site:
    """A desk over a database in memory, with a decoder that knows the events it was given."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.events: dict[bytes, Event] = {}
        self.decoder_fails: Exception | None = None
        self.operator_actions = OperatorActions(self.database, self, self.database.clock, "p:operator")
        self.offset = 0

    async def decode(self, topic: str, value: bytes, schema: str | None = None) -> Event:
        if self.decoder_fails:
            raise self.decoder_fails
        if value not in self.events:
            raise EventUndecodable
        return self.events[value]

    def letter(self, consumer: str, event: Event | None, **headers: str) -> DeadLetter:
        """What ``consumer`` writes when it gives ``event`` up; its inbox says DEAD."""
        value = str(event.event_id).encode() if event else b"garbage"
        event_id = event.event_id if event else uuid4()
        if event:
            self.events[value] = event
        key = event.key if event else "?"
        self.database.rows.inbox[consumer, event_id] = InboxRow(key, "DEAD", uuid4(), NOW)
        self.offset += 1
        return DeadLetter(
            RecordPosition(f"dpj.dlq.{consumer}", 0, self.offset, 1),
            key.encode(),
            value,
            {
                "dpj-consumer": consumer,
                "dpj-code": "archive_refused",
                "dpj-event-id": str(event_id),
                "dpj-origin-topic": event.TOPIC if event else "dpj.document.uploaded",
                "correlation-id": "c",
                **headers,
            },
        )

    def put(self, status: Status, **changes: Any) -> Document:
        document = a_document(status=status, **changes)
        self.database.put(document)
        return document

    def now(self, document: Document) -> Document:
        return self.database.rows.documents[document.id]


@pytest.fixture
def site() -> Site:
    return Site()


async def test_archiving_gets_a_document_that_failed_back_as_validated(site: Site) -> None:
    document = site.put(Status.ARCHIVE_FAILED, failure_code="archive_refused")
    event = validated(document)
    letter = site.letter("archiving", event)
    assert (await site.operator_actions.redrive(letter, apply=True)).note == "its document: ARCHIVE_FAILED -> VALIDATED"
    assert (site.now(document).status, site.now(document).failure_code) == (Status.VALIDATED, None)
    assert ("archiving", event.event_id) not in site.database.rows.inbox
    (record,) = site.database.dead_letters()
    assert (record.topic, record.key, record.value) == (event.TOPIC, letter.key, letter.value)
    assert record.headers == {
        "correlation-id": "c", "event-id": str(event.event_id), REPLAYS: "1", REDRIVEN_FOR: "archiving",
    }  # fmt: skip
    moved, redriven = site.database.audited()
    assert json.loads(moved.details) == {"after": "archive_refused"}
    assert (redriven.tenant, redriven.actor, redriven.entity_type, redriven.entity_id, redriven.action) == (
        "acme", "p:operator", "document", str(document.id), "dead_letter.redriven",
    )  # fmt: skip
    assert json.loads(redriven.details) == {
        "consumer": "archiving", "code": "archive_refused", "event_id": str(event.event_id),
        "letter": letter.place.address, "replays": 1,
    }  # fmt: skip


async def test_a_dry_run_tells_the_same_and_changes_nothing(site: Site) -> None:
    document = site.put(Status.ARCHIVE_FAILED)
    letter = site.letter("archiving", validated(document))
    before = site.database.rows.copied()
    told = [
        await site.operator_actions.redrive(letter, apply=False),
        await site.operator_actions.discard(letter, "INC-1", apply=False),
    ]
    assert site.database.rows == before
    assert told[0] == await site.operator_actions.redrive(letter, apply=True)
    assert told[1].outcome == "done"


async def test_a_handled_letter_stays_handled(site: Site) -> None:
    letter = site.letter("archiving", validated(site.put(Status.ARCHIVE_FAILED)))
    assert (await site.operator_actions.redrive(letter, apply=True)).outcome == "done"
    for result in (
        await site.operator_actions.redrive(letter, apply=True),
        await site.operator_actions.discard(letter, "x", apply=True),
    ):
        assert result.outcome == "handled"
    assert len(site.database.dead_letters()) == 1


@pytest.mark.parametrize(
    ("consumer", "status", "outcome", "words"),
    [
        ("integrity", Status.STORED, "done", "stays STORED"),
        ("integrity", Status.QUARANTINED, "refused", "no way leads back"),
        ("integrity", Status.VERIFIED, "refused", "is VERIFIED: nothing is left to do"),
        ("archiving", Status.VALIDATED, "done", "stays VALIDATED"),
        ("archiving", Status.ARCHIVED, "refused", "is ARCHIVED: nothing is left to do"),
        ("archiving", Status.ERASING, "refused", "is ERASING"),
        ("renditions", Status.VERIFIED, "done", "stays VERIFIED"),
        ("renditions", Status.ERASED, "refused", "is ERASED"),
        ("notification", Status.ARCHIVED, "done", "stays ARCHIVED"),
    ],
)
async def test_what_a_redrive_does_depends_on_consumer_and_state(
    site: Site, consumer: str, status: Status, outcome: str, words: str
) -> None:
    make = {"integrity": uploaded, "renditions": verified}.get(consumer, validated)
    document = site.put(status)
    result = await site.operator_actions.redrive(site.letter(consumer, make(document)), apply=True)
    assert result.outcome == outcome
    assert words in result.note
    assert site.now(document).status is status
    assert len(site.database.dead_letters()) == (outcome == "done")
    assert len(site.database.rows.marks) == (outcome == "done")


async def test_a_thumbnail_that_was_given_up_is_still_to_come(site: Site) -> None:
    document = site.put(Status.VERIFIED, thumbnail_note="unexpected_failure")
    await site.operator_actions.redrive(site.letter("renditions", verified(document)), apply=True)
    assert site.now(document).thumbnail_note is None


async def test_a_plan_that_was_made_since_is_not_made_again(site: Site) -> None:
    planned = site.put(Status.STORED, archive_planned=True)
    assert (
        await site.operator_actions.redrive(site.letter("archiving", uploaded(planned)), apply=True)
    ).outcome == "refused"
    unplanned = site.put(Status.STORED)
    assert (
        await site.operator_actions.redrive(site.letter("archiving", uploaded(unplanned)), apply=True)
    ).outcome == "done"


async def test_an_audit_line_is_chained_again(site: Site) -> None:
    result = await site.operator_actions.redrive(site.letter("audit", recorded()), apply=True)
    assert (result.outcome, result.note) == ("done", "no document's state depends on it")
    assert site.database.audited()[0].entity_type == "dead_letter"


async def test_a_document_that_is_gone_is_a_refusal(site: Site) -> None:
    letter = site.letter("archiving", validated(a_document()))
    assert "not in the database" in (await site.operator_actions.redrive(letter, apply=True)).note


@pytest.mark.parametrize(("state", "words"), [("DONE", "has done this event"), ("CLAIMED", "works on this event")])
async def test_an_event_that_is_done_or_under_way_is_not_given_again(site: Site, state: str, words: str) -> None:
    event = validated(site.put(Status.VALIDATED))
    letter = site.letter("archiving", event)
    site.database.rows.inbox["archiving", event.event_id].state = state
    result = await site.operator_actions.redrive(letter, apply=True)
    assert (result.outcome, words in result.note) == ("refused", True)


async def test_an_event_whose_inbox_row_was_pruned_is_given_again(site: Site) -> None:
    letter = site.letter("archiving", validated(site.put(Status.ARCHIVE_FAILED)))
    site.database.rows.inbox.clear()
    assert (await site.operator_actions.redrive(letter, apply=True)).outcome == "done"


async def test_replays_are_counted_and_capped(site: Site) -> None:
    document = site.put(Status.ARCHIVE_FAILED)
    letter = site.letter("archiving", validated(document), **{REPLAYS: "3"})
    result = await site.operator_actions.redrive(letter, apply=True)
    assert (result.outcome, "3 times already (cap 3)" in result.note) == ("refused", True)
    assert (await site.operator_actions.redrive(letter, apply=True, force=True)).outcome == "done"
    assert site.database.dead_letters()[0].headers[REPLAYS] == "4"
    other = site.letter("archiving", validated(site.put(Status.ARCHIVE_FAILED)), **{REPLAYS: "nonsense"})
    assert (await site.operator_actions.redrive(other, apply=True, cap=1)).outcome == "done"


async def test_what_this_release_cannot_decode_is_sent_only_by_force(site: Site) -> None:
    letter = site.letter("integrity", None)
    assert "can't decode" in (await site.operator_actions.redrive(letter, apply=True)).note
    assert (await site.operator_actions.redrive(letter, apply=True, force=True)).outcome == "done"
    assert site.database.dead_letters()[0].value == b"garbage"
    (line,) = site.database.audited()
    assert (line.tenant, line.entity_id) == (SYSTEM_TENANT, letter.place.address)


async def test_a_decoders_defect_counts_as_undecodable_but_its_absence_does_not(site: Site) -> None:
    letter = site.letter("integrity", uploaded(site.put(Status.STORED)))
    site.decoder_fails = ZeroDivisionError()
    assert await site.operator_actions.decoded(letter) is None
    site.decoder_fails = RegistryUnavailable()
    with pytest.raises(RegistryUnavailable):
        await site.operator_actions.redrive(letter, apply=True)


async def test_a_letter_that_was_cut_can_only_be_discarded(site: Site) -> None:
    whole = site.letter("integrity", uploaded(site.put(Status.STORED)))
    origin = {"dpj-origin-partition": "2", "dpj-origin-offset": "77", CUT_BYTES: "950000"}
    letter = replace(whole, key=None, value=None, headers={**whole.headers, **origin})
    result = await site.operator_actions.redrive(letter, apply=True, force=True)
    assert result.outcome == "refused"
    assert "dpj.document.uploaded/2/77" in result.note
    assert (await site.operator_actions.discard(letter, "INC-1", apply=True)).outcome == "done"


@pytest.mark.parametrize(
    "headers", [{"dpj-consumer": "audit"}, {"dpj-consumer": ""}, {"dpj-origin-topic": "somewhere.else"}]
)
async def test_a_strangers_letter_is_sent_nowhere(site: Site, headers: dict[str, str]) -> None:
    whole = site.letter("integrity", uploaded(site.put(Status.STORED)))
    letter = replace(whole, headers={**whole.headers, **headers})
    assert "its headers" in (await site.operator_actions.redrive(letter, apply=True, force=True)).note


async def test_an_order_that_stood_is_withdrawn_when_the_event_comes_anew(site: Site) -> None:
    event = validated(site.put(Status.ARCHIVE_FAILED))
    site.database.rows.given_up["archiving", event.event_id] = "INC-1"
    await site.operator_actions.redrive(site.letter("archiving", event), apply=True)
    assert site.database.rows.given_up == {}


async def test_a_refusal_by_the_lifecycle_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from domain import lifecycle

    monkeypatch.setitem(lifecycle.TRANSITIONS, Status.ARCHIVE_FAILED, frozenset())
    letter = site.letter("archiving", validated(site.put(Status.ARCHIVE_FAILED)))
    assert (await site.operator_actions.redrive(letter, apply=True)).outcome == "refused"
    assert site.database.rows.marks == {}


async def test_a_lost_commit_is_done_or_not_but_never_twice(site: Site) -> None:
    letter = site.letter("archiving", validated(site.put(Status.ARCHIVE_FAILED)))
    site.database.faults = ["rollback", "lost"]
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await site.operator_actions.redrive(letter, apply=True)
    assert (await site.operator_actions.redrive(letter, apply=True)).outcome == "handled"
    assert len(site.database.dead_letters()) == 1


async def test_a_discard_says_why_and_leaves_the_document(site: Site) -> None:
    document = site.put(Status.ARCHIVE_FAILED)
    result = await site.operator_actions.discard(site.letter("archiving", validated(document)), "INC-1", apply=True)
    assert (result.outcome, result.note) == ("done", "off the list: INC-1")
    assert site.now(document).status is Status.ARCHIVE_FAILED
    (line,) = site.database.audited()
    assert line.action == "dead_letter.discarded"
    assert json.loads(line.details)["reason"] == "INC-1"
    assert site.database.dead_letters() == []


@pytest.mark.parametrize("key", ["5f0c6f2e-0d0b-4b53-9a52-6f1c9a3a7d11", "not an id"])
async def test_a_held_event_is_ordered_to_be_given_up_once(site: Site, key: str) -> None:
    held = HeldEvent(
        consumer="archiving", event_id=uuid4(), document_key=key, tenant="acme", topic="t", partition=1, offset=2,
        code="ged_unavailable", waiting_for="ged", attempts=3,
    )  # fmt: skip
    site.database.rows.held["archiving", held.event_id] = held
    assert (await site.operator_actions.give_up("archiving", held.event_id, "INC-2", apply=False)).outcome == "done"
    assert site.database.rows.given_up == {}
    assert (await site.operator_actions.give_up("archiving", held.event_id, "INC-2", apply=True)).outcome == "done"
    assert (await site.operator_actions.give_up("archiving", held.event_id, "INC-2", apply=True)).outcome == "refused"
    (line,) = site.database.audited()
    assert (line.action, line.tenant) == ("event.given_up", "acme")
    assert line.entity_id == (key if key != "not an id" else str(held.event_id))


async def test_refused_rows_are_retried_or_dropped_once(site: Site) -> None:
    for number, key in enumerate([str(uuid4()), None], 1):
        site.database.rows.refused[number] = RefusedRow(
            id=number,
            topic="t",
            key=key,
            event_id=uuid4(),
            size=9,
            code="MSG_SIZE_TOO_LARGE",
            refused_at=NOW,
            waiting=2,
        )
    assert (await site.operator_actions.retry_refused(1, apply=False)).outcome == "done"
    assert (await site.operator_actions.retry_refused(1, apply=True)).note == "sent again, then 2 that wait for it"
    assert (await site.operator_actions.drop_refused(2, "INC-3", apply=True)).outcome == "done"
    assert (await site.operator_actions.drop_refused(2, "INC-3", apply=True)).outcome == "refused"
    assert site.database.rows.settled == {1: "retry", 2: "drop"}
    assert [(line.action, line.entity_type) for line in site.database.audited()] == [
        ("outbox.retried", "document"), ("outbox.dropped", "outbox_row"),
    ]  # fmt: skip


def test_what_a_strangers_headers_lack_is_none() -> None:
    letter = DeadLetter(RecordPosition("dpj.dlq.audit", 0, 1, 2), None, None, {"dpj-event-id": "no id", REPLAYS: "²"})
    assert (letter.event_id, letter.entity_id, letter.error_class, letter.replays) == (None, None, None, 0)
    assert letter.origin == "?/?/?"


@pytest.mark.parametrize("text", ["archiving/0", "a/b/c", "Archiving/0/1", "archiving/-1/0", "archiving/0/²", "/0/1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressInvalid):
        parse_address(text)


def test_addresses_are_those_that_letters_have() -> None:
    place = RecordPosition("dpj.dlq.archiving", 0, 12, 5)
    assert parse_address(place.address) == parse_address("dpj.dlq.archiving/0/12") == ("dpj.dlq.archiving", 0, 12)


def test_times_and_reasons_of_operators() -> None:
    from runtime.cli.operator_options import ago, checked_reason, moment, table, uuid_of
    from runtime.errors import CommandFailed

    assert moment(None) is None
    assert moment("1970-01-01T00:00:01") == moment("1970-01-01T01:00:01+01:00") == 1000
    two_hours = moment("2h")
    assert two_hours is not None
    assert abs(datetime.now(UTC).timestamp() * 1000 - two_hours - 7_200_000) < 5_000
    assert ago(datetime.now(UTC).isoformat()) == "0 s ago"
    assert checked_reason("INC-1234") == "INC-1234"
    for refused in ("because Jean Dupont said so", "", "x" * 65, "é"):
        with pytest.raises(CommandFailed):
            checked_reason(refused)
    for wrong in (lambda: moment("yesterday"), lambda: uuid_of("1")):
        with pytest.raises(CommandFailed):
            wrong()
    lines = table(("A\nB", "C"), [("x" * 100, str(uuid4())), ("[bold]y", "z")])
    assert max(map(len, lines)) <= 80
    assert any("[bold]y" in line for line in lines)
