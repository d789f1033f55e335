"""Vault sealed, silent, without our token: an API process answers as defined, and works again without a new start."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from deploy.native import site
from deploy.native.parts.vault import hand_out
from ingest_api.readiness import KEEP_SECONDS
from tests.support.api_processes import PDF, TENANT, ApiProcesses
from tests.support.keyrings import create_vault_key
from tests.support.tcp_proxy import Proxy

#: Until work goes on once Vault is back.
BACK_SECONDS = 20.0


class Vault:
    """The stack's Vault as its administrator."""

    def __init__(self, stack: Mapping[str, str]) -> None:
        here = site.load(stack["DPJ_STACK_NAME"])
        assert here is not None
        self.site = here
        self._keys = json.loads((here.folder / "keys" / "vault.json").read_text("utf-8"))
        self._url = stack["DPJ_VAULT_ADDR"]

    def put(self, path: str, body: Mapping[str, str] | None = None) -> None:
        headers = {"X-Vault-Token": self._keys["root_token"]}
        url = f"{self._url}/v1/{path}"
        httpx.put(url, json=body or {}, headers=headers, timeout=20, trust_env=False).raise_for_status()

    def seal(self) -> None:
        self.put("sys/seal")

    def unseal(self) -> None:
        self.put("sys/unseal", {"key": self._keys["unseal_key"]})


@pytest.fixture
def vault(stack: Mapping[str, str]) -> Vault:
    return Vault(stack)


@pytest.fixture
async def line(stack: Mapping[str, str]) -> AsyncIterator[Proxy]:
    """Between the process and Vault."""
    async with Proxy(stack["DPJ_VAULT_ADDR"].removeprefix("http://")) as proxy:
        yield proxy


@pytest.fixture
async def api(stack: Mapping[str, str], database_dsn: str, vault: Vault, line: Proxy) -> AsyncIterator[ApiProcesses]:
    """One process, whose secret id was handed to it wrapped."""
    create_vault_key(stack, TENANT)
    changes = {
        "vault_addr": f"http://{line.endpoint}",
        "vault_secret_id": "",
        "vault_wrapped_secret_id_file": str(await asyncio.to_thread(hand_out, vault.site, "api-outages")),
        "vault_timeout": "4",
    }
    async with ApiProcesses(stack, database_dsn, **changes).up() as made:
        yield made


async def refused(api: ApiProcesses, dossier: str) -> Mapping[str, Any]:
    """The answer to an upload: a 503 that says when to come again, soon enough."""
    started = time.monotonic()
    answer = await api.post(PDF, dossier)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - started < 12
    problem: Mapping[str, Any] = answer.json()
    return problem


async def works(api: ApiProcesses, dossier: str) -> str:
    """The id of a document that was taken in, soon."""
    ends = time.monotonic() + BACK_SECONDS
    while True:
        answer = await api.post(PDF, dossier)
        if answer.status_code == 201:
            return str(answer.json()["id"])
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < ends, api.log()
        await asyncio.sleep(0.3)


async def content(api: ApiProcesses, document: str) -> httpx.Response:
    return await api.clients[0].get(f"/documents/{document}/content")


async def not_ready(api: ApiProcesses) -> bool:
    """Whether /readyz, asked of the process's own address, says so once what it found before is old."""
    await asyncio.sleep(KEEP_SECONDS)
    answer = await api.clients[0].get(str(api.clients[0].base_url.copy_with(path="/readyz")))
    return answer.status_code == 503


async def test_sealed_and_unsealed(api: ApiProcesses, vault: Vault) -> None:
    dossier = await api.dossier()
    document = await works(api, dossier)
    await asyncio.to_thread(vault.seal)
    try:
        for _ in range(8):  # more than it takes to open the circuit
            assert (await refused(api, dossier))["code"] == "keyring_unavailable"
        assert (await content(api, document)).status_code in {503, 404, 409}
        assert await not_ready(api)
    finally:
        await asyncio.to_thread(vault.unseal)
    await works(api, dossier)
    assert (await api.sql("SELECT count(*) FROM documents WHERE statut = 'PENDING'"))[0][0] == 0
    assert api.processes[0].poll() is None


async def test_the_token_is_revoked(api: ApiProcesses, vault: Vault) -> None:
    dossier = await api.dossier()
    for _ in range(3):
        await asyncio.to_thread(vault.put, "sys/leases/revoke-prefix/auth/approle/login")
        assert (await api.post(PDF, dossier)).status_code == 201


async def test_slower_than_anybody_waits(api: ApiProcesses, line: Proxy) -> None:
    dossier = await api.dossier()
    await works(api, dossier)
    line.silent = True
    problems = await asyncio.gather(*(refused(api, dossier) for _ in range(6)))
    assert {problem["code"] for problem in problems} == {"keyring_unavailable"}
    line.silent = False
    await works(api, dossier)


async def test_a_tenant_whose_key_is_not_there(
    stack: Mapping[str, str], api: ApiProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    dossier = await api.dossier()
    await api.make_known("racse")  # whose key is lost
    monkeypatch.setattr("tests.support.api_processes.TENANT", "racse")
    headers = {"Authorization": f"Bearer {api.token('portal')}"}
    new = {"number": "D-1", "client_id": "c", "journey_type": "LOAN"}
    theirs = (await api.clients[0].post("/dossiers", json=new, headers=headers)).json()["id"]
    own = api.clients[0].headers["Authorization"]
    for _ in range(6):
        api.clients[0].headers["Authorization"] = headers["Authorization"]
        answer = await api.post(PDF, theirs)
        assert (answer.status_code, answer.json()["code"]) == (503, "tenant_key_missing")
        assert answer.headers["Retry-After"] == "60"
        api.clients[0].headers["Authorization"] = own
        assert (await api.post(PDF, dossier)).status_code == 201  # nobody else is held up
    assert '"tenant_key_missing"' in api.log().replace("event='tenant_key_missing'", '"tenant_key_missing"')


async def test_a_process_whose_wrapping_token_was_used_ends_and_says_why(
    stack: Mapping[str, str], database_dsn: str, api: ApiProcesses
) -> None:
    """The first process has used it. One that is started with the same token must not go on as if nothing were."""
    second = ApiProcesses(stack, database_dsn, **{**api.changes, "postgres_dsn": database_dsn})
    with pytest.raises(AssertionError, match="vault_wrapping_token_refused"):
        async with second.up():
            pass
    (process,) = second.processes
    assert isinstance(process, subprocess.Popen)
    assert process.returncode not in {0, None}
