"""PostgreSQL and Kafka out of wheels, on a machine that may have them all: they come up, answer, and belong to whom they should."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.native import programs, site, stack
from deploy.native.launch import Launch
from deploy.native.parts import postgres
from deploy.native.parts.kafka import Kafka
from deploy.native.parts.postgres import Postgres
from deploy.native.report import Silent
from deploy.native.site import StackSite
from deploy.native.supervisor import Supervisor

pytestmark = pytest.mark.skipif(not programs.wheels_run_here(), reason="no wheels for this machine")
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackSite]:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    monkeypatch.setenv("DPJ_STACK_PREFER", "wheels")
    made = site.load_or_create("wheels", "embedded")
    stack._assign_ports(made, [], None)
    try:
        yield made
    finally:
        stack.down("wheels", wipe=True)


def programs_of(process: int) -> str:
    return str(Path(f"/proc/{process}/exe").readlink())


def owner_of(process: int) -> str:
    return pwd.getpwuid(Path(f"/proc/{process}").stat().st_uid).pw_name


async def a_row(here: StackSite) -> tuple[int, str]:
    connection = await asyncpg.connect(Postgres().dsn(here))
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS a")
        return await connection.fetchval("SELECT a FROM kept"), await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()


def launched(here: StackSite) -> dict[str, int]:
    """The processes' ids by part."""
    supervisor = Supervisor(here.folder)
    Launch(here, supervisor, Silent(), [Kafka(), Postgres()], frozenset()).run()
    return {part: process.pid for part, process in supervisor.running().items()}


@pytest.mark.timeout(600)
def test_they_come_up_answer_and_keep_their_data(here: StackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    # A minimal machine has no account of PostgreSQL's.
    monkeypatch.setattr(postgres, "ACCOUNTS", ("nobody",))
    running = launched(here)
    assert programs_of(running["kafka"]).startswith(str(programs.JAVA_WHEEL.place()))
    assert programs_of(running["postgres"]).startswith(str(programs.POSTGRES_WHEEL.place()))
    assert owner_of(running["postgres"]) == ("nobody" if AS_ROOT else pwd.getpwuid(os.geteuid()).pw_name)
    assert asyncio.run(a_row(here)) == (42, "18.4")
    client = AdminClient({"bootstrap.servers": here.address("kafka")})
    client.create_topics([NewTopic("probe", 1, 1)])["probe"].result(30)
    assert "probe" in client.list_topics(timeout=10).topics

    # The account is the data's, whatever the machine has got since.
    monkeypatch.setattr(postgres, "ACCOUNTS", ("postgres", "nobody"))
    stack.down("wheels")
    running = launched(here)
    assert asyncio.run(a_row(here)) == (42, "18.4")
    if AS_ROOT:
        assert owner_of(running["postgres"]) == "nobody"
