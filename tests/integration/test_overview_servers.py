"""A frozen relay with rows behind it: Kafka has no lag, and yet metrics and commands say what waits, and since when."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from runtime.config.settings import load_settings
from runtime.processes.local_stack import prepare
from tests.integration.test_startup_and_shutdown import PATIENCE, Started
from tests.support.free_ports import free_ports
from tests.support.pipeline import ROOT, wait_for

ROWS = 30
#: Read by nobody: these rows hold no event.
TOPIC = "dpj.document.erased"


class Site:
    """Processes on the stack's servers and a database of the test's own, where no other test has left rows."""

    def __init__(self, settings: Mapping[str, str], dsn: str, folder: Path) -> None:
        self._base = free_ports(9)
        self.settings = {key: value for key, value in settings.items() if key.startswith("DPJ_")}
        self.settings["DPJ_POSTGRES_DSN"] = dsn
        self.settings["DPJ_WORKER_PORT_BASE"] = str(self._base)
        self._folder = folder
        self.started: list[Started] = []

    def start(self, words: str, place: int) -> Started:
        self.started.append(Started(words, self.settings, self._base + place, self._folder))
        return self.started[-1]

    def dpj(self, *words: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_SETTINGS")}
        return subprocess.run(
            [sys.executable, "-m", "runtime.cli.main", *words, "--stack", self.settings["DPJ_STACK_NAME"]],
            cwd=ROOT,
            env={**kept, **self.settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    async def sql(self, query: str, *values: Any) -> Any:
        connection = await asyncpg.connect(self.settings["DPJ_POSTGRES_DSN"])
        try:
            return await connection.fetch(query, *values)
        finally:
            await connection.close()


@pytest.fixture
async def site(stack: Mapping[str, str], database_dsn: str, tmp_path: Path) -> AsyncIterator[Site]:
    # Topics. On a thread: it runs a loop of its own.
    await asyncio.to_thread(prepare, load_settings(stack["DPJ_STACK_NAME"]), lambda _: None)
    site = Site(stack, database_dsn, tmp_path)
    yield site
    for one in site.started:
        one.process.send_signal(signal.SIGCONT)
        one.process.kill()
        one.process.wait(10)


async def test_what_a_frozen_relay_holds_back_is_seen_everywhere(site: Site) -> None:
    relay = site.start("relay", 0)
    relay.says("relay", "leading")
    relay.process.send_signal(signal.SIGSTOP)
    lag = sum(row["lag"] for row in json.loads(site.dpj("lag", "--json").stdout))
    document = uuid4()
    await site.sql(
        """
        INSERT INTO outbox (topic, key, body, headers, created_at)
        SELECT $1, $2, 'b', '{}', now() - interval '20 minutes' FROM generate_series(1, $3::integer)
        """,
        TOPIC,
        str(document).encode(),
        ROWS,
    )
    watchdog = site.start("watchdog", 6)

    def metrics() -> dict[str, float]:
        text = watchdog.get("/metrics")[1] or ""
        return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("dpj_")}

    found = wait_for(
        lambda: (seen := metrics()).get("dpj_outbox_waiting_rows") and seen, "the watchdog looks", PATIENCE
    )
    assert found["dpj_outbox_waiting_rows"] == ROWS
    looked = found["dpj_overview_last_look_timestamp_seconds"]
    assert 1190 < looked - found["dpj_outbox_oldest_timestamp_seconds"] < 1400
    assert found['dpj_overview_known{part="kafka"}'] == 1
    # The trap: nothing of it is in Kafka.
    assert sum(value for name, value in found.items() if name.startswith("dpj_lag_records")) == lag
    told = f"{ROWS} rows wait for the relay, the first for 20 min"
    for words in (("lag", "--totals"), ("overview",), ("status",)):
        assert told in site.dpj(*words).stdout, words
    overview = json.loads(site.dpj("overview", "--json").stdout)
    assert overview["outbox"]["waiting"] == {"number": ROWS, "more": False}
    assert "relay" in overview["silent"]
    kept = await site.sql("SELECT en_attente FROM releves WHERE lieu = 'outbox' ORDER BY minute DESC LIMIT 1")
    assert [row[0] for row in kept] == [ROWS]
