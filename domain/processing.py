"""Whether a document goes on by itself, as its portal is told: made of what PostgreSQL alone knows of its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from domain.consumers import CONSUMERS
from domain.documents import Document
from domain.error_table import ERROR_TABLE
from domain.lifecycle import ERASURE_STATES, RESTING, Status

#: Codes of what has no error of ours: Kafka refuses the event, Kafka lost it, nobody knows.
REFUSED: Final = "event_refused"
LOST: Final = "event_lost"
UNKNOWN: Final = "unknown"


class ProcessingStatus(Enum):
    """UNDER_WAY: it goes on by itself, now or once what it waits for is back. STOPPED: a step was given up or its event got lost, and
    only an operator's act moves it. AT_REST: the state changes only if somebody acts; a
    thumbnail or a mail may still come."""

    UNDER_WAY = "UNDER_WAY"
    STOPPED = "STOPPED"
    AT_REST = "AT_REST"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedStep:
    """An event of a document that the consumer ``step`` will not finish by itself. ``settled``: an operator has decided to leave it so."""

    step: str
    code: str | None
    since: datetime
    settled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """``step``, ``code`` and ``since`` (when it stopped): of the first step that is stopped, in the order of the pipeline."""

    status: ProcessingStatus
    step: str | None = None
    code: str | None = None
    since: datetime | None = None


UNDER_WAY: Final = Processing(status=ProcessingStatus.UNDER_WAY)
AT_REST: Final = Processing(status=ProcessingStatus.AT_REST)
_CODES: Final = frozenset({*ERROR_TABLE, REFUSED, LOST})
_ORDER: Final[Mapping[str, int]] = {name: place for place, name in enumerate(CONSUMERS)}


def processing_of(document: Document, stopped: Iterable[StoppedStep]) -> Processing:
    """What a document does now. A step that has been done since, by another record of the same event, stops nothing."""
    if document.status is Status.PENDING or document.status is Status.ERASING:
        return UNDER_WAY
    rests = document.status in RESTING or (document.status is Status.VALIDATED and document.archive_planned is False)
    found = [one for one in stopped if _stops(document, one, rests=rests)]
    if found and document.status not in ERASURE_STATES:
        first = min(found, key=lambda one: (_ORDER.get(one.step, len(_ORDER)), one.since))
        code = first.code if first.code in _CODES else UNKNOWN
        return Processing(status=ProcessingStatus.STOPPED, step=first.step, code=code, since=first.since)
    return AT_REST if rests else UNDER_WAY


def _stops(document: Document, one: StoppedStep, *, rests: bool) -> bool:
    if one.step == "integrity":
        # Discarded or not: nothing else takes a document out of this state.
        return document.status is Status.STORED
    if one.step == "archiving":
        waits = document.archive_planned is None or document.status in {Status.VALIDATED, Status.ARCHIVE_FAILED}
        return waits and document.status not in {Status.ARCHIVED, Status.REJECTED} and not (one.settled and rests)
    return one.step in _ORDER and not one.settled
