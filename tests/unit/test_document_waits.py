"""What an operator is told that a document waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from domain.dead_letters import GivenUpEvent, HeldEvent, HeldEventStatus
from domain.errors import BrokerUnavailable
from domain.owed_events import OwedEvent, PartitionProgress
from domain.pauses import Pause
from processors.operators.document_waits import DocumentWaits
from runtime.cli.document_waits import lines_of, waits_of

DOCUMENT = UUID("0b0f2ac4-2f0c-4c3e-8d65-5a7c4c0c1f57")
UPLOADED = "dpj.document.uploaded"


def then() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=12)


def owed(*consumers: str, offset: int = 7) -> OwedEvent:
    return OwedEvent(
        row_id=1,
        event_id=uuid4(),
        topic=UPLOADED,
        key=str(DOCUMENT),
        consumers=consumers,
        published_at=then(),
        partition=0,
        offset=offset,
        re_emissions=0,
    )


def held(event: OwedEvent, consumer: str) -> HeldEventStatus:
    said = HeldEvent(
        consumer=consumer,
        event_id=event.event_id,
        document_key=event.key,
        tenant="acme",
        topic=event.topic,
        partition=0,
        offset=7,
        code="ged_unavailable",
        waiting_for="ged",
        attempts=41,
    )
    return HeldEventStatus(event=said, since=then(), noted_at=then(), given_up_by=None, given_up_reason=None)


async def waits(
    outbox: list[Any],
    events: list[OwedEvent],
    holds: list[HeldEventStatus],
    committed: int | None,
    dead: Sequence[GivenUpEvent] = (),
    refused: Sequence[Any] = (),
    unknown_at: datetime | None = None,
    paused: str | None = None,
) -> list[Any]:
    async def held_events(key: str) -> list[HeldEventStatus]:
        return [one for one in holds if one.event.document_key == key]

    async def given_up(_: str) -> list[GivenUpEvent]:
        return dead

    async def progress() -> Any:
        if committed is None:
            raise BrokerUnavailable("Kafka is away.")
        names = ("integrity", "archiving", "notification")
        return {(name, UPLOADED, 0): PartitionProgress(0, 100, committed) for name in names}

    async def rows(_: UUID) -> Any:
        return SimpleNamespace(unpublished=outbox, refused=refused, owed=events, unknown_at=unknown_at)

    async def pauses() -> dict[str, Pause]:
        until = then() + timedelta(hours=2)
        return {paused: Pause(consumer=paused, by="k1.x", reason="INC-1", since=then(), until=until)} if paused else {}

    delivery: Any = SimpleNamespace(held_of=held_events, given_up_of=given_up)
    waiting = DocumentWaits(SimpleNamespace(of_document=rows), delivery, SimpleNamespace(paused=pauses), progress)
    site: Any = SimpleNamespace(document_waits=lambda: waiting)
    return await waits_of(site, DOCUMENT)


async def test_each_way_of_waiting_is_told_with_what_comes_next() -> None:
    event = owed("archiving", "integrity")
    other = replace(held(event, "archiving").event, document_key="another")
    found = await waits(
        [("dpj.document.validated", then())],
        [event, owed("notification", offset=3)],
        [held(event, "archiving"), replace(held(event, "notification"), event=other)],
        5,
    )
    assert [(wait["state"], wait["consumer"]) for wait in found] == [
        ("outbox", None),
        ("held", "archiving"),
        ("on its way", "integrity"),
        ("lost", "notification"),
    ]
    lines = list(lines_of(found))
    assert lines == [
        "Waits       document.validated: outbox, since 12 min",
        "            next: the relay publishes it",
        "Waits       document.uploaded for archiving: held, since 12 min",
        "            for ged, ged_unavailable, 41 tries",
        "            next: the consumer tries again",
        "Waits       document.uploaded for integrity: on its way, since 12 min",
        "            next: the consumer reads it",
        "Waits       document.uploaded for notification: lost, since 12 min",
        "            next: published again by itself, else: dpj outbox re-emit",
    ]
    assert max(map(len, lines)) <= 80


async def test_a_paused_consumer_is_told_where_the_document_waits_for_it() -> None:
    event = owed("archiving", "integrity", "notification", offset=3)
    found = await waits([], [event], [held(event, "archiving")], 5, paused="archiving")
    until = {wait["consumer"]: wait["paused_until"] for wait in found}
    assert {name for name, at in until.items() if at} == {"archiving"}
    assert list(lines_of(found))[1:3] == [
        "            for ged, ged_unavailable, 41 tries, its consumer is paused",
        "            next: the consumer goes on when its pause ends: dpj consumers resume",
    ]
    lost = await waits([], [owed("notification", offset=3)], [], 5, paused="notification")
    assert [(wait["state"], wait["paused_until"]) for wait in lost] == [("lost", None)]


async def test_what_a_consumer_gave_up_is_told_as_dead() -> None:
    found = await waits([], [], [], 5, [GivenUpEvent("archiving", uuid4(), then())])
    assert list(lines_of(found)) == [
        "Waits       event for archiving: dead, since 12 min",
        "            next: an operator settles it: dpj dlq list",
    ]


async def test_what_is_refused_dead_or_being_given_up_says_why_and_what_comes_next() -> None:
    event = owed("archiving")
    ordered = replace(held(event, "archiving"), given_up_by="k1.x", given_up_reason="INC-1")
    letter = GivenUpEvent("notification", uuid4(), then(), "mail_refused", 3, "notification/0/12")
    found = await waits([], [event], [ordered], 5, [letter], [("dpj.document.validated", then(), "MSG_SIZE_TOO_LARGE")])
    lines = list(lines_of(found))
    assert lines == [
        "Waits       document.validated: refused, since 12 min",
        "            MSG_SIZE_TOO_LARGE",
        "            next: you settle it: dpj outbox refused",
        "Waits       document.uploaded for archiving: giving up, since 12 min",
        "            for ged, ged_unavailable, 41 tries",
        "            next: the consumer gives it up, as ordered",
        "Waits       event for notification: dead, since 12 min",
        "            mail_refused, 3 tries",
        "            next: an operator settles it: dpj dlq show notification/0/12",
    ]
    assert max(map(len, lines)) <= 80
    assert (found[2]["code"], found[2]["letter"]) == ("mail_refused", "notification/0/12")


async def test_without_kafka_nobody_says_that_an_event_is_on_its_way_or_lost() -> None:
    event = owed("archiving", "integrity")
    found = await waits([], [event], [held(event, "archiving")], None)
    assert [(wait["state"], wait["consumer"]) for wait in found] == [("held", "archiving"), ("published", "integrity")]


async def test_a_document_at_rest_waits_for_nothing() -> None:
    assert await waits([], [], [], 5) == []
    assert list(lines_of([])) == []


async def test_an_outbox_too_long_to_be_searched_is_said_to_be_beside_what_is_known() -> None:
    event = owed("archiving")
    dead = GivenUpEvent(
        consumer="archiving", event_id=event.event_id, at=then(), code="ged_rejected", tries=1, address=None
    )
    found = await waits([], [], [], 5, dead=[dead], unknown_at=then())
    assert [(wait["state"], wait["consumer"]) for wait in found] == [("unknown", None), ("dead", "archiving")]
    assert list(lines_of(found))[:2] == [
        "Waits       event: unknown, since 12 min",
        "            next: the outbox is too long to be searched for it: dpj overview",
    ]
