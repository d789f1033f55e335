"""A store is restored to before, or emptied: ``dpj restore`` says what that means, deletes nothing meanwhile, and puts right what can be.

The commands are those of docs/OPERATIONS.md, as they stand there.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from domain.consumers import CONSUMERS
from domain.events import TOPICS
from tests.faults.journal import Deposit
from tests.faults.processes import CRASHED
from tests.faults.site import FaultSite
from tests.faults.test_stores_that_forget import DOCUMENTS, WAIT_SECONDS, Drill, opened

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "OPERATIONS.md").read_text("utf-8")
REASON = "DRILL-2"


def commands() -> dict[str, list[str]]:
    """Of the page's section, by the verb after ``dpj restore``."""
    section = PAGE.partition("\n## After a restore\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^dpj (restore .*?)\s*(?:#.*)?$", section, re.MULTILINE)
    assert len(lines) >= 5
    return {" ".join(word for word in line.split()[1:] if word in WORDS): shlex.split(line) for line in lines}


WORDS = {"begin", "check", "repair", "--apply", "end"}


class Restored(Drill):
    """With the commands of the page."""

    async def command(self, verb: str, *more: str, status: int | None = 0) -> dict[str, Any]:
        """Its answer. ``status`` None: 0 or 1, where other tests' tenants may have lost what nobody has any more."""
        words = [word.replace("INC-7", REASON) for word in commands()[verb]]
        said = await asyncio.to_thread(self.site.dpj, *words, *more, "--json", status=status)
        found: dict[str, Any] = json.loads(said)
        return found

    async def dies(self, point: str, *more: str) -> None:
        """A repair is killed at ``point``."""
        words = [word.replace("INC-7", REASON) for word in commands()["repair --apply"]]
        await asyncio.to_thread(self.site.dpj, *words, *more, status=CRASHED, DPJ_CRASH_POINT=point)

    async def counts(self, *more: str, status: int = 1) -> dict[str, int]:
        """What the check finds, by kind; of this drill's tenant where the kind is about documents."""
        found = await self.command("check", *more, status=status)
        assert found["undone"] == {}, found["undone"]
        mine: dict[str, int] = {}
        for kind, told in found["differences"].items():
            items = told["items"]
            about_tenants = [one for one in items if "tenant" in one]
            number = sum(one["tenant"] == self.tenant for one in about_tenants) if about_tenants else told["count"]
            if number:
                mine[kind] = number
        return mine

    async def archived(self, deposits: list[Deposit]) -> None:
        assert self.clients is not None
        for deposit in deposits:
            assert await self.clients.reaches(deposit, {"ARCHIVED"}), deposit

    async def recorded(self) -> None:
        """Until the log has all that was recorded."""
        ends = asyncio.get_running_loop().time() + 60
        while (await self.checker.stores.under_way()).keys() & {"outbox", "audit", "inbox", "lag"}:
            assert asyncio.get_running_loop().time() < ends
            await asyncio.sleep(0.3)

    def objects_of(self, deposit: Deposit) -> int:
        name = str(deposit.document_id)
        return sum(f"/{name}/" in key for key in self.checker.stores._objects())

    def take(self, deposit: Deposit) -> dict[str, bytes]:
        """Its objects, as they lie in the store."""
        client, bucket = self.checker.stores.minio(), self.site.settings["DPJ_MINIO_BUCKET"]
        name = f"/{deposit.document_id}/"
        keys = [key for key in self.checker.stores._objects() if name in key and key.count(".") == 0]
        found = {}
        for key in keys:
            answer = client.get_object(bucket, key)
            found[key] = answer.read()
            answer.close()
            answer.release_conn()
        return found

    def put(self, objects: dict[str, bytes]) -> None:
        for key, content in objects.items():
            self.checker.stores.minio().put_object(
                self.site.settings["DPJ_MINIO_BUCKET"], key, BytesIO(content), len(content)
            )

    def remove(self, objects: dict[str, bytes]) -> None:
        for key in objects:
            self.checker.stores.minio().remove_object(self.site.settings["DPJ_MINIO_BUCKET"], key)

    def empty_kafka_and_registry(self) -> None:
        """Their disks are lost; nobody has made topics or registered schemas yet."""
        self.since = None
        self.losses.wipe("kafka", "registry")

    async def dossier(self) -> None:
        """One more, which leaves a line in the audit log."""
        assert self.clients is not None
        await self.clients.prepare(100)

    async def until(self, look: Callable[[], object]) -> None:
        ends = time.monotonic() + WAIT_SECONDS
        while not await asyncio.to_thread(look):
            assert time.monotonic() < ends
            await asyncio.sleep(0.5)

    async def verified_entries(self, tenant: str) -> int:
        """What ``dpj audit verify`` says of the chain, which is intact and all of it in the log."""
        words = ("audit", "verify", "--tenant", tenant, "--json")
        found = json.loads(await asyncio.to_thread(self.site.dpj, *words))
        assert found["intact"], found
        (chain,) = found["chains"]
        assert chain["signed"] > 0
        return int(chain["verified"])

    async def read(self, deposit: Deposit) -> str:
        assert self.clients is not None
        return await self.clients.download(str(deposit.document_id))


@pytest.fixture
async def drill(site: FaultSite, tmp_path: Path) -> AsyncIterator[Restored]:
    async with opened(Restored, site, tmp_path / "restore.jsonl") as made:
        yield made


async def test_what_a_restored_postgresql_forgot_is_told_and_put_right(drill: Restored, tmp_path: Path) -> None:
    earlier = await drill.deposit()
    await drill.archived(earlier)
    await drill.recorded()
    backup = await asyncio.to_thread(drill.losses.back_up_postgresql)
    await asyncio.to_thread(drill.site.wait_ready)
    # All of this the backup does not know.
    erased, held, kept = earlier[0], earlier[1], earlier[2]
    tenant = ("--tenant", drill.tenant)
    erase = ("erasure", "request", str(erased.document_id), "--reason", REASON, "--legal-basis", "GDPR_17_1_B", *tenant)
    await asyncio.to_thread(drill.site.dpj, *erase)
    hold = ("hold", "set", str(held.document_id), "--reference", "CASE-17", "--reason", "LITIGATION", *tenant)
    await asyncio.to_thread(drill.site.dpj, *hold)
    until = ("retention", "extend", str(kept.document_id), "--until", "2090-01-01", "--reason", REASON, *tenant)
    await asyncio.to_thread(drill.site.dpj, *until)
    later = await drill.deposit()
    await drill.archived(later)
    assert drill.clients is not None
    lost = drill.clients.new("pdf")
    await drill.clients.deposit(lost)
    assert await drill.clients.reaches(lost, {"VERIFIED"})
    assert await drill.clients.reaches(erased, {"ERASED"})
    await drill.recorded()
    entries = drill.losses.log_length(drill.tenant)

    await asyncio.to_thread(drill.losses.restore_postgresql, backup)
    await drill.until(lambda: drill.site.process("api").is_ready)
    await drill.dossier()  # what is new since gets a number that the log has given already
    await drill.until(lambda: not drill.site.process("worker-audit").is_ready)
    # Before anybody has done anything: what was erased is not served, and nothing is deleted.
    assert await drill.read(erased) == "HTTP 503"
    refused = await asyncio.to_thread(drill.site.dpj, "reconcile", "--apply", "--grace", "5", "--json", status=1)
    assert json.loads(refused)["error"]["code"] == "restore_under_way"
    assert drill.objects_of(lost) >= 1

    lost_to = tmp_path / "lost.jsonl"
    found = await drill.counts("--lost-to", str(lost_to))
    assert found["erasure_undone"] == 1
    assert found["hold_lost"] == 1
    assert found["retention_lost"] == 1
    assert found["archived_without_row"] == DOCUMENTS
    assert found["document_lost"] == 1
    assert found["chain_behind"] == 1
    assert found["object_without_row"] >= DOCUMENTS + 1
    assert found["mail_sent"] >= 3 * DOCUMENTS + 1
    told = [one for one in map(json.loads, lost_to.read_text().splitlines()) if one["tenant"] == drill.tenant]
    assert [(one["document_id"], one["sha256"]) for one in told] == [(lost.document_id, lost.sha256)]

    assert not (await drill.command("begin"))["opened"]  # the pipeline has noticed it by itself
    planned = await drill.command("repair")
    assert not planned["apply"]
    # Killed after the erasure of one document, then with one hold set again, some rows made again, and two steps done.
    for point in ("restore.document:1", "restore.document:1", "restore.document:3", "restore.step:2"):
        await drill.dies(point)
    done = await drill.command("repair --apply")
    assert {one["step"] for one in done["steps"]} == {one["step"] for one in planned["steps"]}
    assert await drill.read(erased) == "HTTP 410"
    for deposit in (*earlier[1:], *later):
        assert await drill.read(deposit) == deposit.sha256
    again = await drill.command("repair --apply")
    # What Kafka brings no more is another matter: nothing of the rest is left to do.
    assert {one["step"]: one["done"] for one in again["steps"] if one["step"] != "events"} == dict.fromkeys(
        ("erasures", "holds", "chain", "log", "rows", "metadata"), 0
    )
    left = await drill.counts()
    assert left.keys() <= {"document_lost", "mail_sent", "object_without_row"}, left
    assert drill.objects_of(lost) >= 1
    await drill.until(lambda: drill.site.process("worker-audit").is_ready)
    await drill.command("end")
    await asyncio.to_thread(drill.site.wait_ready)
    await drill.recorded()
    assert await drill.verified_entries(drill.tenant) > entries + 1
    # Rows say again what may go.
    await asyncio.to_thread(drill.site.dpj, "reconcile", "--apply", "--grace", "5", "--json")
    assert drill.objects_of(lost) == 0


@pytest.fixture
async def put_back(drill: Restored) -> AsyncIterator[None]:
    """Other tests' entries, which Kafka may have no more, are there again at the end."""
    place = drill.site.settings["DPJ_MONGO_DATABASE"]

    def held() -> dict[str, list[dict[str, Any]]]:
        with drill.checker.stores.mongo() as client:
            return {name: list(client[place][name].find()) for name in ("audit_logs", "documents_metadata")}

    def again(before: dict[str, list[dict[str, Any]]]) -> None:
        with drill.checker.stores.mongo() as client:
            for name, documents in before.items():
                for document in documents:
                    client[place][name].replace_one({"_id": document["_id"]}, document, upsert=True)

    before = await asyncio.to_thread(held)
    yield
    await asyncio.to_thread(again, before)


async def test_an_emptied_mongodb_is_filled_again_and_the_rest_is_named(drill: Restored, put_back: None) -> None:
    deposits = await drill.deposit()
    await drill.archived(deposits)
    await drill.recorded()
    tenant, stores = drill.tenant, drill.checker.stores
    entries = await drill.verified_entries(tenant)

    def empty() -> int:
        """Log and metadata are gone, and the collections with them; gives how many metadata there were of this drill's documents."""
        with stores.mongo() as client:
            base = client[drill.site.settings["DPJ_MONGO_DATABASE"]]
            count = base["documents_metadata"].count_documents({"tenant": tenant})
            base.drop_collection("audit_logs")
            base.drop_collection("documents_metadata")
        return count

    described = await asyncio.to_thread(empty)
    assert described == DOCUMENTS
    found = await drill.command("check", status=1)
    (lacking,) = [one for one in found["differences"]["entry_missing"]["items"] if one["tenant"] == tenant]
    assert (lacking["missing"], lacking["found"], lacking["lost"]) == (entries, entries, [])
    assert found["differences"]["metadata_missing"]["count"] >= DOCUMENTS
    await drill.dies("restore.refilled", "--step", "log")
    await drill.command("repair --apply", "--step", "log", status=None)
    assert drill.losses.log_length(tenant) == entries
    assert await drill.verified_entries(tenant) >= entries
    await drill.dies("restore.described:2", "--step", "metadata")
    await drill.command("repair --apply", "--step", "metadata", status=None)
    with stores.mongo() as client:
        held = client[drill.site.settings["DPJ_MONGO_DATABASE"]]["documents_metadata"]
        assert held.count_documents({"tenant": tenant}) == described

    # Everything else at once: Kafka, the registry and MongoDB are empty, the object store has again what was erased, and lacks what was not.
    erased, damaged = deposits[0], deposits[1]
    of_erased, of_damaged = [await asyncio.to_thread(drill.take, deposit) for deposit in (erased, damaged)]
    erase = ("erasure", "request", str(erased.document_id), "--reason", REASON, "--legal-basis", "GDPR_17_1_B")
    await asyncio.to_thread(drill.site.dpj, *erase, "--tenant", tenant)
    assert drill.clients is not None
    assert await drill.clients.reaches(erased, {"ERASED"})
    await drill.recorded()
    entries = drill.losses.log_length(tenant)
    for store in ("mongodb", "object-store", "registry", "kafka", "ged"):
        assert (await drill.command("begin", "--store", store))["opened"]
    await asyncio.to_thread(drill.empty_kafka_and_registry)
    await asyncio.to_thread(empty)
    await asyncio.to_thread(drill.put, of_erased)
    await asyncio.to_thread(drill.remove, of_damaged)
    found = await drill.command("check", status=1)
    told = {kind: one["count"] for kind, one in found["differences"].items()}
    assert told["topic_missing"] == len(TOPICS) + len(CONSUMERS)
    assert (told["schema_missing"], told["erased_left"]) == (1, 1)
    assert str(damaged.document_id) in {one["document_id"] for one in found["differences"]["content_missing"]["items"]}
    assert {one["store"] for one in found["open"]} == {"mongodb", "object-store", "registry", "kafka", "ged"}
    await asyncio.to_thread(drill.site.dpj, "schemas", "register")
    await asyncio.to_thread(drill.site.dpj, "topics", "create")
    await asyncio.to_thread(drill.put, of_damaged)
    # What PostgreSQL has whole is put back, all else is named by its number.
    done = {one["step"]: one for one in (await drill.command("repair --apply", status=1))["steps"]}
    assert done["erasures"]["done"] == 1
    assert drill.objects_of(erased) == 0
    (mine,) = [reason for reason in done["log"]["reasons"] if reason.startswith(f"{tenant}:")]
    ranges = re.findall(r"(\d+)(?: to (\d+))?(?:,|$)", mine.partition("more:")[2])
    lost = sum(int(last or first) - int(first) + 1 for first, last in ranges)
    with stores.mongo() as client:
        log = client[drill.site.settings["DPJ_MONGO_DATABASE"]]["audit_logs"]
        assert log.count_documents({"tenant": tenant, "seq": {"$lte": entries}}) == DOCUMENTS
    assert lost == entries - DOCUMENTS
    await drill.command("end")
    await asyncio.to_thread(drill.site.wait_ready)
