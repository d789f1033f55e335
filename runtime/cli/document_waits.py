"""What a document waits for, read from the site itself: the API's users need not know it, an operator does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from runtime.cli.operator_options import ago

if TYPE_CHECKING:
    from runtime.wiring.site import Site

#: Events that workers hold, looked through for those of one document.
HELD: Final = 10_000

_NEXT: Final = {
    "outbox": "the relay publishes it",
    "refused": "you settle it: dpj outbox refused",
    "on its way": "the consumer reads it",
    "held": "the consumer tries again",
    "giving up": "the consumer gives it up, as ordered",
    "lost": "published again by itself, else: dpj outbox re-emit",
    "dead": "you redrive or discard it: dpj dlq show {letter}",
}


async def waits_of(site: Site, document_id: UUID) -> list[dict[str, Any]]:
    """Each with ``state``, ``topic``, ``consumer`` (None in the outbox), ``since`` (ISO 8601), ``for`` (what a held event waits for),
    ``tries``, ``code`` and ``letter`` (its address, of a dead one).

    States: outbox, refused (by Kafka), on its way, held, giving up, lost, dead. Raises DatabaseUnavailable, BrokerUnavailable.
    """
    key = str(document_id)
    held = {
        (one.event.consumer, one.event.event_id): one
        for one in await site.operations().held(HELD)
        if one.event.document_key == key
    }
    # Offsets before rows: see ``domain.owed_events``.
    progress = await site.read_progress()
    rows = await site.owed_rows().of_document(document_id)
    found = [_wait("outbox", topic, None, at) for topic, at in rows.unpublished]
    found += [_wait("refused", topic, None, at, code=code) for topic, at, code in rows.refused]
    for event in rows.owed:
        lost = event.lost_to(progress)
        for consumer in event.consumers:
            holding = held.get((consumer, event.event_id))
            if holding is not None:
                state = "giving up" if holding.given_up_by else "held"
                said = holding.event
                more = {"for": said.waiting_for, "tries": said.attempts, "code": said.code}
                found.append(_wait(state, event.topic, consumer, holding.since, **more))
            else:
                state = "lost" if consumer in lost else "on its way"
                found.append(_wait(state, event.topic, consumer, event.published_at))
    for letter in await site.letter_index().of_document(document_id):
        if letter.settled is None:
            entry = letter.entry
            more = {"tries": entry.attempts, "code": entry.code, "letter": letter.address}
            found.append(_wait("dead", entry.origin_topic, entry.consumer, letter.made_at, **more))
    return found


def lines_of(waits: Sequence[dict[str, Any]]) -> Iterator[str]:
    """For a person, 80 columns wide."""
    for wait in waits:
        whose = f" for {wait['consumer']}" if wait["consumer"] else ""
        topic, since = wait["topic"].removeprefix("dpj."), ago(wait["since"], past=False)
        yield f"Waits       {topic}{whose}: {wait['state']}, since {since}"
        why = []
        if wait["for"]:
            why.append(f"for {wait['for']}")
        if wait["code"]:
            why.append(wait["code"])
        if wait["tries"]:
            why.append(f"{wait['tries']} tries")
        if why:
            yield f"            {', '.join(why)}"
        yield f"            next: {_NEXT[wait['state']].format(letter=wait['letter'] or '(being published)')}"


def _wait(state: str, topic: str, consumer: str | None, since: datetime, **more: Any) -> dict[str, Any]:
    unset = {"for": None, "tries": None, "code": None, "letter": None}
    return {"state": state, "topic": topic, "consumer": consumer, "since": since.isoformat(), **unset, **more}
