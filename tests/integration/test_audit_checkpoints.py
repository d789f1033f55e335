"""A database administrator edits the past: on the real stores, whatever is done there is found and named.

PostgreSQL, the audit log on the MongoDB wire protocol, the locked bucket and Vault's key; the export goes to the single-file verifier.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pymongo import AsyncMongoClient

from crypto.signatures import verifies
from domain.audit_chain import ChainEntry, hash_of
from domain.checkpoints import Checkpoint, checkpoint_of, first_previous, signed_checkpoint_of
from domain.errors import CheckpointConflict, CheckpointStoreUnavailable
from domain.events import AuditRecorded
from domain.merkle import RightEdge, leaf_hash
from operations.audit.checkpoints import read_signed
from operations.audit.export import entries_of, export_audit
from operations.audit.overdue import OverdueCheck
from operations.audit.verify import AuditReport, verify_audit
from processors.audit.chaining import AuditChainer, AuditFlusher
from processors.audit.checkpoints import AuditCheckpointer
from storage.checkpoints.s3 import S3CheckpointStore
from storage.mongodb.audit import MongoAuditStore, document_of
from storage.postgres.audit.chain import PostgresUnchainedLines, PostgresUnflushedEntries
from storage.postgres.audit.tree import PostgresAuditTrees, PostgresInclusionProofs
from storage.postgres.database import Postgres, PostgresDatabase
from tests.contract.test_checkpoint_stores import site_store
from tests.contract.test_signers import vault_signer
from tests.support.audit_histories import verified
from tests.support.audit_lines import a_line
from verifier import dpj_verify


@dataclass
class Clock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.at


class Site:
    """All of it, with a tenant of the test's own, and the stores as their administrators see them."""

    def __init__(self, stack: dict[str, str], postgres: Postgres, database: PostgresDatabase, mongo: str) -> None:
        self.tenant = f"t-{uuid4().hex[:10]}"
        self.postgres, self.database = postgres, database
        self.history = MongoAuditStore(stack["DPJ_MONGO_URL"], mongo)
        self.pending = PostgresUnflushedEntries(postgres)
        self.trees = PostgresAuditTrees(postgres)
        self.inclusions = PostgresInclusionProofs(postgres)
        self.signer = vault_signer(stack)
        self.store: S3CheckpointStore = site_store(stack)
        self.chainer = AuditChainer(PostgresUnchainedLines(postgres))
        self.flusher = AuditFlusher(self.pending, self.history, database)
        self.clock = Clock()
        self.logs: Any = None

    @property
    def checkpointer(self) -> AuditCheckpointer:
        """A new process's; always due."""
        return AuditCheckpointer(
            self.trees,
            self.signer,
            verifies,
            self.store,
            self.history,
            self.pending,
            self.database,
            self.clock,
            entries=1,
            seconds=60,
        )

    async def write(self, *lines: AuditRecorded | int) -> None:
        """Lines chained and moved to the audit log; a number stands for so many."""
        for line in lines:
            wanted = [a_line(self.tenant) for _ in range(line)] if isinstance(line, int) else [line]
            async with self.database.transaction() as work:
                for one in wanted:
                    await work.audit_chains.append(one)
        while await self.chainer.run_once():
            pass
        while await self.flusher.flush():
            pass

    async def sql(self, statement: str, *values: Any) -> Any:
        async with self.postgres.connection() as connection:
            return await connection.fetch(statement, *values)

    async def entries(self) -> list[ChainEntry]:
        async with aclosing(entries_of(self.history, self.pending, self.tenant, 10_000)) as found:
            return [stored.entry async for stored in found]

    async def report(self) -> AuditReport:
        keys = {key.id: key for key in await self.signer.public_keys()}
        recorded = await self.trees.recorded(self.tenant)
        found = await read_signed(self.store, keys, verifies, self.tenant, recorded.get(self.tenant, ()))
        overdue = OverdueCheck(self.store, self.history, self.pending, self.clock, seconds=60, pause=0)
        return await verify_audit(self.history, self.pending, self.tenant, {self.tenant: found}, overdue)

    async def findings(self) -> list[tuple[str, int]]:
        return [(one.kind, one.at) for chain in (await self.report()).chains for one in chain.findings]

    async def exported(self, folder: Path) -> Path:
        keys = await self.signer.public_keys()
        await export_audit(self.tenant, folder, self.history, self.pending, self.store, keys)
        return folder

    async def rewrite(self, first: int) -> None:
        """The log from ``first`` on, all hashes recomputed, in both databases: who has both passwords."""
        entries = await self.entries()
        before = entries[first - 2].hash if first > 1 else json.loads(entries[0].body)["prev"]
        for entry in entries[first - 1 :]:
            said = {**entry.fields(), "prev": before, "actor": "nobody"}
            body = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            before = hash_of(body)
            forged = ChainEntry(tenant=entry.tenant, seq=entry.seq, event_id=entry.event_id, body=body, hash=before)
            await self.logs.replace_one({"_id": str(entry.event_id)}, document_of(forged))
        await self.sql("UPDATE audit_heads SET hash = $2 WHERE tenant = $1", self.tenant, before)


@pytest.fixture
async def site(stack: Mapping[str, str], postgres: Postgres, database: PostgresDatabase) -> AsyncIterator[Site]:
    name = f"test_{uuid4().hex[:12]}"
    site = Site(dict(stack), postgres, database, name)
    async with AsyncMongoClient[dict[str, Any]](stack["DPJ_MONGO_URL"], tz_aware=True) as client:
        site.logs = client[name]["audit_logs"]
        yield site
        await client.drop_database(name)
    await site.history.aclose()
    await site.signer.aclose()
    await site.store.aclose()


async def told(site: Site, tmp_path: Path, capsys: Any) -> list[tuple[str, int]]:
    """What the single file says of an export, with keys that were kept elsewhere."""
    folder = await site.exported(tmp_path / f"export-{uuid4().hex[:6]}")
    keys = tmp_path / "kept.json"
    keys.write_bytes((folder / "keys.json").read_bytes())
    code, answer = await asyncio.to_thread(verified, capsys, "export", folder, "--keys", keys, "--tenant", site.tenant)
    assert code == bool(answer["findings"])
    return [(one["kind"], one["at"]) for one in answer["findings"]]


async def test_a_log_with_checkpoints_verifies_here_and_elsewhere(site: Site, tmp_path: Path, capsys: Any) -> None:
    await site.write(5)
    assert await site.checkpointer.run_once() == 5
    await site.write(600)
    assert await site.checkpointer.run_once() == 600
    await site.write(3)
    [told_of] = (await site.report()).report_lines
    assert told_of.startswith(
        f"{site.tenant}: intact, 608 entries, 605 of them signed by 2 checkpoints, the newest of "
    )
    assert await told(site, tmp_path, capsys) == []
    assert await site.checkpointer.run_once() == 3
    assert await site.checkpointer.run_once() == 0
    assert await told(site, tmp_path, capsys) == []
    assert await site.sql("SELECT FROM audit_leaves") == []


async def test_two_processes_and_repeated_crashes_make_one_chain_of_checkpoints(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each size has one body, whatever dies between two steps and whoever takes over."""
    real = site.store.put
    failing = iter([True, False, True, False] * 50)

    async def put(tenant: str, size: int, content: bytes) -> None:
        if next(failing):
            await real(tenant, size, content)
        raise CheckpointStoreUnavailable  # it may be there, or not

    for number in range(6):
        await site.write(7)
        site.clock.at = datetime(2030, 1, 1 + number, tzinfo=UTC)
        monkeypatch.setattr(site.store, "put", put)
        with pytest.raises(CheckpointStoreUnavailable):
            await site.checkpointer.run_once()
        monkeypatch.setattr(site.store, "put", real)
        site.clock.at = datetime(2031, 1, 1 + number, tzinfo=UTC)
        await asyncio.gather(*(site.checkpointer.run_once() for _ in range(3)), return_exceptions=True)
    report = await site.report()
    assert report.intact, report.report_lines
    rows = await site.sql("SELECT size, body, signature FROM audit_checkpoints WHERE tenant = $1", site.tenant)
    assert len(rows) == report.chains[0].checkpoints
    for row in rows:
        [kept] = await site.store.contents(site.tenant, row["size"])
        assert json.loads(kept)["checkpoint"].encode() == row["body"]
        assert row["signature"] is not None


Tamper = Callable[[Site], Awaitable[Any]]


async def _entry(site: Site, seq: int) -> ChainEntry:
    return (await site.entries())[seq - 1]


async def edit(site: Site) -> None:
    entry = await _entry(site, 4)
    text = entry.body.decode().replace('"actor":"u-1"', '"actor":"u-2"')
    await site.logs.update_one({"_id": str(entry.event_id)}, {"$set": {"entree": text, "utilisateur_id": "u-2"}})


async def edit_with_its_hash(site: Site) -> None:
    entry = await _entry(site, 4)
    body = entry.body.replace(b'"actor":"u-1"', b'"actor":"u-2"')
    forged = ChainEntry(tenant=entry.tenant, seq=4, event_id=entry.event_id, body=body, hash=hash_of(body))
    await site.logs.replace_one({"_id": str(entry.event_id)}, document_of(forged))


async def delete(site: Site) -> None:
    await site.logs.delete_one({"_id": str((await _entry(site, 4)).event_id)})


async def insert(site: Site) -> None:
    entry = await _entry(site, 8)
    said = {**entry.fields(), "seq": 9, "prev": entry.hash, "event_id": str(uuid4())}
    body = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    forged = ChainEntry(tenant=site.tenant, seq=9, event_id=UUID(said["event_id"]), body=body, hash=hash_of(body))
    await site.logs.insert_one(document_of(forged))


async def reorder(site: Site) -> None:
    fourth, fifth = await _entry(site, 4), await _entry(site, 5)
    for entry, seq in ((fourth, -1), (fifth, 4), (fourth, 5)):
        await site.logs.update_one({"_id": str(entry.event_id)}, {"$set": {"seq": seq}})


async def truncate(site: Site) -> None:
    for seq in (8, 7):
        await site.logs.delete_one({"_id": str((await _entry(site, seq)).event_id)})


async def truncate_both(site: Site) -> None:
    await truncate(site)
    kept = (await site.entries())[-1]
    await site.sql("UPDATE audit_heads SET seq = 6, hash = $2 WHERE tenant = $1", site.tenant, kept.hash)


async def rewrite(site: Site) -> None:
    await site.rewrite(1)


async def rewrite_the_end(site: Site) -> None:
    await site.rewrite(7)


@pytest.mark.parametrize(
    ("tamper", "here", "elsewhere"),
    [
        (edit, ("EDITED", 4), ("EDITED", 4)),
        (edit_with_its_hash, ("EDITED", 4), ("EDITED", 4)),
        (delete, ("DELETED", 4), ("DELETED", 4)),
        (insert, ("INSERTED", 9), None),  # beyond the newest checkpoint: not exported
        (reorder, ("REORDERED", 4), ("REORDERED", 4)),
        (truncate, ("TRUNCATED", 7), ("TRUNCATED", 7)),
        (truncate_both, ("TRUNCATED", 7), ("TRUNCATED", 7)),
        (rewrite, ("REWRITTEN", 1), ("REWRITTEN", 1)),
        (rewrite_the_end, ("REWRITTEN", 6), ("REWRITTEN", 6)),
    ],
)
async def test_what_an_administrator_does_is_named(
    site: Site,
    tmp_path: Path,
    capsys: Any,
    tamper: Tamper,
    here: tuple[str, int],
    elsewhere: tuple[str, int] | None,
) -> None:
    await site.write(5)
    await site.checkpointer.run_once()
    await site.write(3)
    await site.checkpointer.run_once()
    assert (await site.report()).intact
    await tamper(site)
    assert here in await site.findings()
    found = await told(site, tmp_path, capsys)
    assert found == [] if elsewhere is None else elsewhere in found


async def test_a_fork_signed_with_the_stolen_key_is_named(site: Site, tmp_path: Path, capsys: Any) -> None:
    """Whoever may sign and put can add a checkpoint; it can't take away the one that is there."""
    await site.write(5)
    await site.checkpointer.run_once()
    [row] = await site.sql("SELECT body FROM audit_checkpoints WHERE tenant = $1", site.tenant)
    honest = checkpoint_of(bytes(row["body"]))
    key = await site.signer.current()
    forged = honest.body.replace(honest.root.encode(), hashlib.sha256(b"x").hexdigest().encode())
    signature = await site.signer.sign(forged, key.id)
    content = {
        "checkpoint": forged.decode(),
        "key": key.id,
        "signature": dpj_verify.base64.urlsafe_b64encode(signature),
    }
    content["signature"] = content["signature"].rstrip(b"=").decode()
    await asyncio.to_thread(
        site.store._client._put_object,
        site.store._bucket,
        f"{site.tenant}/{5:020d}.json",
        dpj_verify.canonical(content) + b"\n",
        {"Content-Type": "application/json"},
    )
    assert ("FORKED", 5) in await site.findings()
    assert ("FORKED", 5) in await told(site, tmp_path, capsys)
    await site.write(2)
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()


async def test_a_database_that_was_rewritten_or_restored_gets_no_new_checkpoint(site: Site) -> None:
    await site.write(5)
    await site.checkpointer.run_once()
    before = [dict(row) for row in await site.sql("SELECT * FROM audit_trees WHERE tenant = $1", site.tenant)]
    await site.write(4)
    await site.checkpointer.run_once()
    await site.write(1)
    await site.sql("UPDATE audit_trees SET edge = decode(repeat('ab', 64), 'hex') WHERE tenant = $1", site.tenant)
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    await site.sql("UPDATE audit_trees SET size = 5, edge = $2 WHERE tenant = $1", site.tenant, before[0]["edge"])
    await site.sql("DELETE FROM audit_checkpoints WHERE tenant = $1 AND size > 5", site.tenant)
    with pytest.raises(CheckpointConflict, match="restored"):
        await site.checkpointer.run_once()
    for table in ("audit_trees", "audit_checkpoints", "audit_tiles"):
        await site.sql(f"DELETE FROM {table} WHERE tenant = $1", site.tenant)  # noqa: S608 - the names are above
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert list(await site.store.sizes(site.tenant, 1, 9)) == [5, 9]


# --- an administrator of PostgreSQL and what is not signed yet -------------------------------------------------------


async def unfinished(site: Site, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A checkpoint of 5 entries, and one of 8 on record that was not signed yet; its body."""
    await site.write(5)
    await site.checkpointer.run_once()
    await site.write(3)
    site.clock.at += timedelta(seconds=5)

    async def put(tenant: str, size: int, content: bytes) -> None:
        raise CheckpointStoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(site.store, "put", put)
        with pytest.raises(CheckpointStoreUnavailable):
            await site.checkpointer.run_once()
    [row] = await site.sql("SELECT body FROM audit_checkpoints WHERE tenant = $1 AND signature IS NULL", site.tenant)
    return bytes(row["body"])


@pytest.mark.parametrize("changed", ["tenant", "previous", "late", "early", "root", "all"])
async def test_nothing_is_signed_because_a_row_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    made = checkpoint_of(await unfinished(site, monkeypatch))
    other = RightEdge()
    for number in range(8):
        other.add(leaf_hash(str(number).encode()))
    forged = {
        "tenant": replace(made, tenant="other"),
        "previous": replace(made, previous=first_previous(site.tenant)),
        "late": replace(made, time=made.time + timedelta(days=3_650)),
        "early": replace(made, time=made.time - timedelta(days=365)),
        "root": replace(made, root=other.root.hex()),
        "all": replace(made, root=other.root.hex()),
    }[changed]
    await site.sql(
        "UPDATE audit_checkpoints SET body = $2, hash = $3, taken_at = $4 WHERE tenant = $1 AND size = 8",
        site.tenant,
        forged.body,
        forged.hash,
        forged.time,
    )
    if changed == "all":  # the tree with it: edge and leaves
        edge, leaves = b"".join(other.hashes), b"".join(leaf_hash(str(number).encode()) for number in range(8))
        await site.sql("UPDATE audit_trees SET edge = $2 WHERE tenant = $1", site.tenant, edge)
        await site.sql("UPDATE audit_tiles SET hashes = $2 WHERE tenant = $1", site.tenant, leaves)
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()
    assert list(await site.store.sizes(site.tenant, 1, 9)) == [5]
    assert list(await site.store.sizes("other", 1, 9)) == []


async def test_what_was_on_record_and_not_touched_is_finished(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    body = await unfinished(site, monkeypatch)
    assert await site.checkpointer.run_once() == 1
    [kept] = await site.store.contents(site.tenant, 8)
    assert json.loads(kept)["checkpoint"].encode() == body
    assert await site.trees.recorded(site.tenant) == {
        site.tenant: [
            (size, checkpoint.hash) for size, checkpoint in ((5, await _made(site, 5)), (8, checkpoint_of(body)))
        ]
    }


async def _made(site: Site, size: int) -> Checkpoint:
    [kept] = await site.store.contents(site.tenant, size)
    return signed_checkpoint_of(kept).checkpoint


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_trees SET size = 1000000000000000 WHERE tenant = $1",
        "UPDATE audit_checkpoints SET taken_at = 'infinity' WHERE tenant = $1 AND body IS NOT NULL",
        "DELETE FROM audit_checkpoints WHERE tenant = $1",
        "UPDATE audit_heads SET seq = 2 WHERE tenant = $1",
        "DELETE FROM audit_heads WHERE tenant = $1",
        "DELETE FROM audit_trees WHERE tenant = $1",
    ],
)
async def test_no_row_keeps_a_tenant_from_being_due(site: Site, statement: str) -> None:
    await site.write(5)
    await site.checkpointer.run_once()
    now = site.clock.at
    assert await site.trees.due(1, now - timedelta(minutes=1), now + timedelta(minutes=1)) == []
    await site.sql(statement, site.tenant)
    assert await site.trees.due(10**6, now - timedelta(minutes=1), now + timedelta(minutes=1)) == [site.tenant]
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()


async def test_entries_that_are_kept_from_being_signed_are_told(site: Site) -> None:
    await site.write(5)
    await site.checkpointer.run_once()
    await site.write(3)
    assert await site.findings() == []
    site.clock.at += timedelta(minutes=3)
    assert await site.findings() == [("UNSIGNED", 6)]
    await site.checkpointer.run_once()
    assert await site.findings() == []


async def test_chains_older_than_the_trees_get_theirs_from_the_log(site: Site) -> None:
    await site.write(1_205)
    await site.sql("DELETE FROM audit_leaves")
    await site.sql("DELETE FROM audit_archivings")
    await site.write(4)
    assert await site.checkpointer.run_once() == 1_209
    assert (await site.report()).intact


async def test_an_archiving_is_proven_from_a_few_tiles(site: Site, tmp_path: Path, capsys: Any) -> None:
    document_id = uuid4()
    await site.write(700)
    line = a_line(site.tenant, entity_id=str(document_id), action="document.archived", details='{"ged_id":"g"}')
    await site.write(line, 900)
    archiving = await site.inclusions.archiving(document_id)
    assert archiving is not None
    assert (archiving.seq, archiving.tenant) == (701, site.tenant)
    assert await site.inclusions.inclusion(archiving) is None
    assert await site.inclusions.archiving(uuid4()) is None
    await site.checkpointer.run_once()
    found = await site.inclusions.inclusion(archiving)
    assert found is not None
    assert found.signed.checkpoint.size == 1_601
    await site.write(50)
    await site.checkpointer.run_once()
    assert await site.inclusions.inclusion(archiving) == found
    root = dpj_verify.root_of_path(dpj_verify.leaf_hash(archiving.entry), 700, 1_601, found.path)
    assert root == found.signed.checkpoint.root
    await site.sql("UPDATE audit_tiles SET hashes = decode(repeat('ab', length(hashes)), 'hex') WHERE level = 0")
    with pytest.raises(CheckpointConflict):
        await site.inclusions.inclusion(archiving)
