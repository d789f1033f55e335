"""Which processes of a local stack are handed a login to Vault: those that open keys or sign, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.native import site
from deploy.native.parts import vault
from runtime.processes.health_ports import pipeline_processes_of
from runtime.processes.local import PipelineProcesses
from tests.support.settings import settings_of

OPENS = {"api", "worker-integrity", "worker-renditions", "worker-archiving"}
SIGNS = {"api", "worker-audit", "relay"}


@pytest.mark.parametrize(
    ("keyring", "signer", "logged_in"),
    [
        ("vault", "vault", OPENS | SIGNS),
        ("vault", "local", OPENS),
        ("local", "vault", SIGNS),
        ("local", "local", set()),
    ],
)
def test_who_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyring: str, signer: str, logged_in: set[str]
) -> None:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    site.load_or_create("logins", "full")
    monkeypatch.setattr(vault, "hand_out", lambda _, name: tmp_path / name)
    settings = settings_of(stack_name="logins", keyring=keyring, signer=signer)
    services = PipelineProcesses(settings)
    for service in pipeline_processes_of(settings):
        environment = services._command(service).environment
        handed = environment.get("DPJ_VAULT_WRAPPED_SECRET_ID_FILE")
        assert handed == (str(tmp_path / service.name) if service.name in logged_in else None)
        # The settings file has one for single commands: no process starts with that.
        assert ("DPJ_VAULT_SECRET_ID" in environment) == bool(logged_in)
