"""Classes as an earlier run of the same Java server left them: mapped at a start instead of loaded anew (dynamic archives, JEP 350).

The first server that ends in good order writes the archive; the next start takes it over. Java itself checks that an archive is of
this Java, of these jars and whole, and goes on without it otherwise.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from deploy.native import files

#: An archive is written within seconds. One that has not changed for so long is whole, or its writer was killed.
SETTLED_SECONDS: Final = 60.0


def options(part: str, built: Path, java: str) -> list[str]:
    """What the server of ``part`` that runs from ``built`` is started with: to use the archive, or to leave one."""
    folder = files.private_folder(files.cache_root() / "classes")
    archive = folder / f"{part}-{_fingerprint(built, java)}.jsa"
    if not archive.exists():
        _adopt(archive)
    if archive.exists():
        return [f"-XX:SharedArchiveFile={archive}"]
    return [f"-XX:ArchiveClassesAtExit={archive.with_suffix(f'.{secrets.token_hex(4)}')}"]


def _adopt(archive: Path) -> None:
    """Take over what a server left, if it is there."""
    for left in sorted(archive.parent.glob(f"{archive.stem}.*")):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > SETTLED_SECONDS:
                left.replace(archive)


def _fingerprint(built: Path, java: str) -> str:
    """Of jars and Java: another one of either has other classes."""
    program = os.path.realpath(java)
    found = Path(program).stat()
    return hashlib.sha256(f"{built.name} {program} {found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:12]
