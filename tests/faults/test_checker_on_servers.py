"""The checker reads the real servers: what is broken in each of them by hand is found, and nothing is found before."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from fastavro import schemaless_reader, schemaless_writer

from tests.faults.checker import Checker, report
from tests.faults.journal import Deposit, Writer, read
from tests.faults.site import FaultSite
from tests.faults.stores import FRAME, _schemas

Plant = Callable[[Checker, Deposit], Awaitable[None]]
UPLOADED = "dpj.document.uploaded"


async def _row(checker: Checker, deposit: Deposit) -> Any:
    query = "SELECT chemin_stockage, chemin_ged, ged_id FROM documents WHERE id = $1::uuid"
    return (await checker.stores.query(query, deposit.document_id))[0]


async def object_gone(checker: Checker, deposit: Deposit) -> None:
    key = (await _row(checker, deposit))[0]
    checker.stores.minio().remove_object(checker.pipeline.settings["DPJ_MINIO_BUCKET"], key)


async def object_without_row(checker: Checker, deposit: Deposit) -> None:
    key = f"documents/ff/{deposit.mark}"
    checker.stores.minio().put_object(checker.pipeline.settings["DPJ_MINIO_BUCKET"], key, BytesIO(b"x"), 1)


async def second_copy(checker: Checker, deposit: Deposit) -> None:
    folder = (await _row(checker, deposit))[1].rpartition("/")[0]
    form = {"cmisaction": "createDocument", "propertyId[0]": "cmis:objectTypeId", "propertyValue[0]": "cmis:document"}
    name = {"propertyId[1]": "cmis:name", "propertyValue[1]": f"{deposit.document_id}.x.pdf"}
    with checker.stores.ged() as ged:
        ged.act(folder, **form, **name, content="other bytes")


async def audit_entry_gone(checker: Checker, deposit: Deposit) -> None:
    with checker.stores.mongo() as client:
        log = client[checker.pipeline.settings["DPJ_MONGO_DATABASE"]]["audit_logs"]
        assert log.delete_one({"tenant": deposit.tenant, "seq": 2}).deleted_count == 1


async def audit_entry_altered(checker: Checker, deposit: Deposit) -> None:
    with checker.stores.mongo() as client:
        log = client[checker.pipeline.settings["DPJ_MONGO_DATABASE"]]["audit_logs"]
        held = log.find_one({"tenant": deposit.tenant, "seq": 3})
        assert held is not None
        said = json.loads(held["entree"]) | {"action": "nothing"}
        log.update_one({"_id": held["_id"]}, {"$set": {"entree": json.dumps(said)}})


async def second_mail(checker: Checker, deposit: Deposit) -> None:
    maildir = Path(checker.pipeline.settings["DPJ_SMTP_MAILDIR"]) / "new"
    path = next(path for path in maildir.iterdir() if deposit.email.encode() in path.read_bytes())
    lines = path.read_bytes().splitlines(keepends=True)
    other = [b"Message-ID: <other@x>\n" if line.lower().startswith(b"message-id:") else line for line in lines]
    (maildir / f"planted-{deposit.mark}").write_bytes(b"".join(other))


async def event_of_the_same_number(checker: Checker, deposit: Deposit) -> None:
    found = next(
        message
        for message in checker.stores._messages({})
        if message.topic() == UPLOADED and message.key() == str(deposit.document_id).encode()
    )
    schema = _schemas()[UPLOADED]
    said: Any = schemaless_reader(BytesIO(found.value()[FRAME:]), schema, None)
    body = BytesIO()
    schemaless_writer(body, schema, said | {"event_id": uuid.uuid4()})
    producer = Producer({"bootstrap.servers": checker.pipeline.settings["DPJ_KAFKA_BOOTSTRAP"]})
    producer.produce(UPLOADED, found.value()[:FRAME] + body.getvalue(), found.key(), partition=found.partition())
    assert producer.flush(60) == 0


async def state_set_back(checker: Checker, deposit: Deposit) -> None:
    await checker.stores.query("UPDATE documents SET statut = 'VERIFIED' WHERE id = $1::uuid", deposit.document_id)


async def row_gone(checker: Checker, deposit: Deposit) -> None:
    await checker.stores.query("UPDATE documents SET statut = 'ABANDONED' WHERE id = $1::uuid", deposit.document_id)


PLANTS: dict[Plant, set[str]] = {
    object_gone: {"object", "content"},
    object_without_row: {"object"},
    second_copy: {"copy"},
    audit_entry_gone: {"audit", "chain"},
    audit_entry_altered: {"chain"},
    second_mail: {"mail"},
    event_of_the_same_number: {"twice"},
    state_set_back: {"state", "copy", "timeline"},
    row_gone: {"lost", "copy", "event"},
}


async def test_what_is_broken_by_hand_is_found(site: FaultSite, tmp_path: Path) -> None:
    with ExitStack() as files:
        await _break_and_look(site, tmp_path, files)


async def _break_and_look(site: FaultSite, folder: Path, files: ExitStack) -> None:
    await asyncio.to_thread(site.calm)
    checker = Checker(site.pipeline)
    await checker.prepare()
    since = await asyncio.to_thread(checker.stores.ends)
    planted: dict[Plant, Writer] = {}
    for plant in PLANTS:
        writer = files.enter_context(Writer(folder / f"{plant.__name__}.jsonl"))
        planted[plant] = writer
        clients = checker.clients(f"plant-{secrets.token_hex(4)}", writer, secrets.randbits(32))
        await clients.prepare(1)
        deposit = clients.new("pdf")
        await clients.deposit(deposit)
        await clients.decide(deposit, "validate")
        await clients.aclose()
    everything = files.enter_context(Writer(folder / "everything.jsonl"))
    everything.journal = read([writer.path for writer in planted.values()])
    checked = await checker.check(everything, since=since)
    before = {str(one) for one in checked.violations}
    assert {one.code for one in checked.violations} <= {"object"}, report(checked, everything.journal)
    assert checked.findings.states == {"ARCHIVED": len(PLANTS)}
    for plant, writer in planted.items():
        (deposit,) = writer.journal.deposits.values()
        await plant(checker, deposit)
        checked = await checker.check(writer, since=since)
        found = {one.code for one in checked.violations if str(one) not in before}
        assert PLANTS[plant] <= found, (plant.__name__, report(checked, writer.journal))
    await _put_right(checker, [deposit for writer in planted.values() for deposit in writer.journal.deposits.values()])


async def _put_right(checker: Checker, deposits: list[Deposit]) -> None:
    """What others would stumble over too: objects without rows, and rows without objects."""
    bucket = checker.pipeline.settings["DPJ_MINIO_BUCKET"]
    for deposit in deposits:
        checker.stores.minio().remove_object(bucket, f"documents/ff/{deposit.mark}")
        gone = "UPDATE documents SET statut = 'ABANDONED' WHERE id = $1::uuid RETURNING chemin_stockage"
        key = (await checker.stores.query(gone, deposit.document_id))[0][0]
        await checker.stores.query("DELETE FROM vignettes WHERE document_id = $1::uuid", deposit.document_id)
        for one in checker.stores.minio().list_objects(bucket, prefix=key):
            checker.stores.minio().remove_object(bucket, str(one.object_name))
