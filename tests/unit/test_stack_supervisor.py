"""Processes of a stack: ours are ended, all of them, and no one else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.native import supervisor as module
from deploy.native.supervisor import MARK, STOP_MARK, Command, Supervisor


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


@pytest.fixture
def supervisor(state: Path) -> Iterator[Supervisor]:
    found = Supervisor(state)
    yield found
    found.stop(list(found.tracked()))
    found.stop_strays()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def shell(script: str, state: Path) -> Command:
    return Command(("sh", "-c", script), {}, state)


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 10
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
    return path.read_text()


def alive(pid: int) -> bool:
    return module._start_time(pid) is not None


def test_start_writes_down_and_stop_ends(supervisor: Supervisor, state: Path) -> None:
    process = supervisor.start("part", shell("echo out; echo err >&2; exec sleep 60", state))
    assert Supervisor(state).running() == {"part": process}
    assert (state / "processes.json").stat().st_mode & 0o077 == 0
    assert wait_for(supervisor.log("part")).splitlines()[0] == "out"
    supervisor.stop(["part"])
    assert not alive(process.pid)
    assert supervisor.tracked() == {}


def test_a_reused_process_id_is_left_alone(
    supervisor: Supervisor, state: Path, stranger: subprocess.Popen[bytes]
) -> None:
    process = supervisor.start("part", shell("exec sleep 60", state))
    supervisor.stop(["part"])
    row = {
        "part": "part",
        "pid": stranger.pid,
        "started": (module._start_time(stranger.pid) or 0) - 1,
        "boot": process.boot,
        "stop": 15,
    }
    (state / "processes.json").write_text(json.dumps([row]))
    assert supervisor.running() == {}
    supervisor.stop(["part"])
    supervisor.stop_strays()
    assert stranger.poll() is None


def test_processes_of_an_earlier_boot_are_not_running(supervisor: Supervisor, state: Path) -> None:
    process = supervisor.start("part", shell("exec sleep 60", state))
    row = {"part": "part", "pid": process.pid, "started": process.started, "boot": "another", "stop": 15}
    (state / "processes.json").write_text(json.dumps([row]))
    assert supervisor.running() == {}
    supervisor.stop_strays()
    assert not alive(process.pid)


def test_strays_end_and_what_is_written_down_lives_with_its_children(supervisor: Supervisor, state: Path) -> None:
    kept = supervisor.start("kept", shell("setsid sleep 60 & echo $! > child; wait", state))
    child = int(wait_for(state / "child"))
    lost = supervisor.start("lost", shell("exec sleep 60", state))
    rows = [row for row in json.loads((state / "processes.json").read_text()) if row["part"] != "lost"]
    (state / "processes.json").write_text(json.dumps(rows))
    supervisor.stop_strays()
    assert not alive(lost.pid)
    assert alive(kept.pid)
    assert alive(child)
    supervisor.stop(["kept"])
    supervisor.stop_strays()
    assert not alive(child)


def test_each_server_gets_its_own_signal(supervisor: Supervisor, state: Path) -> None:
    script = 'trap "echo interrupted > ended; exit" INT; trap "echo terminated > ended; exit" TERM; echo up > up; while :; do sleep 0.05; done'
    supervisor.start("part", Command(("bash", "-c", script), {}, state, stop=signal.SIGINT))
    wait_for(state / "up")  # its traps are set
    supervisor.stop(["part"])
    assert wait_for(state / "ended") == "interrupted\n"


def test_who_ignores_the_signal_is_killed(supervisor: Supervisor, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLITE_SECONDS", 0.3)
    process = supervisor.start("part", shell('trap "" TERM; echo up > up; while :; do sleep 0.05; done', state))
    wait_for(state / "up")
    supervisor.stop(["part"])
    assert not alive(process.pid)


def test_servers_get_little_of_our_environment(
    supervisor: Supervisor, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPJ_POSTGRES_DSN", "postgresql://secret")
    supervisor.start(
        "part", Command(("sh", "-c", "env > env.part; mv env.part env.txt; exec sleep 60"), {"A": "1"}, state)
    )
    variables = dict(line.partition("=")[::2] for line in wait_for(state / "env.txt").splitlines())
    assert variables.keys() <= {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME", "SSL_CERT_FILE"} | {
        *("VIRTUAL_ENV", "A", "PWD", "SHLVL", "OLDPWD", "_", MARK, STOP_MARK)
    }
    assert variables["A"] == "1"
    assert os.environ["DPJ_POSTGRES_DSN"]


def test_a_stray_that_keeps_its_environment_to_itself_is_known_by_its_arguments(
    supervisor: Supervisor, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = Path.read_bytes

    def others_environment_is_roots(path: Path) -> bytes:
        if path.name == "environ":
            raise PermissionError
        return read_bytes(path)

    with (
        subprocess.Popen(["sh", "-c", "sleep 60", f"{MARK}={state}"]) as ours,
        subprocess.Popen(["sleep", "60"]) as other,
    ):
        monkeypatch.setattr(Path, "read_bytes", others_environment_is_roots)
        supervisor.stop_strays()
        assert ours.wait(10) == -signal.SIGTERM
        assert other.poll() is None
        other.kill()
