"""Histories with checkpoints, exported as ``dpj audit export`` does, for the verifier."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from domain.audit_chain import ChainEntry, StoredEntry
from domain.checkpoints import Checkpoint, SignedCheckpoint, first_previous
from domain.merkle import RightEdge, leaf_hash
from operations.audit.export import export_audit, key_set
from tests.support.audit_lines import MemoryUnflushedEntries
from tests.support.builders import NOW
from tests.support.memory_audit_trees import MemoryCheckpointStore, MemorySigner
from verifier import dpj_verify


class ListedEntries:
    """An audit store that holds these entries."""

    def __init__(self, entries: Sequence[ChainEntry]) -> None:
        self._entries = entries

    async def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]:
        for entry in self._entries:
            if entry.tenant == tenant and after < entry.seq <= up_to:
                yield StoredEntry(entry, faithful=True)


def checkpoints_of(
    chain: Sequence[ChainEntry], sizes: Sequence[int], signer: MemorySigner, tenant: str = "acme"
) -> list[SignedCheckpoint]:
    """Honest ones of these sizes."""
    edge, found, previous = RightEdge(), list[SignedCheckpoint](), first_previous(tenant)
    for entry in chain:
        edge.add(leaf_hash(entry.body))
        if edge.size in sizes:
            made = Checkpoint(
                tenant=tenant,
                size=edge.size,
                root=edge.root.hex(),
                time=NOW + timedelta(minutes=edge.size),
                previous=previous,
            )
            found.append(signed(made, signer))
            previous = made.hash
    return found


def signed(made: Checkpoint, signer: MemorySigner) -> SignedCheckpoint:
    return SignedCheckpoint(checkpoint=made, key_id=signer.public.id, signature=signer.private.sign(made.body))


async def exported(folder: Path, chain: Sequence[ChainEntry], checkpoints: Sequence[SignedCheckpoint]) -> Path:
    store = MemoryCheckpointStore()
    for one in checkpoints:
        await store.put(one.checkpoint.tenant, one.checkpoint.size, one.content)
    keys = [MemorySigner().public]
    await export_audit("acme", folder, ListedEntries(chain), MemoryUnflushedEntries(), store, keys)
    return folder


def kept_keys(folder: Path, *signers: MemorySigner) -> Path:
    """The public keys, kept elsewhere than in an export."""
    path = folder / "kept-keys.json"
    path.write_bytes(key_set([signer.public for signer in signers]))
    return path


def verified(capsys: Any, *arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON answer of the verifier."""
    capsys.readouterr()
    code = dpj_verify.main([*map(str, arguments), "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}
