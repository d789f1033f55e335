"""A store forgets, or goes back in time, as operators live through it: Kafka's disk, the groups' offsets, PostgreSQL from a copy."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.faults.checker import Checker
from tests.faults.faults import CONSUMERS
from tests.faults.journal import Writer
from tests.faults.observation import CONSUMERS as TOPICS_OF
from tests.faults.patience import Patience, insist
from tests.faults.site import FaultSite

GROUP_SECONDS = 60.0
WAIT_SECONDS = 180.0
POLL_SECONDS = 0.5
#: Dossiers that PostgreSQL forgets, and that the audit log remembers.
FORGOTTEN = 3
#: What only Kafka's records tell: those of events that were finished are gone with them, and are owed to nobody. One that is published
#: again stands behind those of its document that came through.
OF_RECORDS = frozenset({"gap", "audit", "order"})

WIPED, MOVED, RESTORED = "broker's disk lost", "offsets moved to the end", "postgresql restored"
LOSSES = (WIPED, MOVED, RESTORED)


class Losses:
    """What is done to ``site``; ``checker`` reads it."""

    def __init__(self, site: FaultSite, checker: Checker) -> None:
        self._site = site
        self._checker = checker

    # --- Kafka -------------------------------------------------------------------------------------------------------

    def wipe(self, *names: str) -> None:
        """The disks of these servers are lost, and they start again with nothing."""
        for name in names:
            server = self._site.server(name)
            server.kill()
            server.wipe()
            insist(server.start)

    def wipe_kafka(self) -> None:
        """The broker's disk is lost; an operator starts it again and makes its topics."""
        self.wipe("kafka")
        self._site.dpj("topics", "create")

    def move_offsets_to_the_end(self) -> None:
        """As ``kafka-consumer-groups --reset-offsets --to-latest`` does, for every group; no group may have a member."""
        admin = AdminClient({"bootstrap.servers": self._site.settings["DPJ_KAFKA_BOOTSTRAP"]})
        ends = self._checker.stores.ends()
        for consumer, topics in TOPICS_OF.items():
            group = f"dpj.{consumer}"
            places = [TopicPartition(*place, offset) for place, offset in ends.items() if place[0] in topics]
            asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])
            asked[group].result(GROUP_SECONDS)

    def workers(self, act: str) -> None:
        """``stop`` or ``start`` them all."""
        for consumer in CONSUMERS:
            getattr(self._site.process(f"worker-{consumer}"), act)()

    async def nothing_owed(self) -> None:
        """Until everybody has finished what was lost. Raises AssertionError if that takes too long."""
        await self._until("no event is owed", self._is_nothing_owed)

    async def _is_nothing_owed(self) -> bool:
        pairs = [(topic, consumer) for consumer, topics in TOPICS_OF.items() for topic in topics]
        owed = """
            SELECT count(*) FROM outbox JOIN unnest($1::text[], $2::text[]) AS reads (topic, consumer) USING (topic)
            WHERE event_id IS NOT NULL AND refused_at IS NULL AND coalesce(outbox.consumer, reads.consumer) = reads.consumer
                AND NOT EXISTS (
                SELECT FROM inbox WHERE inbox.consumer = reads.consumer AND inbox.event_id = outbox.event_id
                    AND inbox.state IN ('DONE', 'DEAD'))"""
        rows = await self._checker.stores.query(owed, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
        return not rows[0][0]

    # --- PostgreSQL --------------------------------------------------------------------------------------------------

    def back_up_postgresql(self) -> Path:
        """A copy of its data folder, made while it is down."""
        postgres = self._site.server("postgres")
        postgres.stop()
        copy = postgres.data.with_name(f"{postgres.data.name}-backup")
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-a", postgres.data, copy], check=True)
        # As every backup does: a server that had to be killed leaves it, and its number may be another process's by now.
        (copy / "postmaster.pid").unlink(missing_ok=True)
        insist(postgres.start)
        return copy

    def restore_postgresql(self, copy: Path) -> None:
        """Uses the copy up."""
        postgres = self._site.server("postgres")
        postgres.stop()
        shutil.rmtree(postgres.data)
        copy.rename(postgres.data)
        insist(postgres.start)

    async def go_back_and_repair(self, folder: Path) -> None:
        """PostgreSQL goes back to before some dossiers, which the audit log remembers; an operator repairs what is told.

        The dossiers are a tenant's of its own. Raises AssertionError if the log does not go on, intact.
        """
        tenant = f"restored-{secrets.token_hex(3)}"
        with Writer(folder / f"{tenant}.jsonl") as writer:
            clients = self._checker.clients(tenant, writer, 0)
            try:
                await clients.prepare(1)
                await self._until("the first dossier is logged", lambda: self._logs(tenant, 1))
                await self._checker.settle()
                copy = await asyncio.to_thread(self.back_up_postgresql)
                await clients.prepare(1 + FORGOTTEN)
                await self._until("the others are logged", lambda: self._logs(tenant, 1 + FORGOTTEN))
                await self._checker.settle()
                await asyncio.to_thread(self.restore_postgresql, copy)
                await clients.prepare(2 + FORGOTTEN)  # gets a number that the log has given already
            finally:
                await clients.aclose()
        await self._until("the audit log is told to stand", self._audit_stands)
        await self._until("the restore is told", self._is_restore_open)
        done = await self._dpj("restore", "repair", "--reason", "DRILL", "--apply")
        assert next(one["done"] for one in done["steps"] if one["step"] == "chain") == 1, done
        await self._dpj("restore", "end", "--reason", "DRILL")
        await asyncio.to_thread(self._site.wait_ready)
        await self._until("the log goes on", lambda: self._logs(tenant, 2 + FORGOTTEN))
        assert (await self._dpj("audit", "verify", "--tenant", tenant))["intact"]

    async def _dpj(self, *words: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(await asyncio.to_thread(self._site.dpj, *words, "--json"))
        return said

    async def _is_restore_open(self) -> bool:
        rows = await self._checker.stores.query("SELECT count(*) FROM restaurations WHERE fermee_a IS NULL")
        return bool(rows[0][0])

    async def _audit_stands(self) -> bool:
        return not self._site.process("worker-audit").is_ready

    async def _logs(self, tenant: str, least: int) -> bool:
        return await asyncio.to_thread(self.log_length, tenant) >= least

    def log_length(self, tenant: str) -> int:
        """Entries in the audit log."""
        with self._checker.stores.mongo() as client:
            log = client[self._site.settings["DPJ_MONGO_DATABASE"]]["audit_logs"]
            return log.count_documents({"tenant": tenant})

    @staticmethod
    async def _until(what: str, look: Callable[[], Awaitable[bool]]) -> None:
        patience = Patience(WAIT_SECONDS)
        while not await look():
            assert not patience.is_over(None), f"not within {WAIT_SECONDS:.0f} s: {what}"
            await asyncio.sleep(POLL_SECONDS)
