"""What the stores say of the whole pipeline at one moment: how much waits where, and since when.

Counts are bounded: ``Count`` says where counting ended. Whatever could not be read is None in ``StoredNumbers``, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

from domain.lifecycle import RESTING, Status
from domain.pauses import Pause

#: Counting ends here: a look must cost the same however much waits.
MOST_COUNTED: Final = 10_000
#: The outbox' place in the history, beside the consumers'.
OUTBOX: Final = "outbox"


@dataclass(frozen=True, slots=True)
class Count:
    """``number`` of rows; with ``more`` there are more than these."""

    number: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.number:,}{'+' if self.more else ''}"

    @classmethod
    def of(cls, counted: int) -> Count:
        """Of what was counted up to one beyond ``MOST_COUNTED``."""
        return cls(min(counted, MOST_COUNTED), counted > MOST_COUNTED)


class Holder(Enum):
    """What has a document that is not at rest, or an event that is not finished. GED: held until the GED answers."""

    OUTBOX = "outbox"
    REFUSED = "refused"
    TOPIC = "topic"
    HOLD = "hold"
    GED = "ged"
    DEAD_LETTER = "dead_letter"
    LOST = "lost"


class NextStep(Enum):
    """What comes next for a document, and so whether a person has to act. The value names it in JSON."""

    RELAY_PUBLISHES = "relay_publishes"
    OPERATOR_SETTLES_REFUSED_ROW = "operator_settles_refused_row"
    CONSUMER_READS = "consumer_reads"
    CONSUMER_TRIES_AGAIN = "consumer_tries_again"
    CONSUMER_GIVES_UP = "consumer_gives_up"
    OPERATOR_REDRIVES = "operator_redrives"
    RELAY_PUBLISHES_AGAIN = "relay_publishes_again"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxOverview:
    """Rows that wait for the relay, when the first of them was written, and rows that Kafka refuses and since when."""

    waiting: Count
    oldest: datetime | None
    refused: Count
    refused_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateOverview:
    """Documents in a state that is not at rest. ``oldest``: since when the first of them waits, which is its deposit; of an upload
    under way its beginning, of VALIDATED the decision, of an erasure its order."""

    status: Status
    count: Count
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldGroup:
    """Events that a consumer's workers hold for the same reason. ``attempts``: of the one that was tried most."""

    waiting_for: str
    code: str
    count: int
    since: datetime
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadGroup:
    """Open dead letters of a consumer with one cause. ``new``: how many came since the moment that was asked for, if one was."""

    code: str
    error_class: str
    count: int
    newest: datetime
    new: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointsOverview:
    """``newest``: of any tenant. ``overdue_since``: among tenants with audit entries behind their newest checkpoint, when the oldest
    such checkpoint was taken; None if every entry is covered. ``uncovered``: how many tenants that are."""

    newest: datetime | None
    overdue_since: datetime | None
    uncovered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasuresOverview:
    """Erasures that were asked for and are not done."""

    waiting: Count
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOverview:
    """A restore that is being looked at: until it is ended nothing is deleted."""

    store: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One minute's figure of a consumer, or of the outbox; None where it was unknown."""

    at: datetime
    lag: int | None
    behind_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedEvent:
    """An event that ``consumer`` has not finished. ``key``: mostly a document's id.

    ``written_at``: when it was caused; ``since``: since when ``holder`` has it. ``partition`` and ``offset``: where Kafka put it.
    """

    key: str
    topic: str
    consumer: str
    event_id: UUID | None
    holder: Holder
    written_at: datetime
    since: datetime
    waiting_for: str | None = None
    code: str | None = None
    attempts: int | None = None
    giving_up: bool = False
    partition: int | None = None
    offset: int | None = None

    @property
    def next_step(self) -> NextStep:
        if self.giving_up:
            return NextStep.CONSUMER_GIVES_UP
        return _NEXT[self.holder]


_NEXT: Final = {
    Holder.OUTBOX: NextStep.RELAY_PUBLISHES,
    Holder.REFUSED: NextStep.OPERATOR_SETTLES_REFUSED_ROW,
    Holder.TOPIC: NextStep.CONSUMER_READS,
    Holder.HOLD: NextStep.CONSUMER_TRIES_AGAIN,
    Holder.GED: NextStep.CONSUMER_TRIES_AGAIN,
    Holder.DEAD_LETTER: NextStep.OPERATOR_REDRIVES,
    Holder.LOST: NextStep.RELAY_PUBLISHES_AGAIN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """A document as far as its age counts. ``deposited_at``: when its upload was complete, else when it began."""

    document_id: UUID
    tenant: str
    status: Status
    deposited_at: datetime
    decided_at: datetime | None

    @property
    def at_work_since(self) -> datetime | None:
        """Since when the pipeline, and no person, has had it to work on; None in a state in which documents rest."""
        if self.status in RESTING:
            return None
        # The time that a person took to decide is none of ours.
        return (self.status is Status.VALIDATED and self.decided_at) or self.deposited_at


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNumbers:
    """What PostgreSQL says. Groups are by consumer.

    ``unfinished``: events at the front of the outbox, the longest held and the oldest dead letters; ``unfinished_whole``: whether
    that is all of them. ``oldest_stored``: the first documents that wait for their verification. ``history``: the last hour, by
    consumer and ``OUTBOX``; ``recorded``: the newest minute in it.
    """

    outbox: OutboxOverview | None
    states: tuple[StateOverview, ...] | None
    held: dict[str, tuple[HeldGroup, ...]] | None
    dead: dict[str, tuple[DeadGroup, ...]] | None
    unfinished: tuple[UnfinishedEvent, ...] | None
    unfinished_whole: bool
    oldest_stored: tuple[DocumentRow, ...] | None
    checkpoints: CheckpointsOverview | None
    erasures: ErasuresOverview | None
    restores: tuple[RestoreOverview, ...] | None
    history: dict[str, tuple[Sample, ...]] | None
    recorded: datetime | None
    paused: Mapping[str, Pause] | None = None
