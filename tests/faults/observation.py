"""What the stores hold after a run, as plain values: the checker looks at these and at the clients' journal alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Consumer groups and the topics each of them reads (docs/ARCHITECTURE.md, "Events").
CONSUMERS: Mapping[str, tuple[str, ...]] = {
    "integrity": ("dpj.document.uploaded",),
    "renditions": ("dpj.document.verified",),
    "archiving": ("dpj.document.uploaded", "dpj.document.validated"),
    "notification": (
        "dpj.document.uploaded",
        "dpj.document.validated",
        "dpj.document.rejected",
        "dpj.document.quarantined",
        "dpj.document.archived",
    ),
    "audit": ("dpj.audit.recorded",),
}
AUDIT_TOPIC = "dpj.audit.recorded"
DEAD_LETTERS = "dpj.dlq."


@dataclass(frozen=True, slots=True)
class Row:
    """A row of DOCUMENTS."""

    id: str
    tenant: str
    name: str
    status: str
    object_key: str
    sequence: int
    sha256: str | None
    size: int | None
    ged_id: str | None
    ged_path: str | None
    lease_over: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """A document in the GED. ``tenant`` and ``name`` are those of its place."""

    object_id: str
    tenant: str
    path: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail in the receiver's box; ``document_id`` is the reference in its text."""

    template: str
    document_id: str
    message_id: str
    to: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the audit log: canonical JSON ``body`` and its ``hash``."""

    id: str
    tenant: str
    seq: int
    body: str
    hash: str


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record. ``sequence`` is 0 where the event changes no state; ``document_id`` is the entity of an audit line."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    event_id: str
    tenant: str
    document_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of ``dpj.dlq.*`` and where its original stood."""

    consumer: str
    code: str
    event_id: str
    document_id: str
    origin: tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Notice:
    """A row of ``notifications``."""

    document_id: str
    template: str
    status: str
    message_id: str


@dataclass(slots=True)
class Observation:
    """Everything that the checker looks at. ``downloads``: SHA-256 of what the API gave, or what went wrong.

    ``replays``: of a deposit without a 2xx that left a document, by mark: what its Idempotency-Key gave, a document id or
    what went wrong. ``lag``: (group, topic, partition) to records not committed.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    timeline: dict[str, list[str]] = field(default_factory=dict)
    renditions: dict[str, str] = field(default_factory=dict)
    other_object_keys: set[str] = field(default_factory=set)
    notices: list[Notice] = field(default_factory=list)
    unpublished: int = 0
    claimed: list[tuple[str, str]] = field(default_factory=list)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    audit_waiting: int = 0
    objects: set[str] = field(default_factory=set)
    copies: list[Copy] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    lag: dict[tuple[str, str, int], int] = field(default_factory=dict)
    downloads: dict[str, str] = field(default_factory=dict)
    replays: dict[str, str] = field(default_factory=dict)

    def of_tenants(self, tenants: set[str]) -> dict[str, Row]:
        return {key: row for key, row in self.rows.items() if row.tenant in tenants}
