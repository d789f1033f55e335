"""What the API says of itself in its OpenAPI document holds, whatever is sent: fuzzed over real servers and a real process."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.api_processes import ApiProcesses, a_pdf
from tests.support.free_ports import free_ports
from tests.support.fuzzing import fuzz

#: A longer search, or another one: DPJ_FUZZ_SECONDS=300 DPJ_FUZZ_SEED=7.
SECONDS = int(os.environ.get("DPJ_FUZZ_SECONDS", "60"))
SEED = int(os.environ.get("DPJ_FUZZ_SEED", "20260301"))
MONTH = str(30 * 86_400)


@pytest.mark.timeout(600)
async def test_whatever_is_sent_the_answer_is_as_described(
    stack: Mapping[str, str], database_dsn: str, tmp_path: Path
) -> None:
    embedded = {"object_store": "filesystem", "objects_dir": str(tmp_path / "objects"), "keyring": "local"}
    (tmp_path / "objects").mkdir()
    quick = {"rate_failures": "0", "rate_tokens": "0", "link_longest_seconds": MONTH, "body_timeout": "5"}
    place = free_ports(1)
    async with ApiProcesses(stack, database_dsn, **embedded, **quick, api_metrics_port=str(place)).up() as processes:
        dossier = await processes.dossier()
        posted = [await processes.post(a_pdf(uuid4().bytes), dossier) for _ in range(3)]
        documents = [str(answer.json()["id"]) for answer in posted]
        url = str(processes.clients[0].base_url).removesuffix("/api/v1/")
        token = processes.token("portal", "validator", "operator", "auditor")
        status, output = await asyncio.to_thread(
            fuzz, url, token, tmp_path, documents=documents, dossiers=[dossier], seconds=SECONDS, seed=SEED
        )
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            metrics = (await client.get(f"http://127.0.0.1:{place}/metrics")).text
        log = processes.log()
    assert status == 0, output[-12_000:]
    assert "request_failed" not in log, log
    answered = re.findall(r'^dpj_http_requests_total\{.*status="(\d)\d\d"\} ([0-9.e+]+)', metrics, re.MULTILINE)
    assert sum(float(count) for first, count in answered if first == "5") == 0
    assert sum(float(count) for _, count in answered) > 100
