"""The cache of built and downloaded parts, shared by all stacks of this user: Go servers, Java parts, wheels with programs.

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
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from deploy.native import files, jars
from deploy.native.errors import BuildFailed, Cancelled

SOURCES = Path(__file__).resolve().parent
# One Go build keeps four cores busy, and builds at the same time would each compile the packages they share (the standard
# library above all); linking Vault or MinIO takes over 1 GB.
GO_BUILDS_AT_ONCE = max(1, (os.cpu_count() or 1) // 4)
BUILD_SECONDS = 1800  # a build that takes longer has hung: the slowest needs 4 minutes on two cores


#: Machines (``uname -m``) and the C library that the pinned wheels are for. The Python version is one that all of them have: of
#: what they hold nothing is imported.
WHEEL_MACHINES: Final = ("x86_64", "aarch64")
WHEEL_PYTHON: Final = "3.11"
WHEEL_GLIBC: Final = "manylinux_2_28"
WHEEL_LIST: Final = "wheel.txt"
#: For what an account other than root's has to read; root's own cache is closed to it.
OF_ROOT: Final = Path("/var/lib/dpj")


@dataclass(frozen=True)
class Recipe:
    """How to make one cache entry. ``folder`` (below this package) holds all inputs."""

    part: str
    version: str
    tool: Literal["go", "jars", "wheel"]
    folder: str
    package: str = "."
    tags: str = ""  # Go build tags, comma-separated
    shared: bool = False  # used by an account of lower rank where root runs the stack

    def key(self) -> str:
        digest = hashlib.sha256(f"{self.tool} {self.package} {self.tags} {platform.machine()}".encode())
        for path in sorted((SOURCES / self.folder).iterdir()):
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
        return f"{self.part}-{self.version}-{digest.hexdigest()[:12]}"

    def place(self) -> Path:
        return self.root() / self.key()

    def root(self) -> Path:
        return OF_ROOT / "cache" if self.shared and os.geteuid() == 0 else files.cache_root()

    @property
    def verb(self) -> str:
        """What is done to make it, as the user sees it."""
        return "building" if self.tool == "go" else "downloading"

    def built(self) -> bool:
        return self.place().is_dir()


@dataclass
class Builder:
    """Builds what is missing; ``cancel`` stops the builds of all threads. ``mark`` joins the builds' environment.

    ``go_tools`` finds the Go toolchain: its recipe, if it is not the system's, and what its environment has to be.
    """

    mark: Mapping[str, str] = field(default_factory=dict)
    go_tools: Callable[[], tuple[Recipe | None, Mapping[str, str]]] = lambda: (None, {})
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
        if recipe.tool == "jars":
            jars.install(inputs, output, files.cache_root() / "downloads" / recipe.key(), self._go_on)
        elif recipe.tool == "wheel":
            self._run(recipe, _unpack_wheel(recipe, output), inputs, {})
            if recipe.shared:
                _open_to_all(output)
        else:
            self._build_go(recipe, inputs, output)

    def _build_go(self, recipe: Recipe, inputs: Path, output: Path) -> None:
        tools, environment = self.go_tools()
        if tools is not None:
            self.ensure(tools)
        steps = _go(recipe, output)
        if steps.fetch:
            self._run(recipe, steps.fetch, inputs, {**steps.environment, **environment})
        with self._slots:
            self._run(recipe, steps.build, inputs, {**steps.environment, **environment})

    def _run(self, recipe: Recipe, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        log = folder.parent / "build.log"
        with log.open("wb") as stream:
            with self._lock:
                if self._cancelled.is_set():
                    raise Cancelled(f"{recipe.part}: not built")
                everything = {**os.environ, **self.mark, **environment}
                # Popen looks a program up in the caller's PATH, not in the one given here.
                program = shutil.which(command[0], path=everything.get("PATH")) or command[0]
                process = subprocess.Popen(
                    [program, *command[1:]],
                    cwd=folder,
                    env=everything,
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
            raise _failure(recipe, command[0], code, log)


def _lock(name: str) -> Path:
    return files.cache_root() / "locks" / name


@contextlib.contextmanager
def _workshop(recipe: Recipe) -> Iterator[Path]:
    """A temporary folder on the cache's own file system, so that the result can be renamed into place.

    The entry's lock is held: what lies there was left by a build that was killed.
    """
    root = recipe.root()
    root.mkdir(parents=True, exist_ok=True)
    if root.is_relative_to(OF_ROOT):
        OF_ROOT.chmod(0o711)
        root.chmod(0o755)
    folder = root / f".{recipe.key()}"
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


def _unpack_wheel(recipe: Recipe, output: Path) -> list[str]:
    """uv checks the hashes and keeps the run bits; index, proxies and authorities are as in ``make install``."""
    target = f"{platform.machine()}-{WHEEL_GLIBC}"
    which = ["--python", sys.executable, "--python-version", WHEEL_PYTHON, "--python-platform", target]
    checks = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--quiet", "--no-progress"]
    # uv's own cache stays its own: what is opened to others below has to be a copy.
    copies = ["--link-mode", "copy"] if recipe.shared else []
    place = ["--target", str(output), "--requirements", WHEEL_LIST]
    return ["sh", str(SOURCES.parent / "uv.sh"), "pip", "install", *which, *checks, *copies, *place]


def _open_to_all(folder: Path) -> None:
    """Readable and, what is so for its owner, executable, whatever umask it was made under; nothing is writable."""
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(0o755 if mode & 0o100 else 0o644)


def _failure(recipe: Recipe, program: str, code: int, log: Path) -> BuildFailed:
    if recipe.tool == "wheel":
        said = " ".join(files.tail(log, 20).split())
        return BuildFailed(
            f"{recipe.part}: the wheel {recipe.version} can't be had: {said or code} (index: UV_DEFAULT_INDEX; proxy: HTTPS_PROXY; "
            "authorities: SSL_CERT_FILE)"
        )
    return BuildFailed(f"{recipe.part}: `{program}` failed ({code})\n{files.tail(log, 20)}")
