"""What a part of the stack is: a server that is built, prepared, started, asked a real question, and set up."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from deploy.native import files, prerequisites, programs
from deploy.native.cache import Recipe
from deploy.native.errors import PartFailed, StackError
from deploy.native.prerequisites import Prerequisite
from deploy.native.programs import Program
from deploy.native.site import Profile, StackSite
from deploy.native.supervisor import Command, environment

QUESTION_SECONDS = 5.0  # one readiness question; a server that needs longer is not ready
#: Set in the environment of `up`: a stack for tests, which lives for minutes, and whose rows need not outlive the machine. A server
#: that is killed loses nothing by it: what it wrote is the kernel's by then.
BRIEF = "DPJ_STACK_NO_FSYNC"
BOTH: frozenset[Profile] = frozenset({"embedded", "full"})
FULL: frozenset[Profile] = frozenset({"full"})


class NotReady(Exception):
    """The server does not answer, or not yet as it should."""


class Part(ABC):
    """One server of the stack. Stateless: everything it knows of a stack comes with the ``StackSite``."""

    name: ClassVar[str]
    port: ClassVar[str]  # name of the port it is reached at
    profiles: ClassVar[frozenset[Profile]] = BOTH
    optional: ClassVar[bool] = False  # a stack can do without
    extra: ClassVar[str] = ""  # only in stacks that were asked by this word to have it; empty: no word is needed
    late: ClassVar[bool] = False  # of an extra: a stack that runs can be given it, because nothing else changes by it
    recipe: ClassVar[Recipe | None] = None
    needs: ClassVar[tuple[str, ...]] = ()  # parts that must be set up before this one starts
    patience: ClassVar[float] = (
        60.0  # seconds in which neither its log nor its processor time moves, after which it hangs
    )
    certified: ClassVar[bool] = True  # has a certificate of its own in a stack with TLS

    @property
    def on_request(self) -> bool:
        """Whether no profile has it by itself."""
        return bool(self.extra)

    @property
    def built(self) -> Path:
        """The cache entry this part runs from. Only for parts with a recipe."""
        if self.recipe is None:
            raise LookupError(self.name)
        return self.recipe.place()

    def version(self, site: StackSite) -> str:
        return self.recipe.version if self.recipe else ""

    def programs(self, site: StackSite) -> tuple[Program | None, ...]:
        """What it runs by, beside its recipe: of the system, or of a wheel. None for what can't be had (``lacks`` says so)."""
        return ()

    def recipes(self, site: StackSite) -> tuple[Recipe, ...]:
        """What has to be in the cache before it starts."""
        own = (self.recipe,) if self.recipe else ()
        return (*own, *(program.recipe for program in self.programs(site) if program and program.recipe))

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        """What the machine has not and no wheel brings."""
        if self.recipe and self.recipe.tool == "go" and not self.recipe.built() and programs.go() is None:
            return [prerequisites.GO]
        return []

    def address(self, site: StackSite) -> str:
        """As shown to the user."""
        return site.address(self.port)

    def prepare(self, site: StackSite) -> None:  # noqa: B027 - most parts have nothing to prepare
        """Make data folders and configuration; leaves what is there."""

    @abstractmethod
    def command(self, site: StackSite) -> Command:
        """How to start the server."""

    @abstractmethod
    def ask(self, site: StackSite) -> None:
        """One real request. Raises NotReady."""

    def set_up(self, site: StackSite) -> None:  # noqa: B027 - most parts have nothing to set up
        """Databases, users, buckets, keys: what the running server must hold. Repeatable.

        Raises NotReady for what may pass, and is then tried again, as ``ask`` is; PartFailed for what does not.
        """

    def wipe(self, site: StackSite) -> None:  # noqa: B027 - data mostly lies in the stack's folder
        """Delete what lies outside the stack's folder."""


def run_tool(site: StackSite, part: str, command: Command, seconds: float) -> None:
    """Run a part's own tool to its end. Raises PartFailed with the last lines it wrote."""
    program = Path(command.arguments[0]).name
    try:
        done = subprocess.run(
            command.arguments,
            cwd=command.folder,
            env={**environment(site.folder), **command.environment},
            user=command.user,
            group=command.group,
            extra_groups=None if command.user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            umask=0o077,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PartFailed(part, f"`{program}` took longer than {seconds:.0f} s", "") from None
    if done.returncode != 0:
        tail = "\n".join(done.stdout.decode("utf-8", "replace").splitlines()[-20:])
        raise PartFailed(part, f"`{program}` failed ({done.returncode})", tail)


def java_program() -> str:
    """Raises StackError where ``lacks`` should have said so."""
    found = programs.java()
    if found is None:
        raise StackError("no Java")
    return found.path("java")


def write_config(path: Path, lines: dict[str, str | int], *, between: str = "=") -> None:
    """A file of names and values: Java's properties, or another form by what stands ``between`` them."""
    files.write_private(path, "".join(f"{key}{between}{value}\n" for key, value in lines.items()))
