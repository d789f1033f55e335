"""Checkpoint store in a folder, for sites without an object-locked bucket: the embedded default.

Layout: ``<root>/<tenant>/<size, 20 digits>.json``, read-only files. A file is written whole beside its place and then linked to it,
which fails if something is there: nothing of ours ever replaces a checkpoint. That is weaker than an object lock: whoever may write
to the folder (the pipeline's own user, root) can remove or replace files. ``chattr +a`` on the folders, or a copy of them that
another machine fetches, makes up for some of it (docs/OPERATIONS.md).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import structlog

from domain.checkpoints import MAX_FILE_BYTES
from domain.errors import CheckpointStoreUnavailable
from storage.checkpoints.names import name_of, size_of, tenant_folder, tenant_of

_T = TypeVar("_T")
_WAITING: Final = re.compile(r"\.[0-9a-f]{32}")

log = structlog.get_logger()


class FolderCheckpointStore:
    """See ``processors.audit.checkpoints.CheckpointStore``. The folder is made when it is first needed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, tenant: str, size: int, content: bytes) -> None:
        """Keep it, durably; one of that size that is there stays. Raises CheckpointStoreUnavailable."""
        await _translated(lambda: self._put(tenant, size, content))

    async def sizes(self, tenant: str, first: int, limit: int) -> Sequence[int]:
        """The sizes kept, from ``first`` on, in order, at most ``limit``. Raises CheckpointStoreUnavailable."""
        return await _translated(lambda: self._sizes(tenant, first)[:limit])

    async def contents(self, tenant: str, size: int) -> Sequence[bytes]:
        """One, or none. Raises CheckpointStoreUnavailable."""
        return await _translated(lambda: self._contents(tenant, size))

    async def tenants(self) -> Sequence[str]:
        """Those with checkpoints. Raises CheckpointStoreUnavailable."""
        return await _translated(self._tenants)

    async def check(self) -> None:
        """Raises CheckpointStoreUnavailable unless the folder takes files."""
        await _translated(self._probe)

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _put(self, tenant: str, size: int, content: bytes) -> None:
        folder = self._root / tenant_folder(tenant)
        self._make(folder)
        waiting = folder / f".{uuid4().hex}"
        descriptor = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            with suppress(FileExistsError):
                os.link(waiting, folder / name_of(size))
        finally:
            waiting.unlink()
        _sync(folder)

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync(self._root)

    def _sizes(self, tenant: str, first: int) -> list[int]:
        folder = self._root / tenant_folder(tenant)
        if not folder.is_dir():
            return []
        found = (size_of(name) for name in os.listdir(folder) if not _WAITING.fullmatch(name))  # noqa: PTH208 - names are all we need
        return sorted(size for size in found if size is not None and size >= first)

    def _contents(self, tenant: str, size: int) -> list[bytes]:
        try:
            with (self._root / tenant_folder(tenant) / name_of(size)).open("rb") as opened:
                return [opened.read(MAX_FILE_BYTES + 1)]
        except FileNotFoundError:
            return []

    def _tenants(self) -> list[str]:
        return sorted(tenant_of(path.name) for path in self._root.iterdir()) if self._root.is_dir() else []

    def _probe(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise PermissionError


async def _translated(call: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(call)
    except OSError as error:
        log.warning("checkpoint_store_failed", error=type(error).__name__)
        raise CheckpointStoreUnavailable from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
