"""The embedded profile's way from chained entries to a verdict: key file, folder of checkpoints, export, single file."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crypto.local_signer import LocalSigner
from crypto.signatures import verifies
from domain.audit_chain import ChainEntry
from domain.errors import CheckpointConflict
from operations.audit.export import export_audit, key_set
from processors.audit.checkpoints import AuditCheckpointer
from storage.checkpoints.folder import FolderCheckpointStore
from tests.support.audit_histories import ListedEntries, verified
from tests.support.audit_lines import MemoryAuditStore, MemoryUnflushedEntries, a_chain
from tests.support.builders import NOW
from tests.support.memory_audit_trees import MemoryAuditTrees, MemoryLocks


class Hours:
    """Each look is an hour later."""

    def __init__(self) -> None:
        self._at = NOW

    def now(self) -> datetime:
        self._at += timedelta(hours=1)
        return self._at


class Site:
    def __init__(self, folder: Path) -> None:
        self.signer = LocalSigner.create(folder / "signing.json")
        self.store = FolderCheckpointStore(folder / "checkpoints")
        self.trees = MemoryAuditTrees()
        self.chain: list[ChainEntry] = a_chain(30)
        self.checkpointer = AuditCheckpointer(
            self.trees,
            self.signer,
            verifies,
            self.store,
            MemoryAuditStore(),
            MemoryUnflushedEntries(),
            MemoryLocks(),
            Hours(),
            entries=1_000,
            seconds=60,
        )

    async def export(self, folder: Path) -> Path:
        keys = await self.signer.public_keys()
        await export_audit("acme", folder, ListedEntries(self.chain), MemoryUnflushedEntries(), self.store, keys)
        return folder


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    for first, last in ((0, 7), (7, 20), (20, 30)):
        site.trees.chained(site.chain[first:last])
        assert await site.checkpointer.run_once() == last - first
    (tmp_path / "kept.json").write_bytes(key_set(await site.signer.public_keys()))
    return site


async def test_an_export_verifies(site: Site, tmp_path: Path, capsys: Any) -> None:
    folder = await site.export(tmp_path / "export")
    code, answer = verified(capsys, "export", folder, "--keys", tmp_path / "kept.json", "--tenant", "acme")
    assert (code, answer["entries"], answer["checkpoints"]) == (0, 30, 3)


async def test_an_export_writes_over_nothing(site: Site, tmp_path: Path) -> None:
    folder = await site.export(tmp_path / "export")
    with pytest.raises(FileExistsError):
        await site.export(folder)


async def test_an_export_ends_where_signatures_do(site: Site, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "checkpoints" / "acme" / f"{30:020d}.json").unlink()  # as root may
    folder = await site.export(tmp_path / "export")
    code, answer = verified(capsys, "export", folder, "--keys", tmp_path / "kept.json")
    assert (code, answer["entries"], answer["signed"]) == (0, 20, 20)


async def test_a_checkpoint_removed_from_the_folder_is_missed_at_the_next(site: Site, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "acme" / f"{30:020d}.json").unlink()
    site.trees.chained([a_chain(31)[30]])
    with pytest.raises(CheckpointConflict):
        await site.checkpointer.run_once()


async def test_a_checkpoint_removed_from_the_middle_is_named(site: Site, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "checkpoints" / "acme" / f"{20:020d}.json").unlink()
    folder = await site.export(tmp_path / "export")
    _, answer = verified(capsys, "export", folder, "--keys", tmp_path / "kept.json")
    assert [(one["kind"], one["at"]) for one in answer["findings"]] == [("CHECKPOINT_MISSING", 30)]
