"""``dpj keys`` as an operator types it, on a real stack, killed in the middle of a rewrapping that goes on beside live traffic."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import DatabaseUnavailable
from domain.keys import EncryptionContext
from runtime.wiring.site import Site
from tests.support.api_processes import ROOT, settings_with
from tests.support.builders import a_document, a_dossier

DOCUMENTS = 600


class Operator:
    """Commands on the stack's Vault and a database of the test's own."""

    def __init__(self, stack: Mapping[str, str], dsn: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_")}
        # A log and checkpoints of its own: those of others would be ahead of its database.
        nowhere = f"{tempfile.gettempdir()}/dpj-no-checkpoints-{uuid4().hex[:12]}"
        own = {
            "DPJ_POSTGRES_DSN": dsn,
            "DPJ_AUDIT_STORE": "postgresql",
            "DPJ_CHECKPOINT_STORE": "folder",
            "DPJ_CHECKPOINTS_DIR": nowhere,
        }
        self._environment = {**clean, **stack, **own, "DPJ_SETTINGS": "/nonexistent"}

    def started(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "runtime.cli.main", "keys", *words]
        return subprocess.Popen(
            command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    async def run(self, *words: str, status: int = 0) -> str:
        process = self.started(*words)
        out, err = await asyncio.to_thread(process.communicate, timeout=120)
        assert process.returncode == status, (words, process.returncode, err[-1500:])
        return out if status == 0 else out + err

    async def json(self, *words: str, status: int = 0) -> Any:
        return json.loads((await self.run(*words, "--json", status=status)).splitlines()[0])


@pytest.fixture
async def site(stack: Mapping[str, str], database_dsn: str) -> AsyncIterator[Site]:
    made = Site(settings_with(stack, postgres_dsn=database_dsn))
    await made.codec.check()
    yield made
    await made.aclose()


async def test_from_a_new_tenant_to_a_retired_version(
    stack: Mapping[str, str], database_dsn: str, site: Site, tmp_path: Path
) -> None:
    operator, tenant = Operator(stack, database_dsn), f"cli-{uuid4().hex[:8]}"
    assert "tenant_key_missing" in await operator.run("rotate", "--tenant", tenant, "--json", status=1)
    assert (await operator.json("create", "--tenant", tenant))["keys"] == [{"tenant": tenant, "created": True}]
    assert "has a key already" in await operator.run("create", "--tenant", tenant)
    assert "tenant_needed" in await operator.run("rotate", "--json", status=1)

    dossier = a_dossier(tenant=tenant)
    documents = [a_document(dossier) for _ in range(DOCUMENTS)]
    made = await asyncio.gather(*(site.keyring.new_data_key(EncryptionContext(tenant, one.id)) for one in documents))
    async with site.database.transaction() as work:
        await work.dossiers.add(dossier)
        for document, (_, wrapped) in zip(documents, made, strict=True):
            await work.documents.add(replace(document, wrapped_key=wrapped))
    assert (await operator.json("rotate", "--tenant", tenant))["keys"] == [{"tenant": tenant, "version": 2}]
    assert (await operator.json("retire", "--tenant", tenant, "--apply", status=1))["error"][
        "code"
    ] == "key_version_in_use"

    ended = asyncio.Event()

    async def traffic() -> None:
        """What workers do meanwhile: they lock rows and change other columns of them."""
        number = 0
        while not ended.is_set():
            number += 1
            with suppress(DatabaseUnavailable):
                async with site.database.transaction() as work:
                    row = await work.documents.lock(documents[number * 7 % DOCUMENTS].id)
                    await work.documents.update(row, replace(row, tags=(str(number),)))

    working = asyncio.create_task(traffic())
    process = operator.started("rewrap", "--tenant", tenant, "--rate", "100")
    async with asyncio.timeout(60):
        while await moved(site, tenant) < 100:
            await asyncio.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)
    cut_at = await moved(site, tenant)
    assert 100 <= cut_at < DOCUMENTS
    (run,) = (await operator.json("rewrap", "--tenant", tenant))["keys"]
    ended.set()
    await working
    assert (run["moved"], run["left"], run["failed"]) == (DOCUMENTS - cut_at, 0, [])
    for document, (key, _) in zip(documents, made, strict=True):
        async with site.database.transaction() as work:
            row = await work.documents.get(document.id)
        assert row.wrapped_key is not None
        assert row.wrapped_key.key_version == 2
        assert await site.keyring.unwrap(row.wrapped_key, EncryptionContext(tenant, document.id)) == key
        assert replace(row, wrapped_key=None, tags=()) == replace(document, wrapped_key=None, tags=())

    (state,) = [row for row in (await operator.json("status"))["keys"] if row["tenant"] == tenant]
    assert (state["uses"], state["oldest_in_use"]) == ([{"version": 2, "documents": DOCUMENTS}], 2)
    assert tenant in await operator.run("status")
    assert "dry run" in await operator.run("retire", "--tenant", tenant)
    retired = await operator.json("retire", "--tenant", tenant, "--apply")
    assert retired["min_decryption_version"] == 2
    (state,) = [row for row in (await operator.json("status"))["keys"] if row["tenant"] == tenant]
    assert [one["version"] for one in state["versions"]] == [2]


async def moved(site: Site, tenant: str) -> int:
    """Documents under version 2."""
    async with site.postgres.connection() as connection:
        counted = await connection.fetchval(
            "SELECT count(*) FROM documents WHERE tenant = $1 AND cle_version = 2", tenant
        )
    return int(counted)
