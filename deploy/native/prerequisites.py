"""What must be on the machine before the stack can come up, and how Debian calls it."""

from __future__ import annotations

import ctypes.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.native.errors import Missing
from deploy.native.report import Reporter

COMMAND_SECONDS = 30
INSTALL_SECONDS = 900
JAVA_MAJOR = 17
GO_MINOR = 24
POSTGRES_PROGRAMS = ("initdb", "postgres")


@dataclass(frozen=True)
class Prerequisite:
    """``package`` is the Debian package; ``hint`` tells what to do where that package is too old."""

    name: str
    package: str
    hint: str = ""


JAVA = Prerequisite("Java >= 17", "default-jre-headless")
MAVEN = Prerequisite("Maven", "maven")
GO = Prerequisite("Go >= 1.24", "golang-go", "before Debian 13: golang-1.24-go of the backports, or https://go.dev/dl")
POSTGRES = Prerequisite("PostgreSQL server", "postgresql")
REDIS = Prerequisite("Redis server", "redis-server")
MAGIC = Prerequisite("libmagic", "libmagic1")
CLAMD = Prerequisite("ClamAV's daemon", "clamav-daemon", "for the full profile only")


def postgres_folder() -> Path | None:
    """The folder of ``initdb`` and ``postgres``: the newest of Debian's, else that of the PATH."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0,
        reverse=True,
    )
    on_path = shutil.which("initdb")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return next((f for f in folders if all((f / program).exists() for program in POSTGRES_PROGRAMS)), None)


def clamd() -> str | None:
    """Debian keeps it where only root looks for programs."""
    return shutil.which("clamd", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


def missing(tools: frozenset[str]) -> list[Prerequisite]:
    """What is not there. ``tools``: what a build will need ("go", "mvn"; none when the cache is warm), and servers that
    come as programs of the system ("redis-server", "clamd")."""
    lacking = []
    if _java_major() < JAVA_MAJOR:
        lacking.append(JAVA)
    if "mvn" in tools and shutil.which("mvn") is None:
        lacking.append(MAVEN)
    if "go" in tools and _go_version() < (1, GO_MINOR):
        lacking.append(GO)
    if postgres_folder() is None:
        lacking.append(POSTGRES)
    if "redis-server" in tools and shutil.which("redis-server") is None:
        lacking.append(REDIS)
    if ctypes.util.find_library("magic") is None:
        lacking.append(MAGIC)
    if "clamd" in tools and clamd() is None:
        lacking.append(CLAMD)
    return lacking


def ensure(tools: frozenset[str], reporter: Reporter) -> None:
    """Install what is missing where we may (root on Debian or Ubuntu). Raises Missing with what to do."""
    lacking = missing(tools)
    if not lacking:
        return
    if os.geteuid() == 0 and shutil.which("apt-get") is not None:
        _install(lacking, reporter)
        lacking = missing(tools)
    if lacking:
        lines = [
            f"  {item.name}: Debian package {item.package}" + (f" ({item.hint})" if item.hint else "")
            for item in lacking
        ]
        packages = " ".join(item.package for item in lacking)
        raise Missing("\n".join(["these are missing:", *lines, f"install them with: sudo apt-get install {packages}"]))


def _install(lacking: list[Prerequisite], reporter: Reporter) -> None:
    packages = [item.package for item in lacking]
    # Run level 1: what is installed does not start as a service of the machine where such are started by run level.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for what, command in (
        ("apt-get update", ["apt-get", "update", "-q"]),
        (
            f"apt-get install {' '.join(packages)}",
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
        ),
    ):
        reporter.note(what)
        try:
            done = subprocess.run(
                command, env=quiet, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"`{what}` took longer than {INSTALL_SECONDS} s") from None
        if done.returncode != 0:
            raise Missing(f"`{what}` failed:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-10:]))


def output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout + done.stderr


def _java_major() -> int:
    found = re.search(r'version "(\d+)', output("java", "-version"))
    return int(found[1]) if found else 0


def _go_version() -> tuple[int, int]:
    found = re.search(r"go(\d+)\.(\d+)", output("go", "version"))
    return (int(found[1]), int(found[2])) if found else (0, 0)
