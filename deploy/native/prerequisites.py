"""What must be on the machine before the stack can come up, told as a list: one line each, with the next step.

Java, PostgreSQL, Go and libmagic come as wheels where the system has none (``programs``), so that they are missing on other
machines than glibc's on x86_64 and aarch64 alone. Debian's packages are installed for root where no wheel has the server.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from deploy.native import files, programs
from deploy.native.errors import Missing
from deploy.native.report import Reporter

INSTALL_SECONDS = 900


@dataclass(frozen=True)
class Prerequisite:
    """``package`` is the Debian package that ``up`` installs for root; empty where it leaves that to the user."""

    name: str
    next_step: str
    package: str = ""


JAVA = Prerequisite("Java >= 17", "on Debian: apt-get install default-jre-headless")
GO = Prerequisite("Go >= 1.24", "on Debian 13: apt-get install golang-go; elsewhere https://go.dev/dl")
POSTGRES = Prerequisite("PostgreSQL >= 15", "on Debian: apt-get install postgresql")
POSTGRES_TLS = Prerequisite(
    "PostgreSQL >= 15 with TLS",
    "the wheel's has none; on Debian: apt-get install postgresql; or up --no-tls",
    "postgresql",
)
MAGIC = Prerequisite("libmagic", "on Debian: apt-get install libmagic1")
PROMETHEUS = Prerequisite("Prometheus", "on Debian: apt-get install prometheus", "prometheus")
ALERTMANAGER = Prerequisite(
    "Alertmanager", "on Debian: apt-get install prometheus-alertmanager", "prometheus-alertmanager"
)
REDIS = Prerequisite("Redis", "on Debian: apt-get install redis-server", "redis-server")
#: For the tests of the console, and for pictures of it. Without windows it costs half the processor time.
HEADLESS_CHROMIUM = Prerequisite(
    "Chromium without windows", "on Debian: apt-get install chromium-headless-shell", "chromium-headless-shell"
)
CHROMIUM = Prerequisite("Chromium", "on Debian: apt-get install chromium", "chromium")
CLAMD = Prerequisite(
    "ClamAV's daemon", "on Debian: apt-get install clamav-daemon; or up --profile embedded", "clamav-daemon"
)


def postgres_of(major: int, stack: str) -> Prerequisite:
    """For data that no PostgreSQL of this machine can read."""
    return Prerequisite(
        f"PostgreSQL {major}",
        f"the data of stack {stack} are its: install it, or delete them with dpj stack down --name {stack} --wipe",
    )


def clamd() -> str | None:
    """Debian keeps it where only root looks for programs."""
    return shutil.which("clamd", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


def program(name: str, otherwise: Prerequisite) -> list[Prerequisite]:
    """Nothing if the system has the program ``name``."""
    return [otherwise] if shutil.which(name) is None else []


def libmagic() -> list[Prerequisite]:
    """Nothing if the system or the package pylibmagic has it."""
    there = ctypes.util.find_library("magic") or importlib.util.find_spec("pylibmagic")
    return [] if there else [MAGIC]


def ensure(lacking: Callable[[], list[Prerequisite]], reporter: Reporter) -> None:
    """Install what may be (root, Debian or Ubuntu, no wheel has it). Raises Missing with what to do about the rest.

    Parameters: ``lacking`` tells what is missing now; it is asked again after an installation.
    """
    found = lacking()
    packages = sorted({item.package for item in found if item.package})
    if packages and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        # apt lets one in at a time, and refuses the others: tests and stacks start side by side.
        with files.locked(files.home() / ".locks" / "apt"):
            if packages := sorted({item.package for item in lacking() if item.package}):
                _install(packages, reporter)
        programs.look_again()
        found = lacking()
    if found:
        lines = [f"  {item.name}: {item.next_step}" for item in dict.fromkeys(found)]
        raise Missing("\n".join(["these are missing:", *lines]))


def _install(packages: list[str], reporter: Reporter) -> None:
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
