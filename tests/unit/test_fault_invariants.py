"""The checker of the fault tests finds each broken promise: one is planted at a time in a world where all is well."""

from __future__ import annotations

import ast
import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.invariants import check, expected_states
from tests.faults.journal import ClientAnswer, Deposit, Journal, PoisonRecord, Writer, read
from tests.faults.observation import Copy, DeadLetter, Entry, Mail, Notice, Observation, Record, Row

FAULTS = Path(__file__).resolve().parents[1] / "faults"
TENANT = "banque"
PATHS = {
    "archived": ["STORED", "ARCHIVE_PLANNED", "VERIFIED", "VALIDATED", "THUMBNAILS_READY", "ARCHIVED"],
    "rejected": ["STORED", "VERIFIED", "REJECTED", "THUMBNAILS_READY"],
    "waiting": ["STORED", "VERIFIED", "NO_THUMBNAIL"],
}
MAILS = {"STORED": "receipt", "VALIDATED": "validated", "REJECTED": "rejected", "ARCHIVED": "archived"}
TOPICS = {"STORED": "uploaded", "VERIFIED": "verified"}

World = tuple[Observation, Journal]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def deposit(mark: str, **changes: Any) -> Deposit:
    plain = Deposit(
        mark=mark,
        tenant=TENANT,
        dossier="d",
        kind="pdf",
        type_code="RIB",
        media_type="application/pdf",
        name=f"{mark}.pdf",
        email=f"{mark}@{TENANT}.example",
        language="fr",
        sha256=digest(mark),
        size=10,
    )
    return replace(plain, **changes)


class Building:
    """A world in which everything is as promised."""

    def __init__(self) -> None:
        self.seen = Observation()
        self.journal = Journal()
        self._head = digest(f"dpj-audit-chain|1|{TENANT}")

    def document(self, mark: str, path: list[str], one: Deposit) -> None:
        key = f"id-{mark}"
        self.journal.deposits[mark] = one
        states = [entry for entry in path if entry in {"STORED", "VERIFIED", "VALIDATED", "REJECTED", "ARCHIVED"}]
        self.seen.timeline[key] = path
        self.seen.objects.add(f"documents/{key}")
        if "THUMBNAILS_READY" in path:
            for size in ("256", "1024"):
                self.seen.renditions[f"documents/{key}.{size}"] = key
                self.seen.objects.add(f"documents/{key}.{size}")
        sequence = 0
        for state in states:
            topic = f"dpj.document.{TOPICS.get(state, state.lower())}"
            for where in (topic, "dpj.audit.recorded"):
                sequence += 1
                self.event(where, f"event-{key}-{sequence}", key, sequence)
            if state in MAILS:
                message = f"<{key}-{state}@x>"
                self.seen.mails.append(Mail(MAILS[state], key, message, one.email))
                self.seen.notices.append(Notice(key, MAILS[state], "SENT", message))
        ged_id = f"ged-{key}" if states[-1] == "ARCHIVED" else None
        if ged_id:
            name = f"{key}.pdf"
            self.seen.copies.append(Copy(ged_id, TENANT, f"/dpj/{TENANT}/2026/d/{name}", name, one.sha256))
        row = Row(key, TENANT, one.name, states[-1], f"documents/{key}", sequence, one.sha256, one.size, ged_id, None)
        self.seen.rows[key] = row
        self.seen.downloads[key] = one.sha256

    def event(self, topic: str, event_id: str, document: str, sequence: int) -> None:
        offset = len(self.seen.records)
        self.seen.records.append(Record(topic, 0, offset, offset, event_id, TENANT, document, sequence))
        if topic == "dpj.audit.recorded":
            seq = len(self.seen.entries) + 1
            said = {"event_id": event_id, "prev": self._head, "seq": seq, "tenant": TENANT}
            body = json.dumps(said)
            self._head = digest(body)
            self.seen.entries.append(Entry(event_id, TENANT, seq, body, self._head))
            self.seen.heads[TENANT] = (seq, self._head)


def a_world() -> World:
    new = Building()
    validated, rejected = ClientAnswer("validate", 202), ClientAnswer("reject", 200)
    taken = {"a": [validated], "b": [rejected], "c": []}
    for mark, path in zip(taken, PATHS.values(), strict=True):
        answers = [ClientAnswer("deposit", 201), *taken[mark]]
        poison = "truncated" if mark == "c" else ""
        new.document(mark, path, deposit(mark, document_id=f"id-{mark}", answers=answers, poison=poison))
    new.document("d", PATHS["archived"], deposit("d", answers=[ClientAnswer("deposit", None), validated]))
    new.seen.replays["d"] = "id-d"
    new.journal.deposits["e"] = deposit("e", answers=[ClientAnswer("deposit", None)])
    new.journal.deposits["f"] = deposit("f", poison="refused", answers=[ClientAnswer("deposit", 415)])
    new.journal.poison_records.append(PoisonRecord("dpj.document.verified", 0, 7))
    new.seen.dead_letters.append(DeadLetter("renditions", "undecodable", "x", "", ("dpj.document.verified", 0, 7)))
    new.seen.lag["dpj.audit", "dpj.audit.recorded", 0] = 0
    return new.seen, new.journal


def row(world: World, mark: str, **changes: Any) -> None:
    key = f"id-{mark}"
    world[0].rows[key] = replace(world[0].rows[key], **changes)


def lose(mark: str) -> Callable[[World], None]:
    return lambda world: row(world, mark, status="ABANDONED")


def another_document(world: World) -> None:
    world[0].rows["id-a2"] = replace(world[0].rows["id-a"], id="id-a2")


def swap_events(world: World) -> None:
    seen = world[0]
    one, two = (
        i for i, record in enumerate(seen.records) if record.sequence in {2, 4} and record.document_id == "id-a"
    )
    first, second = seen.records[one], seen.records[two]
    seen.records[one] = replace(first, offset=second.offset)
    seen.records[two] = replace(second, offset=first.offset)


def other_copy(world: World, **changes: Any) -> None:
    world[0].copies.append(replace(world[0].copies[0], **changes))


def change(kind: str, index: int, **changes: Any) -> Callable[[World], None]:
    def plant(world: World) -> None:
        held = getattr(world[0], kind)
        held[index] = replace(held[index], **changes)

    return plant


def without(kind: str, index: int) -> Callable[[World], None]:
    return lambda world: getattr(world[0], kind).pop(index)


def repeat_entry(world: World) -> None:
    last = world[0].entries[-1]
    said = json.loads(last.body) | {"seq": last.seq + 1, "prev": last.hash}
    body = json.dumps(said)
    world[0].entries.append(Entry(last.id, TENANT, last.seq + 1, body, digest(body)))
    world[0].heads[TENANT] = (last.seq + 1, digest(body))


PLANTS: dict[str, tuple[str, Callable[[World], object]]] = {
    "an accepted document is gone": ("lost", lose("a")),
    "an accepted document is there twice": ("lost", another_document),
    "two documents without a 2xx": ("double", lambda world: another_document_of(world, "d")),
    "a document that its key does not give": ("orphan", lambda world: world[0].replays.update(d="HTTP 409")),
    "a document whose key was not asked": ("orphan", lambda world: world[0].replays.clear()),
    "a document that had to be refused": ("accepted", lambda world: row(world, "d", name="f.pdf")),
    "a document nobody deposited": ("stranger", lambda world: row(world, "a", name="other.pdf")),
    "validated, and waits": ("state", lambda world: row(world, "a", status="VERIFIED")),
    "still on its way": ("stuck", lambda world: row(world, "a", status="VALIDATED")),
    "two decisions accepted": ("decisions", lambda world: answers(world, "a", ClientAnswer("reject", 200))),
    "an upload under way": ("pending", lambda world: row(world, "d", status="PENDING", lease_over=True)),
    "other bytes downloaded": ("content", lambda world: world[0].downloads.update({"id-a": digest("x")})),
    "no download": ("content", lambda world: world[0].downloads.pop("id-b")),
    "another size recorded": ("facts", lambda world: row(world, "a", size=11)),
    "no copy in the GED": ("copy", without("copies", 0)),
    "a second copy": ("copy", lambda world: other_copy(world, object_id="two")),
    "a copy of what is rejected": ("copy", lambda world: other_copy(world, name="id-b.pdf")),
    "a copy of nothing": ("copy", lambda world: other_copy(world, name="id-z.pdf")),
    "a copy of other bytes": ("copy", change("copies", 0, sha256=digest("x"))),
    "another copy's id": ("copy", lambda world: row(world, "a", ged_id="else")),
    "an object without a row": ("object", lambda world: world[0].objects.add("documents/x")),
    "a row without an object": ("object", lambda world: world[0].objects.discard("documents/id-a")),
    "a thumbnail without an object": ("object", lambda world: world[0].objects.discard("documents/id-a.256")),
    "one thumbnail of two": ("thumbnail", lambda world: world[0].renditions.pop("documents/id-a.256")),
    "thumbnails never made": ("thumbnail", lambda world: world[0].timeline["id-a"].remove("THUMBNAILS_READY")),
    "thumbnails made twice": ("thumbnail", lambda world: world[0].timeline["id-a"].append("THUMBNAILS_READY")),
    "a sound document without": ("thumbnail", lambda world: setattr(world[1].deposits["c"], "poison", "")),
    "a mail missing": ("mail", without("mails", 0)),
    "a mail as another message": (
        "mail",
        lambda world: world[0].mails.append(replace(world[0].mails[0], message_id="<y>")),
    ),
    "a mail not due": (
        "mail",
        lambda world: world[0].mails.append(Mail("quarantined", "id-b", "<z>", f"b@{TENANT}.example")),
    ),
    "a mail to somebody else": ("mail", change("mails", 0, to="z@elsewhere.example")),
    "a mail of no document": (
        "mail",
        lambda world: world[0].mails.append(Mail("receipt", "?", "<z>", f"e@{TENANT}.example")),
    ),
    "a notice not sent": ("mail", change("notices", 0, status="PENDING")),
    "verified twice": ("transition", lambda world: world[0].timeline["id-b"].insert(1, "STORED")),
    "an unlawful way": ("timeline", lambda world: world[0].timeline["id-b"].remove("VERIFIED")),
    "a timeline that ends elsewhere": ("timeline", lambda world: world[0].timeline["id-b"].remove("REJECTED")),
    "an event missing": ("gap", lambda world: world[0].records.pop(0)),
    "an event too many": ("gap", lambda world: row(world, "a", sequence=7)),
    "two events of one number": ("twice", lambda world: copy_event(world, event_id="other")),
    "events of what was abandoned": ("event", lose("b")),
    "events out of order": ("order", swap_events),
    "a document in two partitions": ("order", lambda world: copy_event(world, partition=3)),
    "an audit entry missing": ("audit", without("entries", -1)),
    "an audit entry twice": ("audit", repeat_entry),
    "an audit entry of no event": ("audit", lambda world: drop_audit_records(world)),
    "audit entries waiting": ("audit", lambda world: setattr(world[0], "audit_waiting", 2)),
    "an audit entry altered": ("chain", lambda world: alter_entry(world)),
    "an audit entry's place empty": ("chain", without("entries", 2)),
    "an audit entry with a new hash": ("chain", change("entries", 1, hash=digest("x"))),
    "an audit entry misfiled": ("chain", change("entries", 1, id="else")),
    "an audit head elsewhere": ("chain", lambda world: world[0].heads.update({TENANT: (3, digest("x"))})),
    "an audit chain gone": ("chain", lambda world: world[0].entries.clear()),
    "a sound document given up": (
        "dead letter",
        lambda world: world[0].dead_letters.append(DeadLetter("renditions", "x", "e", "id-a", ("t", 0, 1))),
    ),
    "poison given up by the wrong one": (
        "dead letter",
        lambda world: world[0].dead_letters.append(DeadLetter("archiving", "x", "e", "id-c", ("t", 0, 1))),
    ),
    "a poisonous record swallowed": ("dead letter", lambda world: world[0].dead_letters.clear()),
    "rows not published": ("outbox", lambda world: setattr(world[0], "unpublished", 1)),
    "a claim left": ("inbox", lambda world: world[0].claimed.append(("audit", "e"))),
    "a lag": ("lag", lambda world: world[0].lag.update({("dpj.audit", "dpj.audit.recorded", 0): 2})),
}


def another_document_of(world: World, mark: str) -> None:
    key = f"id-{mark}"
    world[0].rows[f"{key}2"] = replace(world[0].rows[key], id=f"{key}2")


def answers(world: World, mark: str, *more: ClientAnswer) -> None:
    world[1].deposits[mark].answers.extend(more)


def copy_event(world: World, **changes: Any) -> None:
    world[0].records.append(replace(world[0].records[0], offset=999, **changes))


def drop_audit_records(world: World) -> None:
    world[0].records[:] = [record for record in world[0].records if record.topic != "dpj.audit.recorded"]


def alter_entry(world: World) -> None:
    entry = world[0].entries[1]
    body = json.dumps(json.loads(entry.body) | {"action": "other"})
    world[0].entries[1] = replace(entry, body=body, hash=digest(body))


def test_a_world_in_order_has_no_violation() -> None:
    found = check(*a_world())
    assert found.violations == []
    assert (found.documents, found.complete_without_2xx, found.second_mails) == (4, 1, 0)


@pytest.mark.parametrize("name", PLANTS)
def test_each_broken_promise_is_found(name: str) -> None:
    code, plant = PLANTS[name]
    seen, journal = copy.deepcopy(a_world())
    plant((seen, journal))
    found = check(seen, journal).violations
    assert code in {violation.code for violation in found}, found
    assert all("\n" not in str(violation) for violation in found)


def test_a_second_mail_of_the_same_message_is_counted_and_allowed() -> None:
    seen, journal = a_world()
    seen.mails.append(seen.mails[0])
    seen.records.append(replace(seen.records[0], offset=999))
    found = check(seen, journal)
    assert (found.violations, found.second_mails, found.repeated_records) == ([], 1, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["VERIFIED"]),
        ([ClientAnswer("validate", 202)], ["ARCHIVED"]),
        ([ClientAnswer("validate", None), ClientAnswer("validate", 409)], ["VERIFIED", "ARCHIVED"]),
        ([ClientAnswer("reject", 503)], ["VERIFIED", "REJECTED"]),
        ([ClientAnswer("validate", 409), ClientAnswer("reject", 200)], ["REJECTED"]),
    ],
)
def test_where_a_document_may_rest(given: list[ClientAnswer], expected: list[str]) -> None:
    assert expected_states(deposit("a", answers=given)) == expected


def test_a_photo_rests_validated() -> None:
    assert expected_states(deposit("a", type_code="PHOTO", answers=[ClientAnswer("validate", 200)])) == ["VALIDATED"]


def test_the_journal_reads_back_without_a_line_cut_short(tmp_path: Path) -> None:
    with Writer(tmp_path / "one.jsonl") as writer:
        writer.deposit(deposit("a"))
        writer.answer("a", "deposit", None)
        writer.answer("a", "deposit", 201, document_id="id-a")
        writer.poison_record("t", 1, 2)
    with (tmp_path / "one.jsonl").open("a") as file:
        file.write('{"what": "answer", "ma')
    journal = read([tmp_path / "one.jsonl"])
    assert journal.deposits["a"].document_id == "id-a"
    assert [answer.status for answer in journal.deposits["a"].answers] == [None, 201]
    assert journal.poison_records == [PoisonRecord("t", 1, 2)]
    assert journal.tenants == {TENANT}


def test_the_checker_knows_nothing_of_the_product() -> None:
    """What it imports, and what that imports, is the standard library, clients of servers, and its own kind."""
    allowed = {"asyncpg", "httpx", "confluent_kafka", "fastavro", "minio", "pymongo", "PIL", "cryptography"}
    product = {path.name for path in FAULTS.parents[1].iterdir() if (path / "__init__.py").exists()}
    assert {"domain", "processors", "storage", "streams", "runtime", "crypto"} <= product
    waiting, done = {"tests.faults.checker"}, set()
    while waiting:
        name = waiting.pop()
        done.add(name)
        path = FAULTS.parents[1] / f"{name.replace('.', '/')}.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for one in names:
                top = one.split(".")[0]
                assert top not in product, (name, one)
                if top == "tests":
                    waiting |= {one} - done
                else:
                    assert top in allowed or not _installed(top), (name, one)
    assert {"tests.faults.invariants", "tests.faults.stores", "tests.faults.traffic"} <= done


def _installed(name: str) -> bool:
    import sys

    return name not in sys.stdlib_module_names
