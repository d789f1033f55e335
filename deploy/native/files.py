"""Small files of the stack: written whole or not at all, and readable by their owner only."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent.parent
OWNER_ONLY = 0o600
LOCK_SECONDS = 0.1


def home() -> Path:
    """Folder that holds one folder per stack: ``DPJ_HOME``, else ``.dpj`` in the checkout."""
    return Path(os.environ.get("DPJ_HOME") or CHECKOUT / ".dpj").absolute()


def cache_root() -> Path:
    """Folder of what was built or downloaded: ``DPJ_CACHE``, else ``dpj`` in the user's cache folder."""
    chosen = os.environ.get("DPJ_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "dpj"


def private_folder(path: Path) -> Path:
    """Create ``path`` if need be and close it to everybody else."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, content: str | bytes) -> None:
    """Replace ``path`` atomically; it is never readable by others, not even for a moment."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    write_private(path, json.dumps(value, indent=2) + "\n")


def tail(path: Path, lines: int) -> str:
    """The last ``lines`` lines of a log; at most its last 256 KiB are read."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 262_144))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


@contextmanager
def locked(path: Path, go_on: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock between processes (and threads); it ends with the process that holds it.

    While another one holds it, ``go_on`` is called again and again and may raise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        while not _grab(descriptor):
            go_on()
            time.sleep(LOCK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _grab(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
