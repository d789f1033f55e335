"""What a document waits for, read from the site itself: the API's users need not know it, an operator does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from runtime.cli.operator_options import ago

if TYPE_CHECKING:
    from processors.operators.document_waits import DocumentWait
    from runtime.wiring.site import Site

_NEXT: Final = {
    "outbox": "the relay publishes it",
    "refused": "you settle it: dpj outbox refused",
    "on its way": "the consumer reads it",
    "published": "Kafka is away, so nobody knows whether it still comes",
    "held": "the consumer tries again",
    "paused": "the consumer goes on when its pause ends: dpj consumers resume",
    "giving up": "the consumer gives it up, as ordered",
    "lost": "published again by itself, else: dpj outbox re-emit",
    "unknown": "the outbox is too long to be searched for it: dpj overview",
    "dead": "an operator settles it: {command}",
}


async def waits_of(site: Site, document_id: UUID) -> list[dict[str, Any]]:
    """Each with ``state`` (outbox, refused, on its way, published, held, giving up, lost, dead, unknown), ``topic`` (None of a dead letter),
    ``consumer`` (None in the outbox), ``since`` (ISO 8601), ``for`` (what a held event waits for), ``tries``, ``code``, ``letter``
    (address of a dead one) and ``paused_until`` (ISO 8601, None where its consumer is not paused). Raises DatabaseUnavailable."""
    return [_document(wait) for wait in await site.document_waits().of(document_id)]


def lines_of(waits: Sequence[dict[str, Any]]) -> Iterator[str]:
    """For a person, 80 columns wide."""
    for wait in waits:
        whose = f" for {wait['consumer']}" if wait["consumer"] else ""
        topic, since = (wait["topic"] or "event").removeprefix("dpj."), ago(wait["since"], past=False)
        yield f"Waits       {topic}{whose}: {wait['state']}, since {since}"
        why = [f"for {wait['for']}"] if wait["for"] else []
        why += [wait["code"]] if wait["code"] else []
        why += [f"{wait['tries']} tries"] if wait["tries"] else []
        why += ["its consumer is paused"] if wait["paused_until"] else []
        if why:
            yield f"            {', '.join(why)}"
        command = f"dpj dlq show {wait['letter']}" if wait["letter"] else "dpj dlq list"
        yield f"            next: {_NEXT['paused' if wait['paused_until'] else wait['state']].format(command=command)}"


def _document(wait: DocumentWait) -> dict[str, Any]:
    return {
        "state": wait.state.value,
        "topic": wait.topic,
        "consumer": wait.consumer,
        "since": wait.since.isoformat(),
        "for": wait.waiting_for,
        "tries": wait.tries,
        "code": wait.code,
        "letter": wait.letter,
        "paused_until": None if wait.paused_until is None else wait.paused_until.isoformat(),
    }
