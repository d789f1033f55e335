"""What production forbids, and settings that do not fit together: one clear line at the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from deploy.native.ports import WORKER_PORTS
from domain.documents import Role
from domain.revocations import RevocableClaim
from runtime.cli.main import main
from runtime.cli.tokens import _named
from runtime.errors import CommandFailed
from runtime.processes.health_ports import api_metrics_port, health_port, pipeline_processes_of
from tests.support.settings import BASE, settings_of


def test_production_takes_a_providers_keys() -> None:
    assert settings_of(environment="production").environment == "production"
    assert settings_of(jwt_private_key_file="/x/jwt.pem", jwks="/x/jwks.json").environment == "development"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"jwt_private_key_file": "/x/jwt.pem"}, "DPJ_JWT_PRIVATE_KEY_FILE"),
        ({"jwks": "/x/jwks.json"}, "DPJ_JWKS"),
        ({"jwks": "file:///x/jwks.json"}, "DPJ_JWKS"),
        ({"jwks": "http://login.example/jwks"}, "DPJ_JWKS"),
        ({"jwt_require_id": False}, "DPJ_JWT_REQUIRE_ID"),
        ({"api_metrics_host": "0.0.0.0"}, "DPJ_API_METRICS_HOST"),  # noqa: S104
        ({"api_metrics_host": "::"}, "DPJ_API_METRICS_HOST"),
        ({"api_metrics_host": ""}, "DPJ_API_METRICS_HOST"),
        ({"api_metrics_host": "192.0.2.7", "api_host": "192.0.2.7"}, "DPJ_API_METRICS_HOST"),
        ({"api_metrics_host": "api.example", "api_host": "api.example"}, "DPJ_API_METRICS_HOST"),
    ],
)
def test_production_refuses_a_developments_means(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings_of(environment="production", **changes)


def test_metrics_have_a_place_of_their_own() -> None:
    on_a_cluster = {"api_metrics_host": "192.0.2.7", "api_metrics_port": 9102, "api_host": "127.0.0.1"}
    assert api_metrics_port(settings_of(environment="production", **on_a_cluster)) == 9102
    assert settings_of(api_metrics_host="0.0.0.0").api_metrics_host == "0.0.0.0"  # noqa: S104
    assert api_metrics_port(settings_of()) == 0
    beside = settings_of(worker_port_base=7000)
    ports = [health_port(beside, process.name) for process in pipeline_processes_of(beside) if process.name != "api"]
    assert api_metrics_port(beside) == max(ports) + 1
    assert api_metrics_port(beside) < 7000 + WORKER_PORTS
    crowded = settings_of(worker_port_base=7000, api_port=api_metrics_port(beside))
    assert api_metrics_port(crowded) == api_metrics_port(beside) + 1
    with pytest.raises(ValidationError, match="DPJ_API_METRICS_PORT"):
        settings_of(api_port=8082, api_metrics_port=8082)


@pytest.mark.parametrize("proxies", ["*", "0.0.0.0/0", "::/0", "gateway.example", "10.0.0.1/8"])
def test_no_proxy_is_everybody(proxies: str) -> None:
    with pytest.raises(ValidationError, match="DPJ_TRUSTED_PROXIES"):
        settings_of(trusted_proxies=proxies)
    assert settings_of(trusted_proxies="10.0.0.0/8, 192.0.2.1").trusted_proxies


@pytest.mark.parametrize(
    "changes",
    [
        {"revocation_store": "redis"},
        {"rate_store": "redis"},
        {"mongo_url": ""},
        {"registry_url": ""},
        {"jwt_algorithms": "RS256,HS256"},
        {"jwt_algorithms": ""},
        {"jwt_algorithms": "none"},
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_of(**changes)


def test_what_is_not_called_for_needs_no_address() -> None:
    spared = {"audit_store": "postgresql", "mongo_url": "", "schema_registry": "repository", "registry_url": ""}
    assert settings_of(**spared).audit_store == "postgresql"


def test_role_names_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPJ_JWT_ROLE_NAMES", '{"Administrateur": "operator"}')
    assert settings_of().jwt_role_names == {"Administrateur": Role.OPERATOR}


@pytest.mark.parametrize("command", [["api"], ["token", "--role", "portal"]])
def test_it_is_one_line_at_the_start(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.env"
    lines = {**BASE, "environment": "production", "jwt_private_key_file": "/x/jwt.pem"}
    file.write_text("".join(f"DPJ_{name.upper()}={value}\n" for name, value in lines.items()))
    monkeypatch.setenv("DPJ_SETTINGS", str(file))
    assert main(command) == 1
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == (
        "dpj: The settings do not fit together: DPJ_JWT_PRIVATE_KEY_FILE is set: the local issuer has no place in production."
    )


# --- dpj tokens revoke ------------------------------------------------------------------------------------------------


def a_token(folder: Path, **claims: Any) -> Path:
    path = folder / "token"
    path.write_text(jwt.encode(claims, "k" * 32, algorithm="HS256") + "\n")
    return path


def test_a_stolen_token_is_revoked_with_its_session(tmp_path: Path) -> None:
    path = a_token(tmp_path, jti="j", sid="s", exp=2_000_000_000)
    assert _named(path, None, None) == ({RevocableClaim.TOKEN: "j", RevocableClaim.SESSION: "s"}, None)
    alone = a_token(tmp_path, jti="j", exp=2_000_000_000)
    named, until = _named(alone, None, None)
    assert named == {RevocableClaim.TOKEN: "j"}
    assert until is not None
    assert until.timestamp() == 2_000_000_000
    assert _named(None, "x", "y") == ({RevocableClaim.TOKEN: "x", RevocableClaim.SESSION: "y"}, None)


def test_what_names_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for content in ("garbage", "a.b.c", ""):
        path.write_text(content)
        with pytest.raises(CommandFailed, match="no token"):
            _named(path, None, None)
    with pytest.raises(CommandFailed, match="nothing to revoke"):
        _named(a_token(tmp_path, sub="x"), None, None)
    with pytest.raises(CommandFailed, match="nothing to revoke"):
        _named(None, None, None)


def test_a_failure_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "revoke", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "nothing_named"
