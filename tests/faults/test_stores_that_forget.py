"""A store forgets, or goes on from another place: every accepted document comes to rest all the same, once, and it is told."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from domain.audit_chain import SYSTEM_TENANT
from domain.events import EVENT_TYPES
from runtime.processes.schema_ids_job import ASK_SECONDS
from tests.faults.checker import Checker, report
from tests.faults.crashes import died_at
from tests.faults.journal import Deposit, Writer
from tests.faults.losses import OF_RECORDS, Losses
from tests.faults.plain_http import NO_TLS
from tests.faults.site import FaultSite
from tests.faults.traffic import Clients

DOCUMENTS = 12
AT_ONCE = 4
WAIT_SECONDS = 180.0
#: Where a relay dies that has lost events sent again.
POINT = "owed.marked"
#: Other people's schemas in a registry.
OTHERS = 20
#: Longer than relays take to ask for the ids again.
SCHEMA_IDS_SECONDS = ASK_SECONDS + 5


class Drill:
    """A tenant of the drill's own, with documents on their way."""

    def __init__(self, site: FaultSite, writer: Writer) -> None:
        self.site, self.writer = site, writer
        self.checker = Checker(site.pipeline)
        self.losses = Losses(site, self.checker)
        self.clients: Clients | None = None
        #: Kafka's ends before the drill: what came earlier is other tests'. A broker that was wiped has nothing of theirs.
        self.since: dict[tuple[str, int], int] | None = None

    async def open(self) -> None:
        await self.checker.prepare()
        settled, waiting = await self.checker.settle()
        assert settled is not None, waiting
        self.since = await asyncio.to_thread(self.checker.stores.ends)

    async def begin(self) -> None:
        """The tenant, its key and its dossiers."""
        tenant = f"forget-{secrets.token_hex(4)}"
        self.clients = self.checker.clients(tenant, self.writer, secrets.randbits(32), poison=0.0)
        await self.clients.prepare()

    async def workers(self, act: str) -> None:
        """``stop`` or ``start`` them all."""
        await asyncio.to_thread(self.losses.workers, act)

    async def deposit(self) -> list[Deposit]:
        """Documents that are to be archived, some of them at once."""
        if self.clients is None:
            await self.begin()
        clients = self.clients
        assert clients is not None
        gate = asyncio.Semaphore(AT_ONCE)

        async def one() -> Deposit:
            async with gate:
                deposit = clients.new("pdf")
                await clients.deposit(deposit)
                await clients.decide(deposit, "validate")
                return deposit

        return list(await asyncio.gather(*(one() for _ in range(DOCUMENTS))))

    async def published(self) -> None:
        """Until all that is in the outbox is in Kafka."""
        ends = time.monotonic() + WAIT_SECONDS
        while (await self.checker.stores.query("SELECT count(*) FROM outbox WHERE published_at IS NULL"))[0][0]:
            assert time.monotonic() < ends, "the relay stands still"
            await asyncio.sleep(0.2)

    def lose_kafka(self) -> None:
        """The broker's disk is lost; what it had of others' is gone with it."""
        self.since = None
        self.losses.wipe_kafka()

    @property
    def tenant(self) -> str:
        assert self.clients is not None
        return self.clients.tenant

    def lose_registry(self) -> None:
        """Its disk is lost. What comes first gets the first ids then: an operator registers our schemas after somebody else's."""
        registry, url = self.site.server("registry"), self.site.settings["DPJ_REGISTRY_URL"]
        registry.stop()
        registry.wipe()
        registry.start()
        for number in range(OTHERS):
            schema = json.dumps({"type": "record", "name": f"Other{number}", "fields": []})
            body = {"schemaType": "AVRO", "schema": schema}
            httpx.post(f"{url}/subjects/other-{number}/versions", json=body, verify=NO_TLS).raise_for_status()
        self.site.dpj("schemas", "register")

    def newest_ids(self, places: list[Any]) -> list[tuple[str, str]]:
        """The topic of each of these records (offset, partition, topic), and the schema that the registry has under the id in it."""
        url = f"{self.site.settings['DPJ_REGISTRY_URL']}/schemas/ids"
        consumer = Consumer({"bootstrap.servers": self.site.settings["DPJ_KAFKA_BOOTSTRAP"], "group.id": "drill"})
        found = []
        try:
            for offset, partition, topic in places:
                consumer.assign([TopicPartition(topic, partition, offset)])
                record = consumer.poll(30.0)
                assert record is not None
                assert record.error() is None
                answer = httpx.get(f"{url}/{int.from_bytes(record.value()[1:5], 'big')}", verify=NO_TLS)
                found.append((topic, json.loads(answer.raise_for_status().json()["schema"])["name"]))
        finally:
            consumer.close()
        return found

    def audited_as_sent_again(self) -> int:
        """Events that the audit log says were sent again."""
        with self.checker.stores.mongo() as client:
            log = client[self.site.settings["DPJ_MONGO_DATABASE"]]["audit_logs"]
            found = log.find({"tenant": SYSTEM_TENANT, "action": "outbox.re_emitted"})
            return sum(one["details"]["events"] for one in found)

    async def all_hold(self, *, but: frozenset[str] = frozenset(), documents: int = DOCUMENTS) -> None:
        """Every promise, once all is at rest."""
        # A mail whose event a store forgot is still due when its document is archived and no group lags.
        await self.losses.nothing_owed()
        checked = await self.checker.check(self.writer, since=self.since)
        assert checked.settled is not None, checked.waiting
        broken = [one for one in checked.violations if one.code not in but]
        assert not broken, report(checked, self.writer.journal)
        assert checked.findings.documents == documents
        assert checked.findings.states == {"ARCHIVED": documents}

    async def waits(self, deposit: Deposit) -> list[dict[str, Any]]:
        """What ``dpj doc show`` says that a document waits for."""
        words = ("doc", "show", str(deposit.document_id), "--tenant", deposit.tenant, "--json")
        found: list[dict[str, Any]] = json.loads(await asyncio.to_thread(self.site.dpj, *words))["waits"]
        return found

    async def told(self) -> dict[str, Any]:
        """What ``dpj outbox owed`` says now."""
        words = ("outbox", "owed", "--json")
        found: dict[str, Any] = json.loads(await asyncio.to_thread(self.site.dpj, *words, status=1))
        return found


D = TypeVar("D", bound=Drill)


@asynccontextmanager
async def opened(drill: type[D], site: FaultSite, journal: Path) -> AsyncIterator[D]:
    """A drill on a site that is calm before and afterwards."""
    await asyncio.to_thread(site.calm)
    with Writer(journal) as writer:
        made = drill(site, writer)
        await made.open()
        try:
            yield made
        finally:
            if made.clients is not None:
                await made.clients.aclose()
            await asyncio.to_thread(site.calm)


@pytest.fixture
async def drill(site: FaultSite, tmp_path: Path) -> AsyncIterator[Drill]:
    async with opened(Drill, site, tmp_path / "forget.jsonl") as made:
        yield made


async def test_what_a_lost_broker_had_is_published_again(drill: Drill) -> None:
    """Nobody had consumed any of it: so nobody could know of it but PostgreSQL. The relay that has it sent again dies meanwhile."""
    await drill.workers("stop")
    await drill.deposit()
    await drill.published()
    before = await asyncio.to_thread(drill.audited_as_sent_again)
    relays = [drill.site.process(name) for name in ("relay", "relay-2")]
    ended = [len(relay.ends) for relay in relays]
    for relay in relays:
        await asyncio.to_thread(relay.stop)
    await asyncio.to_thread(drill.lose_kafka)
    for relay in relays:
        await asyncio.to_thread(relay.start, DPJ_CRASH_POINT=POINT)
    await drill.workers("start")
    await drill.all_hold()
    died = [died_at(relay, POINT, since) for relay, since in zip(relays, ended, strict=True)]
    assert any(died), "no relay got as far"
    # What a dead relay had only marked is as lost as before: it is sent again once, and the log says all that was sent, and no more.
    rows = await drill.checker.stores.query(
        "SELECT sum(re_emissions), max(re_emissions) FROM outbox WHERE re_emissions > 0"
    )
    audited = await asyncio.to_thread(drill.audited_as_sent_again)
    assert (audited - before, 1) == tuple(rows[0])


async def test_a_broker_lost_under_way_loses_no_document(drill: Drill) -> None:
    """All processes run on: the events are anywhere between an upload and its last mail."""
    depositing = asyncio.create_task(drill.deposit())
    await asyncio.sleep(1.0)
    await asyncio.to_thread(drill.lose_kafka)
    await depositing
    await asyncio.to_thread(drill.site.wait_ready)
    await drill.all_hold(but=OF_RECORDS)


async def test_what_moved_offsets_passed_is_told_and_published_again(drill: Drill) -> None:
    # The relay waits for nobody's order else; here an operator is to see it first.
    await drill.workers("stop")
    for name in ("relay", "relay-2"):
        await asyncio.to_thread(drill.site.process(name).stop)
        await asyncio.to_thread(drill.site.process(name).start, DPJ_EVENTS_RE_EMIT="false")
    deposits = await drill.deposit()
    await drill.published()
    assert {wait["state"] for wait in await drill.waits(deposits[0])} == {"on its way"}
    await asyncio.to_thread(drill.losses.move_offsets_to_the_end)
    await drill.workers("start")
    await asyncio.sleep(float(drill.site.setting("DPJ_EVENTS_LOST_AFTER")))
    told = await drill.told()
    assert told["count"].keys() == {"integrity", "archiving", "notification", "audit"}
    assert told["count"]["integrity"] == DOCUMENTS
    lost = await drill.waits(deposits[0])
    assert {(wait["consumer"], wait["state"]) for wait in lost if wait["topic"] == "dpj.document.uploaded"} == {
        (consumer, "lost") for consumer in ("integrity", "archiving", "notification")
    }
    again = json.loads(await asyncio.to_thread(drill.site.dpj, "outbox", "re-emit", "--apply", "--json"))
    assert again["events"] == len(told["owed"]) >= 3 * DOCUMENTS
    await drill.all_hold()


async def test_a_registry_that_comes_back_with_other_ids_strands_no_event(drill: Drill) -> None:
    """Events of before are read by consumers of before and after; the API and the relays run on and write the new ids."""
    await drill.workers("stop")
    await drill.deposit()
    await drill.published()
    await asyncio.to_thread(drill.lose_registry)
    await drill.workers("start")
    await asyncio.sleep(SCHEMA_IDS_SECONDS)
    await drill.deposit()
    await drill.all_hold(documents=2 * DOCUMENTS)
    newest = """
        SELECT max(published_offset), published_partition, topic FROM outbox
        WHERE event_id IS NOT NULL AND published_offset IS NOT NULL AND created_at > now() - interval '20 seconds'
        GROUP BY 2, 3"""
    found = await asyncio.to_thread(drill.newest_ids, await drill.checker.stores.query(newest))
    assert {("dpj.document.archived", "DocumentArchived"), ("dpj.audit.recorded", "AuditRecorded")} <= set(found)
    assert {(event_type.TOPIC, event_type.SCHEMA) for event_type in EVENT_TYPES} >= set(found)
