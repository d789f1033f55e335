"""Real processes while what they need is away: they wait and say for what, go on by themselves, and end when they are told.

Every process reaches every server over a line that is down until a test takes it up.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from minio import Minio

from tests.support.free_ports import free_ports
from tests.support.interruptible_proxies import InterruptibleProxies
from tests.support.pipeline import ROOT, metadata, small_pdf, wait_for

NEEDS = {
    "relay": {"postgresql", "schema_registry"},
    "worker integrity": {"postgresql", "schema_registry", "object_store", "keyring"},
    "worker renditions": {"postgresql", "schema_registry", "object_store", "keyring", "mongodb"},
    "worker archiving": {"postgresql", "schema_registry", "object_store", "keyring", "ged"},
    "worker notification": {"postgresql", "schema_registry", "smtp"},
    "worker audit": {"postgresql", "schema_registry", "mongodb"},
    "watchdog": set[str](),
}
API_NEEDS = {"postgresql", "schema_registry", "object_store", "keyring"}
DRAIN_SECONDS = 4.0
#: For what takes moments on a machine that has nothing else to do.
PATIENCE = 240.0


class Started:
    """One process of the pipeline."""

    def __init__(self, words: str, settings: Mapping[str, str], port: int, folder: Path) -> None:
        self.words = words
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / f"{words.replace(' ', '-')}-{uuid4().hex[:6]}.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_")}
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runtime.cli.main", *words.split()],
                cwd=ROOT,
                env={**kept, **settings, "DPJ_SETTINGS": os.devnull},
                stdout=output,
                stderr=output,
            )

    def get(self, path: str = "/readyz") -> tuple[int, Any]:
        """Status and answer; (0, None) if it does not listen yet."""
        assert self.process.poll() is None, (self.words, self._log.read_text("utf-8")[-2000:])
        try:
            answer = httpx.get(self.url + path, timeout=10, trust_env=False)
        except httpx.TransportError:
            return 0, None
        return answer.status_code, answer.json() if path == "/readyz" else answer.text

    def away(self) -> set[str]:
        """What it says is not there; all it needs before it says anything."""
        _, said = self.get()
        states = (said or {}).get("dependencies") or (said or {}).get("checks") or {"nothing": "known"}
        return {name for name, state in states.items() if state != "ok"}

    def reaches(self, status: int) -> None:
        """Wait until /readyz answers so."""
        wait_for(lambda: self.get()[0] == status, f"{self.words} answers {status}", PATIENCE)

    def says(self, name: str, value: str) -> None:
        """Wait until /readyz says so; AssertionError with what it says, and what it logged, if that takes too long."""
        ends = time.monotonic() + PATIENCE
        while ((answer := self.get())[1] or {}).get(name) != value:
            assert time.monotonic() < ends, (self.words, answer, self._log.read_text("utf-8")[-2000:])
            time.sleep(0.15)

    def lacks(self, names: set[str]) -> None:
        """Wait until it says that ``names`` are not there."""
        wait_for(lambda: self.away() >= names, f"{self.words} lacks {names}", PATIENCE)

    def finds(self, name: str, seconds: float) -> None:
        """Wait until it says that ``name`` is there."""
        wait_for(lambda: name not in self.away(), f"{self.words} finds {name}", seconds)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text("utf-8").splitlines() if line.startswith("{")]

    def end(self, seconds: float) -> float:
        """SIGTERM; how long it took to leave in good order."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        assert status == 0, (self.words, status, self._log.read_text("utf-8")[-2000:])
        return time.monotonic() - begun


class Processes:
    """Starts processes with the stack's settings, led over ``lines``, and kills what is left at the end."""

    def __init__(self, settings: Mapping[str, str], lines: InterruptibleProxies, folder: Path) -> None:
        self._base = free_ports(len(NEEDS) + 1)
        self._settings = {
            **{key: value for key, value in settings.items() if key.startswith("DPJ_")},
            **lines.changed,
            "DPJ_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "DPJ_WORKER_PORT_BASE": str(self._base),
            "DPJ_API_PORT": str(self._base + len(NEEDS)),
        }
        self._folder = folder
        self._all: list[Started] = []

    def start(self, words: str) -> Started:
        port = int(self._settings["DPJ_API_PORT"]) if words == "api" else self._base + list(NEEDS).index(words)
        self._all.append(Started(words, self._settings, port, self._folder))
        return self._all[-1]

    def kill(self) -> None:
        for one in self._all:
            one.process.kill()
            one.process.wait(10)


@pytest.fixture
def lines(stack: Mapping[str, str]) -> Iterator[InterruptibleProxies]:
    from runtime.config.settings import load_settings
    from runtime.processes.local_stack import prepare

    prepare(load_settings(stack["DPJ_STACK_NAME"]), lambda _: None)
    with InterruptibleProxies(stack) as lines:
        yield lines


@pytest.fixture
def processes(stack: Mapping[str, str], lines: InterruptibleProxies, tmp_path: Path) -> Iterator[Processes]:
    started = Processes(stack, lines, tmp_path)
    try:
        yield started
    finally:
        started.kill()


def test_processes_start_with_everything_away_say_so_once_and_get_ready_by_themselves(
    processes: Processes, lines: InterruptibleProxies
) -> None:
    api = processes.start("api")
    others = {words: processes.start(words) for words in NEEDS}
    api.lacks(API_NEEDS)
    for words, needs in NEEDS.items():
        others[words].lacks(needs)
        others[words].reaches(503)
    for words in ("worker audit", "watchdog"):
        assert "kafka" in others[words].get()[1]["waiting_for"]
    assert all(one.get("/livez")[0] == 200 for one in (api, *others.values()))
    time.sleep(3)  # tries go on, log lines must not
    for name in sorted(set().union(API_NEEDS, *NEEDS.values())):
        lines.up(name)
        for one in (api, *others.values()):
            one.finds(name, PATIENCE)
    assert others["worker integrity"].get()[0] == 503
    lines.up("kafka")
    for one in (api, *others.values()):
        one.reaches(200)
    for words, needs in NEEDS.items():
        told = [event["dependency"] for event in others[words].events() if event["event"] == "dependency_away"]
        assert len(told) == len(set(told)), words
        assert needs <= set(told), words
    for one in (api, *others.values()):
        assert one.end(PATIENCE) < DRAIN_SECONDS + 6, one.words


def test_sigterm_ends_a_process_that_waits_for_everything_at_once(processes: Processes) -> None:
    waiting = [processes.start(words) for words in ("api", "relay", "worker archiving", "worker audit", "watchdog")]
    for one in waiting:
        one.reaches(503)
    assert max(one.end(PATIENCE) for one in waiting) < 6


def test_an_outage_opens_the_circuit_answers_at_once_and_ends_within_seconds(
    processes: Processes, lines: InterruptibleProxies, stack: Mapping[str, str]
) -> None:
    lines.up("postgresql", "schema_registry", "object_store", "keyring", "kafka")
    api, worker = processes.start("api"), processes.start("worker integrity")
    api.reaches(200)
    worker.reaches(200)
    uploads = Uploads(api.url, stack)
    taken = uploads.post()
    assert taken.status_code == 201, taken.text
    for dependency in ("object_store", "keyring"):
        _outage(api, worker, lines, uploads, dependency)
    uploads.close()


def _outage(api: Started, worker: Started, lines: InterruptibleProxies, uploads: Uploads, dependency: str) -> None:
    lines.down(dependency)
    wait_for(lambda: _circuit(api, dependency, uploads) == "open", "the API's circuit is open", PATIENCE)
    wait_for(lambda: worker.get()[1]["circuits"][dependency] == "open", "the worker's circuit is open", PATIENCE)
    assert worker.get()[1]["waiting_for"].keys() >= {dependency}
    begun = time.monotonic()
    refused = uploads.post()
    assert (refused.status_code, refused.json()["code"]) == (503, f"{dependency}_unavailable")
    assert refused.headers["Retry-After"]
    assert time.monotonic() - begun < 3
    assert f'dpj_circuit_opened_total{{dependency="{dependency}"}} 1.0' in worker.get("/metrics")[1]
    assert (worker.get("/livez")[0], api.get("/livez")[0]) == (200, 200)
    lines.up(dependency)
    wait_for(lambda: uploads.post().status_code == 201, "uploads go on", 15)
    wait_for(lambda: worker.get()[0] == 200, "the worker goes on", 15)
    assert f'dpj_circuit_state{{dependency="{dependency}"}} 0.0' in worker.get("/metrics")[1]


def test_uploads_under_way_end_or_are_cut_with_nothing_left(
    processes: Processes, lines: InterruptibleProxies, stack: Mapping[str, str]
) -> None:
    lines.up("postgresql", "schema_registry", "object_store", "keyring")
    api = processes.start("api")
    api.reaches(200)
    uploads = Uploads(api.url, stack)
    quick, stuck = uploads.begin(), uploads.begin()
    wait_for(lambda: len(_pending(stack, uploads.dossier)) == 2, "two uploads are under way", PATIENCE)
    finishing = threading.Timer(0.7, quick.finish)
    finishing.start()
    assert api.end(PATIENCE) < DRAIN_SECONDS + 6
    finishing.join()
    assert quick.status() == 201
    left = _documents(stack, uploads.dossier)
    # Workers of the same database, if another test left some at work, may have looked at the first one already.
    assert sorted(status for status, _ in left) in (["ABANDONED", "STORED"], ["ABANDONED", "VERIFIED"])
    abandoned = next(key for status, key in left if status == "ABANDONED")
    store = Minio(
        stack["DPJ_MINIO_ENDPOINT"], stack["DPJ_MINIO_ACCESS_KEY"], stack["DPJ_MINIO_SECRET_KEY"], secure=False
    )
    assert list(store.list_objects(stack["DPJ_MINIO_BUCKET"], prefix=abandoned)) == []
    stuck.close()
    uploads.close()


def _circuit(api: Started, dependency: str, uploads: Uploads) -> str:
    uploads.post()
    return str(api.get()[1]["circuits"][dependency])


def _documents(stack: Mapping[str, str], dossier: UUID) -> list[tuple[str, str]]:
    """State and object key of a dossier's documents."""

    async def run() -> list[tuple[str, str]]:
        connection = await asyncpg.connect(stack["DPJ_POSTGRES_DSN"], timeout=10)
        try:
            rows = await connection.fetch("SELECT * FROM documents WHERE dossier_id = $1", dossier)
            return [(row["statut"], row["chemin_stockage"]) for row in rows]
        finally:
            await connection.close()

    return asyncio.run(run())


def _pending(stack: Mapping[str, str], dossier: UUID) -> list[str]:
    return [key for status, key in _documents(stack, dossier) if status == "PENDING"]


class Uploads:
    """Uploads to one dossier: whole, or begun and left to be finished."""

    def __init__(self, url: str, stack: Mapping[str, str]) -> None:
        from runtime.cli.administration import issue
        from runtime.config.settings import load_settings
        from runtime.wiring.provisioning import create_tenant_key

        settings = load_settings(stack["DPJ_STACK_NAME"])
        asyncio.run(create_tenant_key(settings, TENANT, "tests"))
        token = issue(settings, ["portal"], tenant=TENANT, subject="test")
        self._client = httpx.Client(
            base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )
        new = {"number": f"S-{uuid4().hex[:12]}", "client_id": "client-1", "journey_type": "PRET_IMMOBILIER"}
        answer = self._client.post("/dossiers", json=new)
        assert answer.status_code == 201, answer.text
        self.dossier = UUID(answer.json()["id"])
        self._token = token
        self._url = url

    def post(self) -> httpx.Response:
        return self._client.post("/documents", content=CONTENT, headers=self._headers())

    def close(self) -> None:
        self._client.close()

    def begin(self) -> Unfinished:
        return Unfinished(self._url, {**self._headers(), "Authorization": f"Bearer {self._token}"})

    def _headers(self) -> dict[str, str]:
        said = base64.urlsafe_b64encode(json.dumps(metadata(str(self.dossier))).encode()).decode().rstrip("=")
        return {"X-DPJ-Metadata": said, "Content-Type": "application/pdf"}


TENANT = "banque-start"
CONTENT = small_pdf("startup" + "%" * 300_000)


class Unfinished:
    """An upload of which the first half is sent."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        self._connection.putrequest("POST", "/api/v1/documents")
        for name, value in {**headers, "Content-Length": str(len(CONTENT))}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        self._half = len(CONTENT) // 2
        self._connection.send(CONTENT[: self._half])
        self._status = 0

    def finish(self) -> None:
        self._connection.send(CONTENT[self._half :])
        self._status = self._connection.getresponse().status
        self.close()

    def status(self) -> int:
        return self._status

    def close(self) -> None:
        self._connection.close()
