"""A revoked token is refused by every API process within 5 seconds, and after a restart; without the store nobody gets in."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import jwt

from tests.support.api_processes import ROOT, ApiProcesses
from tests.support.redis_server import RedisServer

PROMISED_SECONDS = 5.0


def dpj(processes: ApiProcesses, stack: Mapping[str, str], *words: str, said: str = "") -> str:
    named = {f"DPJ_{name.upper()}": value for name, value in processes.changes.items()}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_")}
    environment = {**clean, **stack, **named, "DPJ_SETTINGS": "/nonexistent"}
    command = [sys.executable, "-m", "runtime.cli.main", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=said, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout


async def status(client: httpx.AsyncClient, token: str) -> tuple[int, str]:
    answer = await client.get("/dossiers", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, answer.json().get("code", "")


async def refused_everywhere(processes: ApiProcesses, token: str) -> float:
    """Seconds until every process refuses the token, and goes on refusing it."""
    began = time.monotonic()
    while True:
        found = [await status(client, token) for client in processes.clients]
        if all(one == (401, "unauthenticated") for one in found):
            return time.monotonic() - began
        assert time.monotonic() - began < 30, found
        await asyncio.sleep(0.05)


async def test_a_revoked_token_is_refused_by_every_process(
    stack: Mapping[str, str], database_dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "objects").mkdir()
    embedded = {"object_store": "filesystem", "objects_dir": str(tmp_path / "objects"), "keyring": "local"}
    embedded |= {"rate_client": "0", "rate_failures": "0"}  # they are asked as often as it takes
    async with ApiProcesses(stack, database_dsn, 2, **embedded).up() as processes:
        by_command, by_api, good = (processes.token("portal") for _ in range(3))
        for client in processes.clients:
            for token in (by_command, by_api, good):
                assert (await status(client, token))[0] == 200
        told = await asyncio.to_thread(dpj, processes, stack, "tokens", "revoke", "--token-file", "-", said=by_command)
        assert "Refused from now on: the token" in told
        assert await refused_everywhere(processes, by_command) < PROMISED_SECONDS

        jti = jwt.decode(by_api, options={"verify_signature": False})["jti"]
        operator = {"Authorization": f"Bearer {processes.token('operator')}"}
        done = await processes.clients[0].post("/revocations", json={"token_id": jti}, headers=operator)
        assert done.status_code == 200, done.text
        assert await refused_everywhere(processes, by_api) < PROMISED_SECONDS

        for process in processes.processes:
            process.kill()
            process.wait()
        processes.processes.clear()
        processes.clients.clear()
        await processes._start(0)
        for token in (by_command, by_api):
            assert await status(processes.clients[0], token) == (401, "unauthenticated")
        assert (await status(processes.clients[0], good))[0] == 200
        audited = await processes.sql("SELECT count(*) AS n FROM outbox WHERE topic = 'dpj.audit.recorded'")
        assert audited[0]["n"] > 0


async def test_without_redis_nobody_gets_in_and_with_it_again(
    stack: Mapping[str, str], database_dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "objects").mkdir()
    with RedisServer(tmp_path) as redis:
        changes = {
            "object_store": "filesystem",
            "objects_dir": str(tmp_path / "objects"),
            "keyring": "local",
            "revocation_store": "redis",
            "rate_store": "redis",
            "rate_client": "1000",
            "redis_url": redis.url,
        }
        async with ApiProcesses(stack, database_dsn, **changes).up() as processes:
            client, token, stolen = processes.clients[0], processes.token("portal"), processes.token("portal")
            assert (await status(client, token))[0] == 200
            await asyncio.to_thread(dpj, processes, stack, "tokens", "revoke", "--token-file", "-", said=stolen)
            assert await refused_everywhere(processes, stolen) < PROMISED_SECONDS
            redis.kill()
            await asyncio.sleep(PROMISED_SECONDS)
            assert await status(client, token) == (503, "revocations_unavailable")
            redis.start()
            deadline = time.monotonic() + 10
            while (await status(client, token))[0] != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert await status(client, stolen) == (401, "unauthenticated")
