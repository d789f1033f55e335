"""The cache of built and downloaded parts, shared by all stacks of this user.

An entry is keyed by the part's version and a hash of everything it is made from, is built beside its place and renamed
into it, and never changes afterwards. A lock per entry lets several ``up`` run at once: one builds, the others wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.native import files
from deploy.native.errors import BuildFailed, Cancelled

SOURCES = Path(__file__).resolve().parent
# One Go build keeps four cores busy, and builds at the same time would each compile the packages they share (the standard
# library above all); linking Vault or MinIO takes over 1 GB.
GO_BUILDS_AT_ONCE = max(1, (os.cpu_count() or 1) // 4)
BUILD_SECONDS = 1800  # a build that takes longer has hung: the slowest needs 4 minutes on two cores


@dataclass(frozen=True)
class Recipe:
    """How to make one cache entry. ``folder`` (below this package) holds all inputs; tool is "go" or "mvn"."""

    part: str
    version: str
    tool: str
    folder: str
    package: str = "."
    tags: str = ""  # Go build tags, comma-separated

    def key(self) -> str:
        digest = hashlib.sha256(f"{self.tool} {self.package} {self.tags} {platform.machine()}".encode())
        for path in sorted((SOURCES / self.folder).iterdir()):
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
        return f"{self.part}-{self.version}-{digest.hexdigest()[:12]}"

    def place(self) -> Path:
        return files.cache_root() / self.key()

    def built(self) -> bool:
        return self.place().is_dir()


@dataclass
class Builder:
    """Builds what is missing; ``cancel`` stops the builds of all threads. ``mark`` joins the builds' environment."""

    mark: Mapping[str, str] = field(default_factory=dict)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(GO_BUILDS_AT_ONCE))
    _running: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ensure(self, recipe: Recipe) -> Path:
        """The folder of the built part. Raises BuildFailed, or Cancelled after ``cancel``."""
        place = recipe.place()
        if place.is_dir():
            return place
        with files.locked(_lock(recipe.key()), self._go_on):
            if place.is_dir():
                return place
            with _workshop(recipe) as workshop:
                output = workshop / "output"
                output.mkdir()
                self._build(recipe, workshop, output)
                output.rename(place)
        return place

    def _turn(self, recipe: Recipe) -> contextlib.AbstractContextManager[object]:
        # Maven's local repository does not bear two Mavens filling it at once, not even of different processes.
        return self._slots if recipe.tool == "go" else files.locked(_lock(recipe.tool), self._go_on)

    def _go_on(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("build given up")

    def cancel(self) -> None:
        """Stop every running build and refuse new ones."""
        self._cancelled.set()
        with self._lock:
            for group in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)

    def _build(self, recipe: Recipe, workshop: Path, output: Path) -> None:
        inputs = workshop / "inputs"
        shutil.copytree(SOURCES / recipe.folder, inputs)
        steps = _go(recipe, output) if recipe.tool == "go" else _maven(output)
        if steps.fetch:
            self._run(recipe, steps.fetch, inputs, steps.environment)
        with self._turn(recipe):
            self._run(recipe, steps.build, inputs, steps.environment)
        if recipe.tool == "mvn":
            _overlay(inputs, output)

    def _run(self, recipe: Recipe, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        log = folder.parent / "build.log"
        with log.open("wb") as stream:
            with self._lock:
                if self._cancelled.is_set():
                    raise Cancelled(f"{recipe.part}: not built")
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env={**os.environ, **environment, **self.mark},
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running.add(process.pid)
            try:
                code = process.wait(BUILD_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            finally:
                with self._lock:
                    self._running.discard(process.pid)
        if self._cancelled.is_set():
            raise Cancelled(f"{recipe.part}: build stopped")
        if code != 0:
            raise BuildFailed(f"{recipe.part}: `{command[0]}` failed ({code})\n{files.tail(log, 20)}")


def _lock(name: str) -> Path:
    return files.cache_root() / "locks" / name


@contextlib.contextmanager
def _workshop(recipe: Recipe) -> Iterator[Path]:
    """A temporary folder on the cache's own file system, so that the result can be renamed into place.

    The entry's lock is held: what lies there was left by a build that was killed.
    """
    folder = files.cache_root() / f".{recipe.key()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Steps:
    """``fetch`` may run beside other builds, ``build`` waits for its turn."""

    fetch: list[str]
    build: list[str]
    environment: Mapping[str, str]


def _go(recipe: Recipe, output: Path) -> _Steps:
    # -mod=readonly: go.sum decides what may be compiled in. Without cgo no C compiler is needed.
    environment = {"GOFLAGS": "-mod=readonly", "GOWORK": "off", "CGO_ENABLED": "0", "GOTELEMETRY": "off"}
    what = ["-tags", recipe.tags, recipe.package]
    # Listing what is compiled downloads the modules it is in, and only those.
    fetch = ["go", "list", "-deps", "-f", "{{.ImportPath}}", *what]
    build = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(output / recipe.part), *what]
    return _Steps(fetch, build, environment)


def _maven(output: Path) -> _Steps:
    # --strict-checksums: a download that does not match its published checksum fails the build.
    build = ["mvn", "--batch-mode", "--strict-checksums", "--no-transfer-progress", f"-Doutput={output}", "package"]
    return _Steps([], build, {})


def _overlay(inputs: Path, output: Path) -> None:
    """Put our own configuration over a web application that Maven unpacked."""
    web = output / "webapp" / "WEB-INF"
    if web.is_dir():
        shutil.copy2(inputs / "web.xml", web / "web.xml")
        shutil.copy2(inputs / "repository.properties", web / "classes" / "repository.properties")
