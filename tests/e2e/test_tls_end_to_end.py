"""A document from upload to archive over a stack with TLS: no server there takes a word in clear, so each connection was TLS."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from dotenv import dotenv_values

from tests.support.pipeline import ROOT, Pipeline, metadata, sample, wait_for
from tests.support.programs import needs_full_tls_stack

NAME = f"tls-way-{os.getpid()}"
CONTRACT = "contrat-pret.pdf"


def dpj(*words: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_") or key == "DPJ_HOME"}
    command = [sys.executable, "-m", "runtime.cli.main", *words]
    return subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def secured() -> Iterator[Pipeline]:
    """A pipeline whose processes know of TLS what the stack's settings file says, and nothing else."""
    needs_full_tls_stack()
    pipeline: Pipeline | None = None
    try:
        up = dpj("up", "--profile", "full", "--tls", "--stack", NAME, "--json")
        assert up.returncode == 0, up.stderr
        home = Path(os.environ.get("DPJ_HOME", ROOT / ".dpj"))
        values = {name: value or "" for name, value in dotenv_values(home / NAME / "settings.env").items()}
        pipeline = Pipeline(values)
        assert json.loads(up.stdout)["api"] == pipeline.url
        yield pipeline
    finally:
        if pipeline is not None:
            pipeline.close()
        dpj("down", "--stack", NAME)
        dpj("stack", "down", "--stack", NAME, "--wipe")


@pytest.mark.timeout(600)
def test_a_document_comes_to_its_archive(secured: Pipeline) -> None:
    content = sample(CONTRACT)
    taken = secured.upload(content, metadata(secured.dossier(), file_name=CONTRACT))
    secured.reaches(taken["id"], "VERIFIED", 60)
    assert secured.decide(taken["id"], "validate", comment="conforme").status_code == 200
    document = secured.reaches(taken["id"], "ARCHIVED", 60)
    assert [digest for _, digest in secured.ged_copies(document)] == [hashlib.sha256(content).hexdigest()]
    wait_for(lambda: ("archived", "fr") in secured.mail_kinds(taken["id"]), "the last mail", 30)
    wait_for(lambda: "THUMBNAILS_READY" in secured.timeline(taken["id"]), "thumbnails", 30)
    secured.settle()
    # The audit's way too: Kafka, PostgreSQL, MongoDB, a signature of Vault's, the locked bucket.
    wait_for(lambda: secured.get(taken["id"], "/receipt").status_code == 200, "a receipt", 60)
    assert dpj("audit", "verify", "--stack", NAME).returncode == 0
    assert json.loads(dpj("dlq", "list", "--stack", NAME, "--json").stdout)["letters"] == []
    assert dpj("doc", "show", taken["id"], "--stack", NAME).returncode == 0


def test_every_process_is_ready(secured: Pipeline) -> None:
    assert {part["state"] for part in json.loads(dpj("status", "--stack", NAME, "--json").stdout)["parts"]} == {"ready"}


def test_the_api_speaks_tls_1_3_and_says_so(secured: Pipeline) -> None:
    answer = secured.client("portal").get("/documents")
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    port = int(secured.settings["DPJ_API_PORT"])
    current = ssl.create_default_context(cafile=secured.settings["DPJ_TLS_CA_FILE"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as line,
        current.wrap_socket(line, server_hostname="127.0.0.1") as spoken,
    ):
        assert spoken.version() == "TLSv1.3"
        spoken.sendall(b"no request\r\n\r\n")
        assert b"\r\nStrict-Transport-Security: max-age=" in spoken.recv(4096)
    older = ssl.create_default_context(cafile=secured.settings["DPJ_TLS_CA_FILE"])
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line, pytest.raises(OSError):  # noqa: PT011
        older.wrap_socket(line, server_hostname="127.0.0.1")
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/livez", timeout=10, trust_env=False)
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{secured.url}/livez", timeout=10, trust_env=False)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_curl_line_of_the_readme_works(secured: Pipeline) -> None:
    ca = secured.settings["DPJ_TLS_CA_FILE"]
    done = subprocess.run(
        ["curl", "-s", "--cacert", ca, f"{secured.url}/livez"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    refused = subprocess.run(["curl", "-s", f"{secured.url}/livez"], capture_output=True, timeout=30, check=False)
    assert refused.returncode == 60  # curl(1): the certificate can't be verified


def test_a_command_with_another_authority_says_that_it_is_the_certificate(
    secured: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy.native import certificates
    from deploy.native.site import StackSite

    (tmp_path / "keys").mkdir()
    stranger = StackSite("stranger", tmp_path, "full", {"id": "x", "tls": True})
    certificates.ensure(stranger, [])
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_") or key == "DPJ_HOME"}
    kept["DPJ_TLS_CA_FILE"] = str(certificates.authority_file(stranger))
    done = subprocess.run(
        [sys.executable, "-m", "runtime.cli.main", "doc", "list", "--stack", NAME],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "certificate is refused" in done.stderr
    assert "DPJ_TLS_CA_FILE" in done.stderr


@pytest.mark.timeout(600)
def test_a_new_authority_is_believed_by_all_after_the_next_up(secured: Pipeline) -> None:
    """Last: every server and every process is started again."""
    before = secured.pids()
    ca = Path(secured.settings["DPJ_TLS_CA_FILE"])
    old = ca.read_bytes()
    (secured.home / "keys" / "tls-ca.key").unlink()
    up = dpj("up", "--stack", NAME)
    assert up.returncode == 0, up.stderr
    assert ca.read_bytes() != old
    after = secured.pids()
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] == after[name]} == {"clamd"}  # which has no certificate
    renewed = Pipeline(secured.settings)
    try:
        content = sample(CONTRACT)
        taken = renewed.upload(content, metadata(renewed.dossier(), file_name=CONTRACT))
        renewed.reaches(taken["id"], "VERIFIED", 60)
    finally:
        renewed.close()
