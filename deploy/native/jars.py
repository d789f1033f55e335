"""Java parts from a Maven repository, by a pinned list: no Maven needed.

The list, ``jars.txt`` in the recipe's folder, is made by ``python -m deploy.pin jars`` from the ``pom.xml`` beside it. ``DPJ_MAVEN_URL``
names another repository than Maven Central; what comes from there has to have the same hashes.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from deploy.native import downloads
from deploy.native.downloads import DownloadFailed, PinnedFile
from deploy.native.errors import BuildFailed

LIST: Final = "jars.txt"
CENTRAL: Final = "https://repo.maven.apache.org/maven2"
#: Files at the same time, of one list. More gain nothing: two lists and wheels come side by side.
AT_ONCE: Final = 6
#: What of the web application is not unpacked: its SOAP binding, for which Java 17 has no JAX-WS, and log4j 2.6, which is open to
#: remote code execution (CVE-2021-44228).
LEFT_OUT: Final = (
    *("WEB-INF/lib/log4j-*", "WEB-INF/lib/cxf-*", "WEB-INF/lib/jaxb-*"),
    *("WEB-INF/cmis10/*", "WEB-INF/cmis11/*"),
)


@dataclass(frozen=True)
class Jar:
    """One line of the list. ``target`` is a path in the part's folder; with a ``/`` at its end, the folder it is unpacked into.
    ``path`` is the path in the repository. ``size`` in bytes."""

    sha256: str
    size: int
    target: str
    path: str


def repository() -> str:
    return (os.environ.get("DPJ_MAVEN_URL") or CENTRAL).rstrip("/")


def read(path: Path) -> list[Jar]:
    """Raises ValueError for a line that is none."""
    jars = []
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            sha256, size, target, place = line.split()
            if len(bytes.fromhex(sha256)) != 32:
                raise ValueError(f"{path}: no SHA-256: {sha256}")
            jars.append(Jar(sha256, int(size), target, place))
    return jars


def install(inputs: Path, output: Path, kept: Path, go_on: Callable[[], None]) -> None:
    """Fetch what the list in ``inputs`` names into ``output``, side by side, and lay our configuration over a web application.

    Parameters: ``kept`` is a folder for downloads that is this caller's alone; it outlives a call that fails or is killed, so that
    the next one fetches the rest. What ``go_on`` raises ends all downloads.
    Raises BuildFailed.
    """
    jars = read(inputs / LIST)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="jar") as pool:
        futures = [pool.submit(_fetch, jar, kept, go_on) for jar in jars]
        done, left = wait(futures, return_when=FIRST_EXCEPTION)
        for future in left:
            future.cancel()
        failed = [error for future in done if (error := future.exception())]
    if failed:
        if isinstance(failed[0], DownloadFailed | OSError):
            raise BuildFailed(f"{failed[0]} (another repository: DPJ_MAVEN_URL)") from None
        raise failed[0]
    for jar in jars:
        _place(jar, kept, output)
    _overlay(inputs, output)
    shutil.rmtree(kept)


def _fetch(jar: Jar, kept: Path, go_on: Callable[[], None]) -> None:
    downloads.fetch(PinnedFile(f"{repository()}/{jar.path}", jar.sha256, jar.size), kept / jar.sha256, go_on)


def _place(jar: Jar, kept: Path, output: Path) -> None:
    target = output / jar.target
    target.parent.mkdir(parents=True, exist_ok=True)
    if jar.target.endswith("/"):
        _unpack(kept / jar.sha256, target)
    else:
        shutil.copyfile(kept / jar.sha256, target)


def _unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts:
                raise BuildFailed(f"{archive.name} names a file outside of its folder: {name}")
            if not any(fnmatch.fnmatchcase(str(name), pattern) for pattern in LEFT_OUT):
                content.extract(member, folder)


def _overlay(inputs: Path, output: Path) -> None:
    web = output / "webapp" / "WEB-INF"
    if web.is_dir():
        shutil.copy2(inputs / "web.xml", web / "web.xml")
        shutil.copy2(inputs / "repository.properties", web / "classes" / "repository.properties")
