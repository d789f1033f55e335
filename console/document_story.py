"""A document's way, step by step with the gaps between, and what it waits for, as its page shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from console.languages import Texts
from domain.documents import Document, TimelineEntry
from domain.events import AuditRecorded
from domain.lifecycle import RESTING
from domain.pauses import WAITING_FOR as PAUSE
from domain.records import NotificationRecord
from processors.operators.document_waits import DocumentWait, WaitState

#: A gap that is worth a look: documents are to be processed within this many seconds.
LONG_SECONDS: Final = 30.0
MAX_VALUE: Final = 80

#: Per state of an event: its shape, and the section of the runbook.
_WAITS: Final[Mapping[WaitState, tuple[str, str]]] = {
    WaitState.OUTBOX: ("moving", "the-relay"),
    WaitState.REFUSED: ("act", "the-relay"),
    WaitState.ON_ITS_WAY: ("moving", "lag"),
    WaitState.PUBLISHED: ("unknown", "when-a-part-is-down"),
    WaitState.HELD: ("watch", "events-that-are-held"),
    WaitState.GIVING_UP: ("moving", "events-that-are-held"),
    WaitState.LOST: ("watch", "events-that-kafka-lost"),
    WaitState.UNKNOWN: ("unknown", "the-relay"),
    WaitState.DEAD: ("act", "dead-letters"),
}
_WORST: Final = ("good", "moving", "unknown", "watch", "act")


@dataclass(frozen=True, slots=True)
class Step:
    """``gap``: seconds since the step before, None for the first. ``details``: names and values, codes and numbers alone."""

    name: str
    by: str
    at: datetime
    gap: float | None
    long: bool
    details: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait with the shape that stands for it and its section of the runbook."""

    kind: str
    anchor: str
    state: str
    consumer: str | None
    topic: str | None
    since: datetime
    waiting_for: str | None
    code: str | None
    tries: int
    paused_until: datetime | None


def steps_of(
    document: Document, timeline: Sequence[TimelineEntry], mails: Sequence[NotificationRecord], texts: Texts
) -> Sequence[Step]:
    """What happened, by time: from the beginning of the upload, mails among it."""
    found = sorted(_happenings(document, timeline, mails, texts), key=lambda one: one[0])
    steps: list[Step] = []
    for at, name, by, details in found:
        gap = (at - steps[-1].at).total_seconds() if steps else None
        steps.append(Step(name, by, at, gap, gap is not None and gap > LONG_SECONDS, details))
    return steps


def _happenings(
    document: Document, timeline: Sequence[TimelineEntry], mails: Sequence[NotificationRecord], texts: Texts
) -> Iterator[tuple[datetime, str, str, Sequence[tuple[str, str]]]]:
    yield document.created_at, texts("step.UPLOAD_BEGUN"), texts("by.api"), ()
    for entry in timeline:
        yield entry.at, texts.or_itself("step", entry.type), entry.actor, list(_shown(entry.details))
    for mail in mails:
        if mail.sent_at is not None:
            yield mail.sent_at, texts("step.MAIL_SENT"), "system:notification", [("template", mail.template)]


def _shown(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in details.items():
        if isinstance(value, str | int | float) and name != "sha256":
            text = str(value)
            yield name, text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def waits_of(
    waits: Sequence[DocumentWait], now: datetime, servers: Mapping[str, Sequence[str]] | None = None
) -> Sequence[Wait]:
    """Each with its shape and runbook. ``servers``: what each consumer's worker says it waits for: so does what it has not read. Lines for the audit log on their way are left out: every look at a document makes one."""
    found = []
    for one in waits:
        young = (now - one.since).total_seconds() < LONG_SECONDS
        if one.topic == AuditRecorded.TOPIC and young and one.state is not WaitState.HELD:
            continue
        kind, anchor = _WAITS[one.state]
        waiting_for = one.waiting_for
        away = [name for name in (servers or {}).get(one.consumer or "", ()) if name != PAUSE]
        if one.state is WaitState.ON_ITS_WAY and away:
            kind, anchor, waiting_for = "watch", "when-a-part-is-down", away[0]
        if one.paused_until is not None:
            kind, anchor = "watch", "pausing-a-consumer"
        found.append(
            Wait(
                kind=kind,
                anchor=anchor,
                state=one.state.value.replace(" ", "_"),
                consumer=one.consumer,
                topic=one.topic,
                since=one.since,
                waiting_for=waiting_for,
                code=one.code,
                tries=one.tries or 0,
                paused_until=one.paused_until,
            )
        )
    return found


def kind_of_story(document: Document, waits: Sequence[Wait] | None) -> str:
    """The worst shape of what it waits for."""
    if waits is None:
        return "unknown"
    if not waits:
        return "good" if document.status in RESTING else "moving"
    return max((one.kind for one in waits), key=_WORST.index)


def still_waiting(document: Document, steps: Sequence[Step], now: datetime) -> float | None:
    """Seconds since the last step of a document that is not at rest; None for one that is."""
    if document.status in RESTING or not steps:
        return None
    return (now - steps[-1].at).total_seconds()
