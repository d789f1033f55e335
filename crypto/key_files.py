"""Files that hold secrets: only their owner may read them, and a looser one is refused rather than used."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from crypto.encoding import from_text
from domain.errors import KeyringUnavailable

KEY_BYTES = 32
MAX_KEY_FILE_BYTES = 1 << 20
#: How long a writer waits for another one.
LOCK_SECONDS = 10.0
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

log = structlog.get_logger()


def read_key_file(path: Path) -> bytes:
    """The content. Raises KeyringUnavailable: unreadable, not a plain file of ours (or root's), open to others, too large."""
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())
            content = opened.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise refused(path, type(error).__name__) from None
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in {0, os.geteuid()}:
        raise refused(path, "not_our_file")
    if status.st_mode & _OTHERS:
        raise refused(path, "open_to_others")
    if len(content) > MAX_KEY_FILE_BYTES:
        raise refused(path, "too_large")
    return content


def read_keys(path: Path) -> list[bytes]:
    """The keys of a text file, one a line, each base64url of KEY_BYTES bytes. Raises KeyringUnavailable; also if there are none."""
    try:
        keys = [from_text(line) for line in read_key_file(path).decode("ascii").split()]
    except ValueError:
        raise refused(path, "malformed") from None
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise refused(path, "malformed")
    return keys


def create_key_file(path: Path, content: bytes) -> None:
    """Write a new file, 0600, durably. Raises FileExistsError: a file of keys is never overwritten."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def replace_key_file(path: Path, content: bytes) -> None:
    """Put a new file in the old one's place, whole or not at all. Raises KeyringUnavailable."""
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()  # of a writer that died
    try:
        create_key_file(new, content)
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise refused(path, type(error).__name__) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Other writers of the file wait. Raises KeyringUnavailable."""
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise refused(path, type(error).__name__) from None
    try:
        _take(lock, path)
        yield
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    ends = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > ends:
                raise refused(path, "another_writer") from None
        time.sleep(LOCK_SECONDS / 1000)


def refused(path: Path, reason: str) -> KeyringUnavailable:
    """The error to raise; the log names the file, the error, which users may see, does not."""
    log.error("key_file_refused", path=str(path), reason=reason)
    return KeyringUnavailable("A key file can't be used.")
