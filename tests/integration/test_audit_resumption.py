"""A PostgreSQL restored to before goes on behind the audit log, line for line, or is refused and stays as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crypto.signatures import verifies
from domain.audit_chain import StoredEntry, entry_of, genesis, head_after
from domain.errors import AuditConflict, CheckpointConflict
from domain.events import AuditRecorded
from operations.audit.checkpoints import read_signed
from operations.audit.verify import verify_audit
from processors.audit.chaining import AuditChainer, AuditFlusher
from processors.audit.checkpoints import AuditCheckpointer
from processors.audit.resumption import AuditResumption, Resumption
from schemas.codec import EventCodec
from storage.postgres.audit.chain import PostgresUnchainedLines, PostgresUnflushedEntries
from storage.postgres.audit.tree import PostgresAuditTrees
from storage.postgres.database import Postgres, PostgresDatabase
from tests.integration.conftest import copied
from tests.support.audit_lines import MemoryAuditStore, a_line
from tests.support.memory_audit_trees import MemoryCheckpointStore, MemorySigner

TENANT = "acme"
REASON = "INC-7"


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


class Site:
    """A database, and the log and checkpoints that it writes to."""

    def __init__(
        self, postgres: Postgres, codec: EventCodec, log: MemoryAuditStore, store: MemoryCheckpointStore
    ) -> None:
        self.postgres, self.log, self.store = postgres, log, store
        self.database = PostgresDatabase(postgres, codec.encode)
        self.pending = PostgresUnflushedEntries(postgres)
        self.trees, self.signer, self.clock = PostgresAuditTrees(postgres), MemorySigner(), Clock()

    async def write(self, *lines: AuditRecorded) -> None:
        """Chained, and not yet in the log."""
        async with self.database.transaction() as work:
            for line in lines:
                await work.audit_chains.append(line)
        await AuditChainer(PostgresUnchainedLines(self.postgres)).run_once()

    async def flush(self) -> None:
        await AuditFlusher(self.pending, self.log, self.database).run_once()

    async def checkpoint(self) -> None:
        self.clock.at += timedelta(minutes=10)
        parts = (self.trees, self.signer, verifies, self.store, self.log, self.pending, self.database, self.clock)
        await AuditCheckpointer(*parts, entries=1, seconds=60).run_once()

    async def resume(self, *, apply: bool = True) -> Resumption:
        parts = (self.database, self.log, self.store, self.signer, verifies, self.clock)
        return await AuditResumption(*parts, "u-operator").resume(TENANT, REASON, apply=apply)

    async def rows(self) -> dict[str, list[Any]]:
        """All that the database says of the chain."""
        tables = ("heads", "waiting", "pending", "chained", "leaves", "trees", "tiles", "checkpoints", "archivings")
        async with self.postgres.connection() as connection:
            return {
                name: [
                    tuple(value for key, value in row.items() if key not in {"id", "updated_at", "chained_at"})
                    for row in await connection.fetch(f"SELECT * FROM audit_{name} ORDER BY 1, 2")  # noqa: S608
                ]
                for name in tables
            }

    async def proven(self) -> int:
        """The number of entries of a chain that is intact, and as it was signed."""
        keys = {key.id: key for key in await self.signer.public_keys()}
        recorded = await self.trees.recorded(TENANT)
        signed = await read_signed(self.store, keys, verifies, TENANT, recorded.get(TENANT, ()))
        report = await verify_audit(self.log, self.pending, TENANT, {TENANT: signed})
        assert report.intact, report.report_lines
        return report.chains[0].verified


Lines = Sequence[AuditRecorded]


@pytest.fixture
async def sites(server_dsn: str, migrated_template: str, codec: EventCodec) -> AsyncIterator[tuple[Site, Site, Lines]]:
    """A site as it was when its database was lost, that database as its backup has it, and the lines of them all."""
    lines = [a_line(TENANT) for _ in range(30)]
    async with AsyncExitStack() as closing:
        made = []
        for until in (30, 12):
            postgres = Postgres(await closing.enter_async_context(copied(server_dsn, migrated_template)))
            closing.push_async_callback(postgres.aclose)
            site = Site(postgres, codec, MemoryAuditStore(), MemoryCheckpointStore())
            for first, last in ((0, 5), (5, 12), (12, 20), (20, 27)):
                if last <= until:
                    await site.write(*lines[first:last])
                    await site.flush()
                    await site.checkpoint()
            if until == 30:
                await site.write(*lines[27:])
                await site.flush()
            made.append(site)
        lost, restored = made
        restored.log, restored.store, restored.clock.at = lost.log, lost.store, lost.clock.at
        yield lost, restored, lines


async def test_the_restored_database_is_as_the_lost_one_was(sites: tuple[Site, Site, Lines]) -> None:
    lost, restored, _ = sites
    expected = await lost.rows()
    done = await restored.resume()
    assert (done.handed_over, done.last, done.signed, done.rechained, done.known) == (12, 30, 27, 0, 0)
    assert await restored.rows() == expected
    assert await restored.proven() == 30
    await restored.write(a_line(TENANT))
    await restored.flush()
    await restored.checkpoint()
    assert await restored.proven() == 31
    assert not (await restored.resume()).needed


async def test_lines_of_since_the_restore_come_behind_the_log_and_none_of_it_twice(
    sites: tuple[Site, Site, Lines],
) -> None:
    _, restored, lines = sites
    new = [a_line(TENANT) for _ in range(4)]
    # A history played again (two that the log has) among acts of today; two more wait for their places.
    await restored.write(new[0], lines[14], new[1], lines[28])
    async with restored.database.transaction() as work:
        await work.audit_chains.append(new[2])
        await work.audit_chains.append(lines[20])
        await work.audit_chains.append(new[3])
    with pytest.raises(AuditConflict):
        await restored.flush()
    before = len(restored.log.kept)
    planned = await restored.resume(apply=False)
    with pytest.raises(AuditConflict):
        await restored.flush()
    assert await restored.resume() == planned
    assert (planned.rechained, planned.known) == (2, 2)
    await restored.write()
    await restored.flush()
    await restored.checkpoint()
    assert await restored.proven() == 34
    written = [restored.log.kept[key].entry.event_id for key in sorted(restored.log.kept)[before:]]
    assert written == [line.event_id for line in new]


async def test_what_is_done_is_on_record(sites: tuple[Site, Site, Lines], codec: EventCodec) -> None:
    _, restored, _ = sites
    await restored.resume()
    async with restored.postgres.connection() as connection:
        (row,) = await connection.fetch("SELECT topic, body FROM outbox")
    line = await codec.decode(row["topic"], row["body"])
    assert isinstance(line, AuditRecorded)
    assert (line.action, line.actor, line.tenant) == ("audit.resumed", "u-operator", TENANT)
    assert '"from":12' in line.details
    assert '"to":30' in line.details


async def test_a_dry_run_changes_nothing(sites: tuple[Site, Site, Lines]) -> None:
    _, restored, _ = sites
    before = await restored.rows()
    assert (await restored.resume(apply=False)).needed
    assert await restored.rows() == before


async def test_another_history_is_refused(sites: tuple[Site, Site, Lines]) -> None:
    """The backup is of another site, or somebody rewrote log or database."""
    _, restored, _ = sites
    async with restored.postgres.connection() as connection:
        await connection.execute("UPDATE audit_heads SET hash = $1", "0" * 64)
    await refused(restored, AuditConflict)


async def test_a_log_that_was_changed_is_refused(sites: tuple[Site, Site, Lines]) -> None:
    _, restored, _ = sites
    kept = dict(restored.log.kept)
    for change in ("removed", "edited", "rewritten"):
        restored.log.kept = dict(kept)
        key = (TENANT, 16)
        body = kept[key].entry.body
        if change == "removed":
            del restored.log.kept[key]
        elif change == "edited":
            edited = replace(kept[key].entry, body=body.replace(b'"actor":"', b'"actor":"x'))
            restored.log.kept[key] = StoredEntry(edited, faithful=True)
        else:
            restored.log.kept |= rewritten(kept)
        await refused(restored, CheckpointConflict if change == "rewritten" else AuditConflict)


def rewritten(kept: dict[tuple[str, int], StoredEntry]) -> dict[tuple[str, int], StoredEntry]:
    """Everything from number 16 on says something else, and each follows from the one before: only the signatures tell."""
    head, found = genesis(TENANT), {}
    for key, stored in sorted(kept.items()):
        entry = stored.entry
        if entry.seq >= 16:
            entry = entry_of(a_line(TENANT, event_id=entry.event_id), head)
        head, found[key] = head_after(entry), StoredEntry(entry, faithful=True)
    return found


async def test_a_log_that_is_shorter_than_what_was_signed_is_refused(sites: tuple[Site, Site, Lines]) -> None:
    _, restored, _ = sites
    restored.log.kept = {key: one for key, one in restored.log.kept.items() if key[1] <= 26}
    await refused(restored, AuditConflict)
    restored.log.kept = {key: one for key, one in restored.log.kept.items() if key[1] <= 11}
    restored.store = MemoryCheckpointStore()
    await refused(restored, AuditConflict)


async def test_a_checkpoint_that_is_not_ours_is_refused(sites: tuple[Site, Site, Lines]) -> None:
    _, restored, _ = sites
    restored.signer = MemorySigner(2)
    await refused(restored, CheckpointConflict)


async def refused(site: Site, why: type[Exception]) -> None:
    before = deepcopy(await site.rows())
    with pytest.raises(why):
        await site.resume()
    assert await site.rows() == before
