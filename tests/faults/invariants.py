"""What has to be true once everything is at rest, checked from outside: each broken promise is one line.

Pure functions over an ``Observation`` and the clients' ``Journal``; nothing of the product is imported (a test holds
that), so a defect in it can't hide itself here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.faults.journal import Deposit, Journal
from tests.faults.observation import AUDIT_TOPIC, CONSUMERS, Entry, Observation, Record, Row

#: Types of documents that are not archived: VALIDATED is where they rest.
NOT_ARCHIVED = frozenset({"PHOTO"})
RESTING = frozenset({"VERIFIED", "REJECTED", "QUARANTINED", "ARCHIVED", "ARCHIVE_FAILED"})
READABLE = RESTING - {"QUARANTINED"} | {"VALIDATED"}
GONE = frozenset({"ABANDONED", "ERASED"})
#: The lifecycle as docs/OPERATIONS.md tells it, without erasure.
STEPS = {
    ("", "STORED"),
    ("STORED", "VERIFIED"),
    ("STORED", "QUARANTINED"),
    ("VERIFIED", "VALIDATED"),
    ("VERIFIED", "REJECTED"),
    ("VALIDATED", "ARCHIVED"),
    ("VALIDATED", "ARCHIVE_FAILED"),
    ("ARCHIVE_FAILED", "VALIDATED"),
}
STATES = {state for step in STEPS for state in step if state}
#: Who may give up a poisonous document, if not the one that parses it.
GIVES_UP = {"unarchivable": "archiving"}
MAIL_OF = {
    "STORED": "receipt",
    "VALIDATED": "validated",
    "REJECTED": "rejected",
    "QUARANTINED": "quarantined",
    "ARCHIVED": "archived",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """``code`` names the promise, ``text`` says in one line where it is broken."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


@dataclass(slots=True)
class Findings:
    """What the checker found. Second mails and repeated records are allowed, and counted."""

    violations: list[Violation] = field(default_factory=list)
    documents: int = 0
    states: Counter[str] = field(default_factory=Counter)
    mails: int = 0
    second_mails: int = 0
    repeated_records: int = 0
    complete_without_2xx: int = 0
    audit_entries: int = 0
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class _Case:
    """One observation beside its journal, with what several checks need."""

    seen: Observation
    journal: Journal
    rows: dict[str, Row]
    owner: dict[str, Deposit]

    @classmethod
    def of(cls, seen: Observation, journal: Journal) -> _Case:
        rows = seen.of_tenants(journal.tenants)
        by_name = {deposit.name: deposit for deposit in journal.deposits.values()}
        owner = {key: by_name[row.name] for key, row in rows.items() if row.name in by_name}
        return cls(seen, journal, rows, owner)

    def standing(self) -> Iterator[tuple[Row, Deposit]]:
        """Documents that exist, with the deposit they are of."""
        for key, row in self.rows.items():
            if row.status not in GONE and key in self.owner:
                yield row, self.owner[key]


def check(seen: Observation, journal: Journal) -> Findings:
    """Hold what is there against what was promised."""
    case = _Case.of(seen, journal)
    found = Findings()
    for promise in PROMISES:
        found.violations.extend(promise(case))
    standing = list(case.standing())
    found.documents = len(standing)
    found.states = Counter(row.status for row, _ in standing)
    found.mails = len(seen.mails)
    found.second_mails = len(seen.mails) - len({(mail.document_id, mail.message_id) for mail in seen.mails})
    found.repeated_records = len(seen.records) - len({(record.topic, record.event_id) for record in seen.records})
    found.complete_without_2xx = sum(not deposit.accepted for _, deposit in standing)
    found.audit_entries = len(seen.entries)
    found.dead_letters = len(seen.dead_letters)
    return found


# --- with a 2xx, and without ------------------------------------------------------------------------------------------


def _one_document_each(case: _Case) -> Iterator[Violation]:
    """A 2xx: exactly one document. None: nothing, or one that the same key gives back."""
    held: dict[str, list[Row]] = defaultdict(list)
    for row, deposit in case.standing():
        held[deposit.mark].append(row)
    for key, row in case.rows.items():
        if key not in case.owner:
            yield Violation("stranger", f"document {key} ({row.status}) was deposited by nobody")
    for mark, deposit in case.journal.deposits.items():
        ids = sorted(row.id for row in held[mark])
        if deposit.accepted and ids != [deposit.document_id]:
            told = "is lost" if deposit.document_id not in ids else "is there more than once"
            yield Violation("lost", f"deposit {mark} got a 2xx as {deposit.document_id} and {told}: documents {ids}")
        if not deposit.accepted and len(ids) > 1:
            yield Violation("double", f"deposit {mark} got no 2xx and left {len(ids)} documents: {ids}")
        if not deposit.accepted and len(ids) == 1 and held[mark][0].status != "PENDING":
            given = case.seen.replays.get(mark, "was not asked")
            if given != ids[0]:
                yield Violation("orphan", f"deposit {mark} got no 2xx; its key gives not {ids[0]} but: {given}")
        if deposit.poison == "refused" and ids:
            yield Violation("accepted", f"deposit {mark} had to be refused and is document {ids[0]}")


def _states(case: _Case) -> Iterator[Violation]:
    """Every document rests, where what its clients were told allows."""
    for row, deposit in case.standing():
        if deposit.decided("validate") and deposit.decided("reject"):
            yield Violation("decisions", f"document {row.id} was told to be validated and rejected, both with a 2xx")
        expected = expected_states(deposit)
        if row.status not in expected:
            kind = "stuck" if row.status not in RESTING else "state"
            yield Violation(kind, f"document {row.id} ({deposit.kind}) is {row.status}, not {' or '.join(expected)}")


def expected_states(deposit: Deposit) -> list[str]:
    """Where a document may rest, by the answers to its decisions."""
    end = "VALIDATED" if deposit.type_code in NOT_ARCHIVED else "ARCHIVED"
    if deposit.decided("validate"):
        return [end]
    if deposit.decided("reject"):
        return ["REJECTED"]
    unseen = [state for act, state in (("validate", end), ("reject", "REJECTED")) if deposit.unknown(act)]
    return ["VERIFIED", *unseen]


def _pending(case: _Case) -> Iterator[Violation]:
    for row in case.rows.values():
        if row.status == "PENDING":
            lease = "its lease is over" if row.lease_over else "its lease is still renewed"
            yield Violation("pending", f"upload {row.id} is still PENDING; {lease}")


def _content(case: _Case) -> Iterator[Violation]:
    """The API gives back the bytes that were deposited, and the row says the same of them."""
    for row, deposit in case.standing():
        if row.status == "PENDING":
            continue
        if (row.sha256, row.size) != (deposit.sha256, deposit.size):
            yield Violation("facts", f"document {row.id}: recorded size or SHA-256 is not that of what was sent")
        if row.status in READABLE and (given := case.seen.downloads.get(row.id, "was not read")) != deposit.sha256:
            yield Violation("content", f"document {row.id} does not download as it was deposited: {given}")


# --- effects ----------------------------------------------------------------------------------------------------------


def _archive(case: _Case) -> Iterator[Violation]:
    """One copy of what is ARCHIVED, the right bytes, none of anything else."""
    copies = defaultdict(list)
    for copy in case.seen.copies:
        copies[copy.name.split(".")[0]].append(copy)
    for row, deposit in case.standing():
        mine = copies.pop(row.id, [])
        if row.status != "ARCHIVED":
            for copy in mine:
                yield Violation("copy", f"document {row.id} is {row.status} and has a copy in the GED, {copy.path}")
            continue
        if len(mine) != 1:
            yield Violation("copy", f"document {row.id} is ARCHIVED with {len(mine)} copies in the GED")
        for copy in mine:
            if copy.sha256 != deposit.sha256:
                yield Violation("copy", f"document {row.id}: its copy in the GED has other bytes, {copy.path}")
        if mine and row.ged_id not in {copy.object_id for copy in mine}:
            yield Violation("copy", f"document {row.id}: ged_id {row.ged_id} is not its copy's")
    for name, left in copies.items():
        yield Violation("copy", f"the GED holds {len(left)} of {name}, which is no document: {left[0].path}")


def _objects(case: _Case) -> Iterator[Violation]:
    """No object without a row, no row without its object."""
    standing = {row.object_key: row.id for row in case.rows.values() if row.status not in GONE}
    owed = {key for key, document in standing.items() if case.rows[document].status != "PENDING"}
    known = standing.keys() | case.seen.renditions.keys() | case.seen.other_object_keys
    for key in sorted((owed | case.seen.renditions.keys() | case.seen.other_object_keys) - case.seen.objects):
        yield Violation("object", f"row without object: {key}")
    for key in sorted(case.seen.objects - known):
        yield Violation("object", f"object without row: {key}")


def _renditions(case: _Case) -> Iterator[Violation]:
    """Every verified document has its thumbnails, or a word why not; two sizes, once."""
    made = Counter(case.seen.renditions.values())
    for row, deposit in case.standing():
        told = Counter(case.seen.timeline.get(row.id, ()))
        if "VERIFIED" not in told:
            continue
        ready, none = told["THUMBNAILS_READY"], told["NO_THUMBNAIL"]
        if ready + none != 1:
            yield Violation("thumbnail", f"document {row.id}: thumbnails were finished {ready + none} times")
        elif ready and made[row.id] != 2:
            yield Violation("thumbnail", f"document {row.id} has {made[row.id]} thumbnails")
        elif none and not deposit.poison and deposit.media_type.startswith(("image/", "application/pdf")):
            yield Violation("thumbnail", f"document {row.id} is sound and has no thumbnail")


def _mails(case: _Case) -> Iterator[Violation]:
    """One mail per notification due; a second only as the same message."""
    sent = defaultdict(list)
    addressed = Counter(mail.to for mail in case.seen.mails)
    for mail in case.seen.mails:
        sent[mail.document_id].append(mail)
    for row, deposit in case.standing():
        mine = sent.get(row.id, [])
        # A re-drive makes a document VALIDATED again without telling its depositor again.
        due = Counter({MAIL_OF[state] for state in case.seen.timeline.get(row.id, ()) if state in MAIL_OF})
        messages = Counter(template for template, _ in {(mail.template, mail.message_id) for mail in mine})
        for template in sorted(due.keys() | messages.keys()):
            if messages[template] != due[template]:
                text = f"document {row.id}: {messages[template]} messages '{template}', {due[template]} due"
                yield Violation("mail", text)
        if any(mail.to != deposit.email for mail in mine):
            yield Violation("mail", f"document {row.id}: a mail went to somebody else")
        addressed[deposit.email] -= len(mine)
    for address, count in addressed.items():
        if count > 0:
            yield Violation("mail", f"{count} mails to {address} about no document of theirs")
    for notice in case.seen.notices:
        if notice.document_id in case.rows and notice.status != "SENT":
            yield Violation("mail", f"document {notice.document_id}: notice '{notice.template}' is {notice.status}")


# --- events -----------------------------------------------------------------------------------------------------------


def _transitions(case: _Case) -> Iterator[Violation]:
    """Each change of state once, along the lifecycle."""
    for row, _ in case.standing():
        path = [entry for entry in case.seen.timeline.get(row.id, ()) if entry in STATES]
        steps = list(zip(["", *path], path, strict=False))
        if row.status != "PENDING" and (not path or path[-1] != row.status):
            yield Violation("timeline", f"document {row.id} is {row.status}, its timeline says {path}")
        if any(step not in STEPS for step in steps):
            yield Violation("timeline", f"document {row.id} went no lawful way: {path}")
        for state, count in Counter(path).items():
            if count > 1 + (path.count("ARCHIVE_FAILED") if state in {"VALIDATED", "ARCHIVE_FAILED"} else 0):
                yield Violation("transition", f"document {row.id} became {state} {count} times")


def _sequences(case: _Case) -> Iterator[Violation]:
    """Exactly one event per (document, sequence), without a gap; none of an upload that came to nothing."""
    numbered: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in case.seen.records:
        if record.sequence:
            numbered[record.document_id][record.sequence].add(record.event_id)
    for row in case.rows.values():
        events = numbered.get(row.id, {})
        if row.status in {"PENDING", "ABANDONED"}:
            if events:
                yield Violation("event", f"upload {row.id} is {row.status} and has events")
            continue
        if sorted(events) != list(range(1, row.sequence + 1)):
            yield Violation("gap", f"document {row.id}: events {sorted(events)} of {row.sequence} are in Kafka")
        for sequence, ids in sorted(events.items()):
            if len(ids) > 1:
                yield Violation("twice", f"document {row.id}: {len(ids)} different events have sequence {sequence}")


def _order(case: _Case) -> Iterator[Violation]:
    """A document's events in order of sequence where Kafka keeps order: in one partition of each topic."""
    first: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    places: dict[tuple[str, str], set[int]] = defaultdict(set)
    for record in sorted(case.seen.records, key=lambda record: record.offset):
        if record.sequence and record.document_id in case.rows:
            stream = (record.document_id, record.topic)
            places[stream].add(record.partition)
            first[stream].setdefault(record.sequence, record.offset)
    for (document, topic), partitions in places.items():
        if len(partitions) > 1:
            yield Violation("order", f"document {document} is in {len(partitions)} partitions of {topic}")
            continue
        offsets = [offset for _, offset in sorted(first[document, topic].items())]
        if offsets != sorted(offsets):
            yield Violation("order", f"document {document}: its events in {topic} first appear out of order")


def _audit(case: _Case) -> Iterator[Violation]:
    """One entry per AuditRecorded event, in chains that hold from their genesis to their head."""
    tenants = case.journal.tenants
    recorded = {record.event_id: record for record in case.seen.records if record.topic == AUDIT_TOPIC}
    entries = [entry for entry in case.seen.entries if entry.tenant in tenants]
    counted = Counter(json.loads(entry.body).get("event_id") for entry in entries)
    for event_id in sorted(_owed_lines(recorded, tenants) - counted.keys()):
        yield Violation("audit", f"audit event {event_id} has no entry")
    for event_id, count in counted.items():
        if count > 1:
            yield Violation("audit", f"audit event {event_id} has {count} entries")
        if event_id not in recorded:
            yield Violation("audit", f"the entry of {event_id} comes from no event")
    if case.seen.audit_waiting:
        yield Violation("audit", f"{case.seen.audit_waiting} audit entries wait for MongoDB")
    for tenant in sorted(tenants):
        yield from chain_faults(tenant, [entry for entry in entries if entry.tenant == tenant], case.seen.heads)


def _owed_lines(recorded: dict[str, Record], tenants: set[str]) -> set[str]:
    return {event_id for event_id, record in recorded.items() if record.tenant in tenants}


def chain_faults(tenant: str, entries: list[Entry], heads: dict[str, tuple[int, str]]) -> Iterator[Violation]:
    """The hash chain as docs/ARCHITECTURE.md ("Audit") describes it, computed anew."""
    before = hashlib.sha256(f"dpj-audit-chain|1|{tenant}".encode()).hexdigest()
    number = 0
    for entry in sorted(entries, key=lambda entry: entry.seq):
        number += 1
        said = json.loads(entry.body)
        if entry.seq != number:
            yield Violation("chain", f"{tenant}: entry {number} is missing, {entry.seq} is there")
            return
        if hashlib.sha256(entry.body.encode()).hexdigest() != entry.hash:
            yield Violation("chain", f"{tenant}: entry {number} does not have its hash")
            return
        if said.get("prev") != before or said.get("seq") != number or said.get("tenant") != tenant:
            yield Violation("chain", f"{tenant}: entry {number} does not follow the one before")
            return
        if said.get("event_id") != entry.id:
            yield Violation("chain", f"{tenant}: entry {number} is filed under another event's id")
        before = entry.hash
    if entries and heads.get(tenant) != (number, before):
        yield Violation("chain", f"{tenant}: its head {heads.get(tenant)} is not its last entry, {number}")
    if not entries and heads.get(tenant, (0, ""))[0]:
        yield Violation("chain", f"{tenant}: a head and no entries")


# --- delivery ---------------------------------------------------------------------------------------------------------


def _dead_letters(case: _Case) -> Iterator[Violation]:
    """Only what is poison; and each poisonous record from each of its consumers."""
    poison = {(one.topic, one.partition, one.offset) for one in case.journal.poison_records}
    for letter in case.seen.dead_letters:
        if letter.origin in poison:
            continue
        deposit = case.owner.get(letter.document_id)
        if deposit is not None and deposit.poison and letter.consumer == GIVES_UP.get(deposit.poison, "renditions"):
            continue
        what = f"document {letter.document_id}" if letter.document_id else f"the record at {letter.origin}"
        yield Violation("dead letter", f"{letter.consumer} gave up {what}, which is sound: {letter.code}")
    given_up = {(letter.consumer, letter.origin) for letter in case.seen.dead_letters}
    for place in sorted(poison):
        for consumer, topics in CONSUMERS.items():
            if place[0] in topics and (consumer, place) not in given_up:
                yield Violation("dead letter", f"{consumer} owes one for the record that is no event, at {place}")


def _delivery(case: _Case) -> Iterator[Violation]:
    """Nothing waits: outbox, inbox, lag."""
    if case.seen.unpublished:
        yield Violation("outbox", f"{case.seen.unpublished} rows are not published")
    for consumer, event_id in case.seen.claimed:
        yield Violation("inbox", f"{consumer} still claims event {event_id}")
    for (group, topic, partition), behind in sorted(case.seen.lag.items()):
        if behind:
            yield Violation("lag", f"{group} is {behind} records behind in {topic}/{partition}")


PROMISES: tuple[Callable[[_Case], Iterator[Violation]], ...] = (
    _one_document_each,
    _states,
    _pending,
    _content,
    _archive,
    _objects,
    _renditions,
    _mails,
    _transitions,
    _sequences,
    _order,
    _audit,
    _dead_letters,
    _delivery,
)
