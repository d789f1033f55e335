"""Who can be dumped, and read by its own user: no process of ours, and none that is about to see a document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TELL = "import ctypes, resource; tell = lambda: print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3))"


def told(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{TELL}\n{code}"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_command_line_can_not_be_dumped_and_its_callers_can() -> None:
    assert told("import runtime.cli.main as m; m.main(['--version']); tell()")[-1].endswith(" 1")
    code = "import sys; sys.argv[1:] = ['--version']; import runtime.cli.main as m; m.main(); tell()"
    assert told(code)[-1] == "(0, 0) 0"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_documents_process_can_not_be_dumped_and_was_confined_all_the_same() -> None:
    code = """
import os
from rendering import confinement
confinement.seccomp.install = lambda **_: tell()
fenced = confinement.fence()
confinement.confine(fenced, confinement.Limits(1 << 30, 10), parent=os.getppid(), sources=(0,), sinks=(1,))
"""
    assert told(code) == ["(0, 0) 0"]
