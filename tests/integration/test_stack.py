"""The local stack itself: a small one of its own, beside whatever else runs on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import smtplib
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from dotenv import dotenv_values

from deploy.native import files, ports, site, stack
from deploy.native.errors import PartFailed
from deploy.native.launch import Launch
from deploy.native.parts import ALL
from deploy.native.parts.ged import Ged
from deploy.native.parts.postgres import OF_ROOT
from deploy.native.parts.registry import Registry
from deploy.native.report import Silent
from deploy.native.supervisor import MARK, Supervisor
from tests.support import listening_sockets

EMBEDDED = ["kafka", "postgres", "ged", "smtp"]
REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for the stacks of this module; nothing of theirs runs or lies about afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("DPJ_HOME", str(folder))
        patch.delenv("DPJ_STACK", raising=False)
        try:
            yield folder
        finally:
            for name in stack.names():
                stack.down(name, wipe=True)


@pytest.fixture(scope="module")
def own(home: Path) -> stack.Stack:
    return stack.up("own", "embedded")


def settings(found: stack.Stack) -> dict[str, str]:
    return {key: value or "" for key, value in dotenv_values(found.settings).items()}


def sql(found: dict[str, str], statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(found["DPJ_POSTGRES_DSN"])
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def processes(home: Path, name: str) -> set[int]:
    return listening_sockets.marked(MARK, str(home / name))


def test_every_part_is_ready(own: stack.Stack) -> None:
    assert [row.part for row in own.rows] == EMBEDDED
    assert own.ready
    assert own.started
    asked = stack.status("own")
    assert asked is not None
    assert [row.state for row in asked.rows] == ["ready"] * len(EMBEDDED)


def test_settings_lead_to_the_servers(own: stack.Stack) -> None:
    found = settings(own)
    assert sql(found, "SELECT current_user") == "dpj"
    assert AdminClient({"bootstrap.servers": found["DPJ_KAFKA_BOOTSTRAP"]}).list_topics(timeout=10).brokers
    ged = httpx.get(found["DPJ_GED_URL"], auth=(found["DPJ_GED_USER"], found["DPJ_GED_PASSWORD"])).json()
    assert ged[found["DPJ_GED_REPOSITORY"]]["cmisVersionSupported"] == "1.1"
    with smtplib.SMTP(found["DPJ_SMTP_HOST"], int(found["DPJ_SMTP_PORT"])) as client:
        client.sendmail("a@bank.example", ["b@client.example"], "Subject: Receipt\r\n\r\nReceived.\r\n")
    [mail] = (Path(found["DPJ_SMTP_MAILDIR"]) / "new").iterdir()
    assert b"Subject: Receipt" in mail.read_bytes()


def test_listens_on_loopback_only(own: stack.Stack, home: Path) -> None:
    found = listening_sockets.addresses(processes(home, "own"))
    ports = {port for _, port in found}
    assert {int(row.address.rpartition(":")[2]) for row in own.rows} <= ports
    assert [address for address in found if not listening_sockets.is_loopback(address[0])] == []


def test_no_one_else_can_read_what_the_stack_keeps(own: stack.Stack, home: Path) -> None:
    loose = [
        path
        for path in [home / "own", *(home / "own").rglob("*")]
        if stat.S_IMODE(path.stat().st_mode) & 0o077 and not path.is_symlink()
    ]
    assert loose == []
    assert stat.S_IMODE(own.settings.stat().st_mode) == files.OWNER_ONLY
    if os.geteuid() == 0:
        clusters = list(OF_ROOT.glob(f"{_id(home, 'own')}/*"))
        assert len(clusters) == 1
        assert {stat.S_IMODE(cluster.stat().st_mode) for cluster in clusters} == {0o700}


def test_up_again_changes_nothing(own: stack.Stack) -> None:
    before = own.settings.read_bytes()
    again = stack.up("own", "embedded")
    assert not again.started
    assert [row.pid for row in again.rows] == [row.pid for row in own.rows]
    assert own.settings.read_bytes() == before


def test_up_restarts_only_what_has_died(own: stack.Stack) -> None:
    pids = {row.part: row.pid for row in stack.up("own", "embedded").rows}
    victim = pids.pop("smtp")
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    after = {row.part: row.pid for row in stack.up("own", "embedded").rows}
    assert after.pop("smtp") != victim
    assert after == pids


def test_down_leaves_no_process_and_keeps_the_data(own: stack.Stack, home: Path) -> None:
    found = settings(own)
    sql(found, "CREATE TABLE kept AS SELECT 42 AS a")
    admin = AdminClient({"bootstrap.servers": found["DPJ_KAFKA_BOOTSTRAP"]})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(10)

    assert sorted(stack.down("own")) == sorted(EMBEDDED)
    assert processes(home, "own") == set()
    assert stack.down("own") == []

    assert stack.up("own", "embedded").ready
    assert settings(own) == found
    assert sql(found, "SELECT a FROM kept") == 42
    assert "kept" in AdminClient({"bootstrap.servers": found["DPJ_KAFKA_BOOTSTRAP"]}).list_topics(timeout=10).topics


def test_what_follows_a_part_is_done_beside_the_others(own: stack.Stack) -> None:
    """With the settings written and the part's answer there, while the others go on to be ready."""
    stack.down("own")
    seen: list[tuple[object, bool]] = []

    def look() -> None:
        answered = sql(settings(own), "SELECT 1")
        ends = time.monotonic() + 120
        while not ((found := stack.status("own")) and found.ready) and time.monotonic() < ends:
            time.sleep(0.1)
        seen.append((answered, found is not None and found.ready))

    assert stack.up("own", "embedded", then={"postgres": look}).ready
    assert seen == [(1, True)]


def test_what_fails_beside_the_others_ends_the_start(home: Path) -> None:
    def fail() -> None:
        raise LookupError("no tables")

    with pytest.raises(LookupError):
        stack.up("failed", "embedded", then={"postgres": fail})
    assert processes(home, "failed") == set()
    assert not (home / "failed" / "settings.env").exists()


def test_the_registry_keeps_its_ids_over_a_restart(home: Path) -> None:
    here = site.load_or_create("registry-alone", "full")
    here.identity["ports"] = ports.assign(stack.PORTS, {}, set(), set(), None)
    here.save()
    supervisor = Supervisor(here.folder)
    answers = []
    for _ in range(2):
        Launch(here, supervisor, Silent(), [Registry()], frozenset()).run()
        url = f"{Registry().url(here)}/subjects/kept/versions"
        answers.append(httpx.post(url, json={"schema": '{"type":"string"}'}).json())
        supervisor.stop(["registry"])
    assert answers[0] == answers[1]
    assert "id" in answers[0]


def test_a_part_that_fails_is_named_and_takes_all_others_along(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ALL:
        if part.recipe is not None and part.recipe.built() and part.name != Ged.name:
            (tmp_path / part.recipe.key()).symlink_to(part.recipe.place())
    assert Ged.recipe is not None
    (tmp_path / Ged.recipe.key()).mkdir()
    (tmp_path / Ged.recipe.key() / "jetty-runner.jar").write_bytes(b"this is no archive")
    monkeypatch.setenv("DPJ_CACHE", str(tmp_path))
    with pytest.raises(PartFailed, match=r"^ged: ") as failed:
        stack.up("broken", "embedded")
    assert "jarfile" in failed.value.log_tail
    assert processes(home, "broken") == set()
    assert not (home / "broken" / "settings.env").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing_behind(home: Path, number: signal.Signals) -> None:
    name = f"cut-{number.name.lower()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.native", "up", "--name", name],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith("smtp       ready"):
            break
    assert processes(home, name)
    process.send_signal(number)
    process.stderr.read()
    code = process.wait(40)
    process.stderr.close()
    if number is signal.SIGKILL:
        assert code == -signal.SIGKILL
        (home / name).rename(home / "aside")  # not even what was written down is needed
        stack.down(name)
        (home / "aside").rename(home / name)
    else:
        assert code == 128 + number
    deadline = time.monotonic() + 5  # the kernel may need a moment for the last of them
    while processes(home, name) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(home, name) == set()


def _id(home: Path, name: str) -> str:
    found = site.load(name)
    assert found is not None
    return found.id
