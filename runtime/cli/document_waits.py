"""What a document waits for, read from the site itself: the API's users need not know it, an operator does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from runtime.cli.operator_options import ago

if TYPE_CHECKING:
    from runtime.wiring.site import Site

#: Events that workers hold, looked through for those of one document.
HELD: Final = 10_000

_NEXT: Final = {
    "outbox": "the relay publishes it",
    "on its way": "the consumer reads it",
    "held": "the consumer tries again",
    "lost": "published again by itself, else: dpj outbox re-emit",
}


async def waits_of(site: Site, document_id: UUID) -> list[dict[str, Any]]:
    """Each with ``state`` (outbox, on its way, held, lost), ``topic``, ``consumer`` (None in the outbox), ``since`` (ISO 8601), ``for``
    (what a held event waits for) and ``tries``. Raises DatabaseUnavailable, BrokerUnavailable."""
    key = str(document_id)
    held = {
        (one.event.consumer, one.event.event_id): one
        for one in await site.operations().held(HELD)
        if one.event.document_key == key
    }
    progress = await site.read_progress()
    rows = await site.owed_rows().of_document(document_id)
    found = [_wait("outbox", topic, None, at.isoformat()) for topic, at in rows.unpublished]
    for event in rows.owed:
        lost = event.lost_to(progress)
        for consumer in event.consumers:
            holding = held.get((consumer, event.event_id))
            if holding is not None:
                wait = _wait("held", event.topic, consumer, holding.since.isoformat())
                found.append(wait | {"for": holding.event.waiting_for, "tries": holding.event.attempts})
            else:
                state = "lost" if consumer in lost else "on its way"
                found.append(_wait(state, event.topic, consumer, event.published_at.isoformat()))
    return found


def lines_of(waits: Sequence[dict[str, Any]]) -> Iterator[str]:
    """For a person, 80 columns wide."""
    for wait in waits:
        whose = f" for {wait['consumer']}" if wait["consumer"] else ""
        topic, since = wait["topic"].removeprefix("dpj."), ago(wait["since"], past=False)
        yield f"Waits       {topic}{whose}: {wait['state']}, since {since}"
        held = f"for {wait['for']}, {wait['tries']} tries; " if wait["state"] == "held" else ""
        yield f"            {held}next: {_NEXT[wait['state']]}"


def _wait(state: str, topic: str, consumer: str | None, since: str) -> dict[str, Any]:
    return {"state": state, "topic": topic, "consumer": consumer, "since": since, "for": None, "tries": None}
