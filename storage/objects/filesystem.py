"""Object store in a folder: the embedded default, with the promises that the S3 adapter makes.

Layout under the root: an object ``a/b`` is the file ``a/b@`` (a key's alphabet has no ``@``, so a key never collides with the
folder of another), holding the sealed bytes and a footer of 40 bytes: ``DPJOBJ1\\n`` and the SHA-256 of what is before it, which
is the etag. In the footer it stays with its bytes through every copy and restore, and ``stat`` never reads the content.
``.incoming`` holds what is being written. Files are 0600, folders 0700. ``.incoming`` is also what makes a folder a store: only
``prepare`` makes it, and without it every call fails as an outage, so that a volume that isn't mounted condemns no document.

A put is: write beside, fsync, rename, fsync the folder. So an object is there whole or not at all, through a power cut too,
as far as the disk keeps the promise of fsync. One file system holds the whole root.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from uuid import uuid4

import structlog

from domain.errors import IntegrityMismatch, ObjectMissing, ObjectStoreUnavailable
from domain.objects import StoredObject, UnfinishedPut
from storage.clients.worker_threads import ObjectStoreThreads
from storage.objects.object_keys import check_key, check_prefix

FOOTER_MAGIC = b"DPJOBJ1\n"
FOOTER_SIZE = len(FOOTER_MAGIC) + 32
PART_SIZE = 1 << 20
PIECE_SIZE = 1 << 20
INCOMING = ".incoming"
OBJECT_SUFFIX = "@"
LIST_BATCH = 256
KEY_MARK = "+"  # in names of temporary files, for the slashes of the key and before what makes the name unique
MAX_NAME = 255

log = structlog.get_logger()


class FilesystemObjectStore:
    """The ObjectStore port over a folder, for one event loop; several processes may share the folder.

    ``deadline`` in seconds holds for each call (a part, a piece). The folder is to be prepared once, as a bucket is.
    """

    def __init__(self, root: Path, *, workers: int = 8, deadline: float = 30.0) -> None:
        self._root = root
        self._threads = ObjectStoreThreads("objects-files", workers, deadline)

    async def put(self, key: str, data: AsyncIterable[bytes]) -> StoredObject:
        """Store a stream of unknown length. Raises ObjectStoreUnavailable and what ``data`` raises; then nothing is left."""
        check_key(key)
        return await self._threads.write(_FileWriting(self._root, key), data, PART_SIZE)

    async def stat(self, key: str) -> StoredObject:
        """Raises ObjectMissing, IntegrityMismatch (cut short behind our back) or ObjectStoreUnavailable."""
        check_key(key)
        return await self._threads.run(_stat, self._root, key)

    async def read(
        self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Up to ``length`` bytes from ``start``, none beyond the end.

        Raises ObjectMissing (absent, or no longer the version ``etag``), IntegrityMismatch or ObjectStoreUnavailable.
        """
        check_key(key)
        reading = _FileReading(self._root, key, (start, length), etag)
        async with aclosing(self._threads.stream(reading)) as pieces:
            async for piece in pieces:
                yield piece

    async def delete(self, key: str) -> None:
        """Delete, durably; an absent object is fine. Raises ObjectStoreUnavailable."""
        check_key(key)
        await self._threads.run(_delete, self._root, key)

    async def purge(self, key: str) -> None:
        """Delete the object of that key, those whose keys are it, a dot and more, and what was begun. Raises ObjectStoreUnavailable."""
        check_key(key)
        await self._threads.run(_purge, self._root, key)

    async def list(self, prefix: str) -> AsyncGenerator[StoredObject, None]:
        """Objects whose keys begin with ``prefix``, in the order of their keys. Raises ObjectStoreUnavailable."""
        check_prefix(prefix)
        async with aclosing(self._threads.stream(_Listing(self._root, prefix))) as batches:
            async for batch in batches:
                for stored in batch:
                    yield stored

    async def unfinished(self, key: str | None = None) -> AsyncGenerator[UnfinishedPut, None]:
        """Temporary files, and when each was last written to. Raises ObjectStoreUnavailable."""
        for put in await self._threads.run(_unfinished, self._root):
            if key in {None, put.key}:
                yield put

    async def abort(self, put: UnfinishedPut) -> None:
        """Remove a temporary file; one that is not there is fine. Raises ObjectStoreUnavailable."""
        await self._threads.run(_abort, self._root, put)

    async def prepare(self) -> None:
        """Make the folder a store, where it isn't one yet. Raises ObjectStoreUnavailable."""
        await self._threads.run(_prepare, self._root)

    async def check(self) -> None:
        """Raises ObjectStoreUnavailable unless the folder is a store that can be written to."""
        await self._threads.run(_check, self._root)

    async def aclose(self) -> None:
        """Take no more calls."""
        await self._threads.aclose()


class _FileWriting:
    """A Writing of storage.clients.worker_threads: everything into a temporary file, which the last part renames."""

    def __init__(self, root: Path, key: str) -> None:
        self._root = root
        self._key = key
        self._temporary = root / INCOMING / _temporary_name(key)
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._size = 0
        self._visible = False

    def add(self, part: bytearray, number: int) -> None:  # noqa: ARG002 - they come one at a time, in order
        with _translated():
            self._count(part)
            self._write(part)

    def finish(self, part: bytearray) -> StoredObject:
        with _translated():
            self._count(part)
            self._write(part)
            target = self._write(FOOTER_MAGIC + self._digest.digest())
            os.fsync(target.fileno())
            modified = os.fstat(target.fileno()).st_mtime
            target.close()
            path = _path(self._root, self._key)
            _make_folder(path.parent, above=self._root)
            self._temporary.replace(path)
            self._visible = True
            _sync_folder(path.parent)
        return StoredObject(self._key, self._size, self._digest.hexdigest(), datetime.fromtimestamp(modified, UTC))

    def _count(self, part: bytearray) -> None:
        self._digest.update(part)
        self._size += len(part)

    def undo(self) -> None:
        with _translated():
            if self._file is not None:
                self._file.close()
            self._temporary.unlink(missing_ok=True)
            # Only what we wrote: another attempt may have put its own object under the key since.
            with suppress(ObjectMissing, IntegrityMismatch):
                if self._visible and _stat(self._root, self._key).etag == self._digest.hexdigest():
                    _delete(self._root, self._key)

    def _write(self, part: bytes | bytearray) -> BinaryIO:
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._temporary, flags, 0o600), "wb", buffering=0)
        rest = memoryview(part)
        while rest:  # unbuffered, so that nothing is left to be written by a close; a full disk writes less than asked
            rest = rest[self._file.write(rest) :]
        return self._file


class _FileReading:
    """A Reading of storage.clients.worker_threads. An open file stays the version it was, whatever is renamed over its name."""

    def __init__(self, root: Path, key: str, span: tuple[int, int | None], etag: str | None) -> None:
        self._root = root
        self._key = key
        self._start, self._length = span
        self._etag = etag
        self._file: BinaryIO | None = None
        self._left = 0
        self._closed = False
        self._lock = Lock()

    def next(self) -> tuple[bytes, bool]:
        with self._lock, _translated():
            if self._closed:
                return b"", True
            if self._file is None:
                self._file = self._open()
            piece = self._file.read(min(PIECE_SIZE, self._left))
            if not piece and self._left:
                raise IntegrityMismatch("The stored object has become shorter.")
            self._left -= len(piece)
            if not self._left:
                self._shut()
            return piece, not self._left

    def close(self) -> None:
        with self._lock:
            self._shut()

    def _open(self) -> BinaryIO:
        opened = _open(self._root, self._key)
        try:
            found = _describe(self._key, opened)
            if self._etag is not None and self._etag != found.etag:
                raise ObjectMissing
            remaining = max(0, found.size - self._start)
            self._left = remaining if self._length is None else min(remaining, self._length)
            opened.seek(self._start)
        except BaseException:
            opened.close()
            raise
        return opened

    def _shut(self) -> None:
        self._closed = True
        if self._file is not None:
            self._file.close()


class _Listing:
    """A Reading over a walk of the folders."""

    def __init__(self, root: Path, prefix: str) -> None:
        self._root = root
        self._keys = _keys(root, "", prefix)

    def next(self) -> tuple[list[StoredObject], bool]:
        found: list[StoredObject] = []
        with _translated():
            _require_store(self._root)
            keys = list(islice(self._keys, LIST_BATCH))
        for key in keys:
            try:
                found.append(_stat(self._root, key))
            except ObjectMissing:
                continue  # gone since
            except IntegrityMismatch:
                log.warning("object_damaged", object_key=key)
        return found, len(keys) < LIST_BATCH

    def close(self) -> None:
        """Nothing stays open between two batches."""


def _keys(folder: Path, above: str, prefix: str) -> Iterator[str]:
    """Keys under a folder that begin with ``prefix``, in order; ``above`` is the folder's part of them."""
    names: list[tuple[str, bool]] = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                names.append((entry.name + "/", True))
            elif entry.name.endswith(OBJECT_SUFFIX):
                names.append((entry.name.removesuffix(OBJECT_SUFFIX), False))
    for name, is_folder in sorted(names):
        key = above + name
        if is_folder and (key.startswith(prefix) or prefix.startswith(key)):
            yield from _keys(folder / name, key, prefix)
        elif not is_folder and key.startswith(prefix):
            yield key


def _path(root: Path, key: str) -> Path:
    return root / (key + OBJECT_SUFFIX)


def _stat(root: Path, key: str) -> StoredObject:
    with _translated(), _open(root, key) as opened:
        return _describe(key, opened)


def _open(root: Path, key: str) -> BinaryIO:
    """Raises ObjectMissing if the store is there and the object is not."""
    try:
        return _path(root, key).open("rb", buffering=0)
    except FileNotFoundError:
        _require_store(root)
        raise ObjectMissing from None


def _require_store(root: Path) -> None:
    if not (root / INCOMING).is_dir():
        raise ObjectStoreUnavailable("The folder is not (or no longer) an object store.")


def _describe(key: str, opened: BinaryIO) -> StoredObject:
    """From the footer, where the file's position then is. Raises IntegrityMismatch if there is none."""
    status = os.fstat(opened.fileno())
    size = status.st_size - FOOTER_SIZE
    footer = b""
    if size >= 0:
        opened.seek(size)
        footer = opened.read(FOOTER_SIZE)
    if len(footer) != FOOTER_SIZE or not footer.startswith(FOOTER_MAGIC):
        raise IntegrityMismatch("The stored object has lost its footer.")
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return StoredObject(key, size, footer[len(FOOTER_MAGIC) :].hex(), modified)


def _delete(root: Path, key: str) -> None:
    path = _path(root, key)
    with _translated():
        try:
            path.unlink()
        except FileNotFoundError:
            _require_store(root)
            return
        _sync_folder(path.parent)


def _purge(root: Path, key: str) -> None:
    def is_of(found: str | None) -> bool:
        return found is not None and (found == key or found.startswith(f"{key}."))

    for put in filter(lambda put: is_of(put.key), _unfinished(root)):
        _abort(root, put)
    with _translated():
        # By their names: an object that is damaged goes as well.
        found = [name for name in _keys(root, "", key) if is_of(name)]
    for name in found:
        _delete(root, name)


def _prepare(root: Path) -> None:
    with _translated():
        root.parent.mkdir(parents=True, exist_ok=True)
        _make_folder(root / INCOMING, above=root.parent)


def _check(root: Path) -> None:
    with _translated():
        _require_store(root)
        if not os.access(root / INCOMING, os.R_OK | os.W_OK | os.X_OK):
            raise ObjectStoreUnavailable("The folder of the object store can't be written to.")


def _temporary_name(key: str) -> str:
    """Tells the key, unless that is too long for a file's name."""
    unique = uuid4().hex
    name = f"{key.replace('/', KEY_MARK)}{KEY_MARK}{unique}"
    return name if len(name) <= MAX_NAME else unique


def _unfinished(root: Path) -> list[UnfinishedPut]:
    found = []
    with _translated():
        _require_store(root)
        for path in (root / INCOMING).iterdir():
            with suppress(FileNotFoundError):
                at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                key = path.name.rpartition(KEY_MARK)[0].replace(KEY_MARK, "/")
                found.append(UnfinishedPut(path.name, key or None, at))
    return sorted(found, key=lambda put: put.id)


def _abort(root: Path, put: UnfinishedPut) -> None:
    with _translated():
        (root / INCOMING / Path(put.id).name).unlink(missing_ok=True)


def _make_folder(folder: Path, *, above: Path) -> None:
    """Make a folder and those between it and ``above``, all 0700, each known to its parent before anything is put in it."""
    if folder.is_dir():
        return
    if folder.parent != above:
        _make_folder(folder.parent, above=above)
    with suppress(FileExistsError):
        folder.mkdir(0o700)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("object_store_failed", error=type(error).__name__, errno=error.errno)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise ObjectStoreUnavailable("The object store is full." if full else "") from None
