"""Acts of operators on many things: the plan that is shown first, and the batch that is carried out item by item."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Any, Final
from uuid import UUID

#: Items of one plan. What is left is planned again after it.
MOST_ITEMS: Final = 1_000
DEFAULT_ITEMS: Final = 200
#: So many equal failures one after another stop a batch, unless it says otherwise.
STOP_AFTER: Final = 5
NOTE_CHARACTERS: Final = 200
_DIGITS: Final = re.compile(r"[0-9]+")


class Act(Enum):
    """What is done to each item. The values are wire names and names in the audit log."""

    REDRIVE = "redrive"
    DISCARD = "discard"
    GIVE_UP = "give_up"
    RETRY_REFUSED = "retry_refused"
    DROP_REFUSED = "drop_refused"
    RE_EMIT = "re_emit"
    REPLAY = "replay"
    CHECK_RESTORE = "check_restore"
    REPAIR_RESTORE = "repair_restore"


#: What can't be taken back: a site may ask for a second person.
DESTRUCTIVE: Final = frozenset({Act.DISCARD, Act.GIVE_UP, Act.DROP_REFUSED, Act.REPAIR_RESTORE})
#: What names no tenant: only an operator who is bound to none may do it.
OF_ALL_TENANTS: Final = frozenset(
    {Act.RETRY_REFUSED, Act.DROP_REFUSED, Act.RE_EMIT, Act.REPLAY, Act.CHECK_RESTORE, Act.REPAIR_RESTORE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActRequest:
    """Which act on what. ``items`` names things one by one; without it, what ``consumer``, ``code``, ``error_class`` (letters), and
    ``document``, ``since``, ``until`` (replay) select, at most ``limit``. ``force`` passes over what the single act's ``force`` does.
    """

    act: Act
    items: tuple[str, ...] = ()
    consumer: str | None = None
    code: str | None = None
    error_class: str | None = None
    document: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    force: bool = False
    limit: int = DEFAULT_ITEMS

    def as_json(self) -> dict[str, Any]:
        """What is stored and hashed: names to texts, numbers and lists; what is not given is left out."""
        values = {name: value for name, value in asdict(self).items() if value not in (None, (), False)}
        shown = {
            name: value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, UUID) else value
            for name, value in values.items()
        }
        return {**shown, "act": self.act.value, **({"items": list(self.items)} if self.items else {})}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ActRequest:
        """The inverse of ``as_json``."""
        times = {name: datetime.fromisoformat(values[name]) for name in ("since", "until") if name in values}
        document = {"document": UUID(values["document"])} if "document" in values else {}
        read = {**values, **times, **document, "act": Act(values["act"]), "items": tuple(values.get("items", ()))}
        return cls(**read)


@dataclass(frozen=True, slots=True)
class ActionResult:
    """``outcome``: ``done``, ``handled`` (was before), or ``refused``; ``note`` says what it means or why."""

    outcome: str
    note: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Names of what a request selects, one more than its limit if there are more. ``left_out``: what it covers and what needs no act,
    by what is to be said of it."""

    names: Sequence[str]
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanItem:
    """A thing by its ``name``, and what its dry run says."""

    name: str
    forecast: ActionResult


@dataclass(frozen=True)
class Plan:
    """What would be done, now. ``more``: there are things beyond the limit. ``left_out``: see ``Selection``. ``hash`` covers all that
    whoever confirms has read, but for numbers that change by themselves."""

    request: ActRequest
    tenants: tuple[str, ...] | None
    items: tuple[PlanItem, ...]
    more: bool
    left_out: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """SHA-256, hexadecimal, of the canonical JSON of request, bounds and each item's name, outcome and note."""
        told = {
            "request": self.request.as_json(),
            "tenants": None if self.tenants is None else sorted(self.tenants),
            # Numbers in a note (how many wait behind a row) change all the time, and change nothing about the act.
            "items": [[item.name, item.forecast.outcome, _DIGITS.sub("#", item.forecast.note)] for item in self.items],
        }
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def counts(self) -> Mapping[str, int]:
        """Items by forecast outcome."""
        return Counter(item.forecast.outcome for item in self.items)

    @property
    def notes(self) -> Sequence[tuple[str, str, int]]:
        """Outcome, note, and how many items have them; the most frequent first."""
        counted = Counter((item.forecast.outcome, item.forecast.note) for item in self.items)
        return [(outcome, note, count) for (outcome, note), count in counted.most_common()]


class BatchState(Enum):
    """ORDERED waits for a second person. CANARY does the first items, LOOK waits for who looks at them; RUNNING does the rest.
    STOPPED can be gone on with; DONE has nothing left."""

    ORDERED = "ORDERED"
    CANARY = "CANARY"
    LOOK = "LOOK"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    DONE = "DONE"


#: States in which the relay carries a batch out.
UNDER_WAY: Final = frozenset({BatchState.CANARY, BatchState.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A confirmed plan. ``actor`` and ``second`` are pseudonyms; ``reason`` is a code or ticket; ``by_two``: it takes a
    second person; ``stopped``: by which code."""

    id: UUID
    request: ActRequest
    plan_hash: str
    tenants: tuple[str, ...] | None
    actor: str
    reason: str
    state: BatchState
    canary: int | None
    stop_after: int
    by_two: bool = False
    stopped: str | None = None
    second: str | None = None
    created_at: datetime | None = None
    changed_at: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """An item of a batch: ``result`` is None until it is done; ``came_back``: redriven, and given up again since."""

    rank: int
    name: str
    forecast: str
    result: str | None
    note: str
    done_at: datetime | None
    came_back: bool = False
