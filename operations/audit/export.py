"""What an auditor takes away: a tenant's entries up to its newest checkpoint, the checkpoints, and the public keys, as plain files.

``entries.jsonl``: each entry's canonical bytes and a line end, in order. ``checkpoints.jsonl``: the checkpoints' files, by size.
``keys.json``: the public keys (JWKS, RFC 8037). ``verifier/dpj_verify.py`` verifies such a folder with keys that were kept elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from domain.audit_chain import ChainEntry, StoredEntry
from domain.checkpoints import PublicKey

PAGE: Final = 1_000
ENTRIES: Final = "entries.jsonl"
CHECKPOINTS: Final = "checkpoints.jsonl"
KEYS: Final = "keys.json"


class EntryReader(Protocol):
    """The audit store. Raises AuditStoreUnavailable, or DatabaseUnavailable where it is in the database."""

    def entries(self, tenant: str, after: int, up_to: int) -> AsyncGenerator[StoredEntry, None]: ...


class UnflushedEntryReader(Protocol):
    """Entries on their way there. Raises DatabaseUnavailable."""

    async def first(self, tenant: str, limit: int, after: int = 0) -> Sequence[ChainEntry]: ...


class Checkpoints(Protocol):
    """The checkpoint store. Raises CheckpointStoreUnavailable."""

    async def sizes(self, tenant: str, first: int, limit: int) -> Sequence[int]: ...

    async def contents(self, tenant: str, size: int) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True)
class AuditExport:
    """``entries`` and ``checkpoints`` are counts; ``signed`` is the size of the newest checkpoint."""

    tenant: str
    folder: str
    entries: int
    checkpoints: int
    signed: int

    @property
    def lines(self) -> list[str]:
        return [
            f"{self.tenant}: {self.entries} entries and {self.checkpoints} checkpoints in {self.folder}",
            f"Verify: python verifier/dpj_verify.py export {self.folder} --keys <the public keys that you kept elsewhere>",
        ]


async def export_audit(
    tenant: str,
    folder: Path,
    reader: EntryReader,
    pending: UnflushedEntryReader,
    checkpoints: Checkpoints,
    keys: Sequence[PublicKey],
) -> AuditExport:
    """Write the three files into ``folder``, which is made. Entries that no checkpoint covers yet stay out: all that is there is
    signed. Raises FileExistsError rather than write over anything, and what the stores raise."""
    with ExitStack() as files:
        entries, signed_ones, public = (
            files.enter_context(_new(folder, name)) for name in (ENTRIES, CHECKPOINTS, KEYS)
        )
        public.write(key_set(keys))
        newest = count = 0
        async for size, contents in all_checkpoints(checkpoints, tenant):
            newest, count = size, count + len(contents)
            signed_ones.writelines(contents)
        written = 0
        async with aclosing(entries_of(reader, pending, tenant, newest)) as found:
            async for stored in found:
                entries.write(stored.entry.body + b"\n")
                written += 1
    return AuditExport(tenant, str(folder), written, count, newest)


def key_set(keys: Sequence[PublicKey]) -> bytes:
    """As a JSON Web Key Set."""
    document: dict[str, Any] = {"keys": [key.jwk for key in keys]}
    return json.dumps(document, indent=2).encode() + b"\n"


async def all_checkpoints(checkpoints: Checkpoints, tenant: str) -> AsyncGenerator[tuple[int, Sequence[bytes]], None]:
    """Each size and all that was ever put under it, by size."""
    first = 1
    while sizes := await checkpoints.sizes(tenant, first, PAGE):
        for size in sizes:
            yield size, await checkpoints.contents(tenant, size)
        first = sizes[-1] + 1


async def entries_of(
    reader: EntryReader, pending: UnflushedEntryReader, tenant: str, up_to: int, *, after: int = 0
) -> AsyncGenerator[StoredEntry, None]:
    """Entries numbered above ``after`` and up to ``up_to`` as they are, from the audit store and, above, from where they wait for it.
    Gaps are passed over."""
    while after < up_to:
        waiting = await pending.first(tenant, PAGE, after)
        if waiting and waiting[0].seq == after + 1:
            for entry in waiting:
                if entry.seq <= up_to:
                    yield StoredEntry(entry, faithful=True)
            after = waiting[-1].seq
            continue
        settled = min(up_to, waiting[0].seq - 1) if waiting else up_to
        async with aclosing(reader.entries(tenant, after, settled)) as entries:
            async for stored in entries:
                yield stored
        after = settled


def _new(folder: Path, name: str) -> BinaryIO:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
