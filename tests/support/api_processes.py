"""Real API processes over a database and a bucket of their own, on the servers of the session's stack."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from domain.documents import Role
from identity.tokens import issue_token
from processors.reconcile.run import ReconcileReport, RepairMode
from runtime.config.settings import Settings
from runtime.wiring.keyrings import create_tenant_keys
from runtime.wiring.site import Site
from tests.support.free_ports import free_port

ROOT = Path(__file__).resolve().parents[2]
TENANT = "races"


def a_pdf(payload: bytes = b"") -> bytes:
    """What begins and ends as a PDF does; ``payload`` is somewhere in it."""
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\nnull\nendobj\n" + payload + b"\ntrailer\n<<>>\n%%EOF\n"


PDF = a_pdf()


def settings_with(stack: Mapping[str, str], **changes: str) -> Settings:
    """The stack's settings with others in some places."""
    return Settings(**{**_fields(stack), **changes}, _env_file=None)  # pyright: ignore[reportCallIssue]


def _fields(stack: Mapping[str, str]) -> dict[str, Any]:
    known = {key.removeprefix("DPJ_").lower(): value for key, value in stack.items()}
    return {name: value for name, value in known.items() if name in Settings.model_fields}


class ApiProcesses:
    """``count`` API processes. ``changes`` are settings by field name."""

    def __init__(self, stack: Mapping[str, str], dsn: str, count: int = 1, **changes: str) -> None:
        self.changes = {
            "postgres_dsn": dsn,
            "minio_bucket": f"races-{uuid4().hex[:12]}",
            "object_store": "minio",
            # No worker scans here, and what is not scanned is not served.
            "antivirus": "off",
            # A log and checkpoints of its own: those of others would be ahead of its database.
            "audit_store": "postgresql",
            "checkpoint_store": "folder",
            "checkpoints_dir": tempfile.gettempdir() + f"/dpj-no-checkpoints-{uuid4().hex[:12]}",
            "rate_client": "0",
            "rate_documents": "0",
            "api_connections_per_address": "0",
            **changes,
        }
        self._stack = stack
        self.settings = settings_with(stack, **self.changes)
        self.site = Site(self.settings)
        self._count = count
        self.processes: list[subprocess.Popen[bytes]] = []
        self.clients: list[httpx.AsyncClient] = []
        #: Words before the command, and the folder it is run in.
        self.prefix: tuple[str, ...] = ()
        self.cwd = ROOT
        self._folder = tempfile.TemporaryDirectory(prefix="dpj-api-")

    @asynccontextmanager
    async def up(self) -> AsyncIterator[ApiProcesses]:
        await self.site.object_store.prepare()
        await self.site.codec.check()
        await create_tenant_keys(self.settings).create(TENANT)
        await self.make_known(TENANT)
        try:
            await asyncio.gather(*(self._start(number) for number in range(self._count)))
            yield self
        finally:
            for client in self.clients:
                await client.aclose()
            for process in self.processes:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
            async for stored in self.site.object_store.list(""):
                await self.site.object_store.delete(stored.key)
            await self.site.aclose()
            self._folder.cleanup()

    async def _start(self, number: int) -> None:
        port = free_port()
        named = {f"DPJ_{name.upper()}": value for name, value in {**self.changes, "api_port": str(port)}.items()}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_")}
        environment = {**clean, **self._stack, **named, "DPJ_SETTINGS": "/nonexistent"}
        with (Path(self._folder.name) / f"api-{number}.log").open("wb") as log:
            command = [*self.prefix, sys.executable, "-m", "runtime.cli.main", "api"]
            process = await asyncio.to_thread(
                subprocess.Popen, command, cwd=self.cwd, env=environment, stdout=log, stderr=log
            )
            self.processes.append(process)
        token = self.token("portal", "validator")
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )
        self.clients.append(client)
        async with asyncio.timeout(120):
            while not await self._is_ready(port):
                assert process.poll() is None, self.log(number)
                await asyncio.sleep(0.1)

    async def _is_ready(self, port: int) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def log(self, number: int = 0) -> str:
        return (Path(self._folder.name) / f"api-{number}.log").read_text()[-3000:]

    def token(self, *roles: str) -> str:
        key = self.settings.jwt_private_key_file
        assert key is not None
        issuer, audience = self.settings.jwt_issuer, self.settings.jwt_audience
        return issue_token(key, issuer, audience, "tester", TENANT, [Role(role) for role in roles], 3600)

    # --- what tests do -------------------------------------------------------------------------------------------

    async def dossier(self) -> str:
        new = {"number": uuid4().hex, "client_id": "c", "journey_type": "LOAN"}
        answer = await self.clients[0].post("/dossiers", json=new)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def post(
        self, content: bytes | AsyncIterator[bytes], dossier: str, *, at: int = 0, key: str | None = None, **more: Any
    ) -> httpx.Response:
        """A raw upload to process ``at``."""
        said = {
            "type": "DIVERS",
            "dossier_id": dossier,
            "depositor": {"email": "marie@example.org", "language": "fr"},
            "file_name": "scan.pdf",
            **more,
        }
        headers = {
            "X-DPJ-Metadata": base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("="),
            "Content-Type": "application/pdf",
            **({"Idempotency-Key": key} if key else {}),
        }
        return await self.clients[at % self._count].post("/documents", content=content, headers=headers)

    async def make_known(self, tenant: str) -> None:
        """What ``dpj keys create`` does beside making the key."""
        async with self.site.database.transaction() as work:
            await work.tenants.add(tenant, "tests")

    async def sql(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.site.postgres.connection() as connection:
            return list(await connection.fetch(query, *arguments))

    async def reconcile(self, repairs: RepairMode = RepairMode.ALL, *, grace: float) -> ReconcileReport:
        return await self.site.reconcile(grace=grace, ged_hours=0).run(repairs)

    async def keys(self) -> list[str]:
        return [stored.key async for stored in self.site.object_store.list("")]
