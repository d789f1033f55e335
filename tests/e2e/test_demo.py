"""``dpj demo`` from nothing: servers, processes, samples, proofs; a second run beside what runs; and a clean end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 280


def dpj(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DPJ_") or name == "DPJ_HOME"
    }
    command = [sys.executable, "-m", "runtime.cli.main", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture
def name() -> Iterator[str]:
    name = f"demo-test-{os.getpid()}"
    try:
        yield name
    finally:
        dpj("down", "--stack", name)
        dpj("stack", "down", "--stack", name, "--wipe")


def _runs(pid: int) -> bool:
    """A process that ended, but that nobody has waited for yet, runs no more (state Z; see proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _demo(name: str, *words: str) -> dict[str, Any]:
    done = dpj("demo", "--stack", name, "--profile", "embedded", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert [proof["name"] for proof in found["proofs"] if not proof["holds"]] == []
    return found


@pytest.mark.timeout(600)
def test_the_demonstration_proves_everything_twice_and_leaves_nothing_running(name: str) -> None:
    first = _demo(name)
    assert {one["state"] for one in first["documents"]} == {
        "ARCHIVED", "VALIDATED", "REJECTED", "content_mismatch", "file_empty",
    }  # fmt: skip
    assert first["first_archived_seconds"] is not None
    status = dpj("status", "--stack", name, "--json")
    assert status.returncode == 0, status.stderr
    assert {part["state"] for part in json.loads(status.stdout)["parts"]} == {"ready"}
    before = {part["name"]: part["pid"] for part in json.loads(status.stdout)["parts"]}

    second = _demo(name, "--no-keep")
    assert second["dossier_id"] != first["dossier_id"]
    after = dpj("status", "--stack", name, "--json")
    assert after.returncode == 3
    assert {part["state"] for part in json.loads(after.stdout)["parts"]} == {"down"}
    assert [pid for pid in before.values() if _runs(pid)] == []
