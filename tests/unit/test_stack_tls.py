"""A stack with TLS as it is written down: every server's own configuration, and settings by which clients find and trust them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg.connect_utils
import pytest
from dotenv import dotenv_values
from pymongo.uri_parser import parse_uri
from redis.asyncio.connection import SSLConnection, parse_url
from typer.testing import CliRunner

from deploy.native import certificates, settings_file, site, stack
from deploy.native.cli import app
from deploy.native.errors import StackError
from deploy.native.parts import ALL, of, redis
from deploy.native.parts.clamd import Clamd
from deploy.native.parts.ferretdb import FerretDB
from deploy.native.parts.ged import Ged
from deploy.native.parts.kafka import Kafka, _properties
from deploy.native.parts.minio import MinIO
from deploy.native.parts.postgres import Postgres
from deploy.native.parts.redis import Redis
from deploy.native.parts.smtp import Smtp
from deploy.native.parts.vault import Vault
from deploy.native.site import StackSite
from deploy.native.stack import _certify, _choose_tls
from deploy.native.supervisor import Tracked
from runtime.config.cleartext import in_clear
from runtime.config.settings import Settings
from tests.support.stack_sites import site_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSite:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path / "it's a home"))  # with what addresses have to escape
    made = site_of("full", tls=True, extras=[redis.NAME])
    made.identity["secrets"] |= dict.fromkeys(("vault_role_id", "vault_secret_id"), "given")
    made.save()
    certificates.ensure(made, [certificates.API, *(part.name for part in ALL if part.certified)])
    return made


def test_every_setting_is_one_of_the_pipelines(here: StackSite) -> None:
    written = dotenv_values(settings_file.write(here))
    assert written == settings_file.values(here)
    assert set(written) <= {f"DPJ_{name}".upper() for name in Settings.model_fields}
    loaded = Settings(_env_file=settings_file.path(here))  # pyright: ignore[reportCallIssue]
    assert loaded.tls_ca_file == certificates.authority_file(here)
    assert loaded.api_url.startswith("https://127.0.0.1:")
    urls = (loaded.registry_url, loaded.ged_url, loaded.vault_addr)
    assert all(url.startswith("https://") for url in urls)
    assert (loaded.minio_secure, loaded.checkpoint_secure) == (True, True)
    assert (loaded.smtp_tls, loaded.kafka_security_protocol) == ("implicit", "ssl")
    assert loaded.clamd_address.startswith("unix:/")


def test_the_same_settings_with_other_hosts_would_do_in_production(here: StackSite) -> None:
    """Nothing is protected only because it stays on this machine, but for clamd, which is reached over a socket."""
    settings_file.write(here)
    moved = {
        name: value.replace("127.0.0.1", "far.bank.example")
        if name not in {"DPJ_API_HOST", "DPJ_CONSOLE_HOST"}
        else value
        for name, value in settings_file.values(here).items()
    }
    changed = {name.removeprefix("DPJ_").lower(): value for name, value in moved.items()}
    assert in_clear(Settings(**changed, _env_file=None)) == []  # type-checked by pydantic


def test_no_setting_holds_a_key_of_the_authority(here: StackSite) -> None:
    text = settings_file.write(here).read_text()
    assert "PRIVATE KEY" not in text
    assert "tls-ca.key" not in text


def test_the_vendors_clients_understand_their_addresses(here: StackSite) -> None:
    ca = str(certificates.authority_file(here))
    values = settings_file.values(here)
    mongo: Mapping[str, Any] = parse_uri(values["DPJ_MONGO_URL"])["options"]
    assert (mongo["tls"], mongo["tlsCAFile"]) == (True, ca)
    found: Mapping[str, Any] = parse_url(values["DPJ_REDIS_URL"])
    assert (found["connection_class"], found["ssl_ca_certs"]) == (SSLConnection, ca)
    _, parameters = asyncpg.connect_utils._parse_connect_dsn_and_args(
        dsn=values["DPJ_POSTGRES_DSN"],
        **dict.fromkeys(
            (
                *("host", "port", "user", "password", "passfile", "database", "ssl", "service", "servicefile"),
                *("direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
            )
        ),
    )
    assert (parameters.ssl.verify_mode, parameters.ssl.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert parameters.ssl.minimum_version == ssl.TLSVersion.TLSv1_3
    assert len(parameters.ssl.get_ca_certs()) == 1


def test_kafka_has_no_listener_without_tls(here: StackSite) -> None:
    here.identity["extras"] = ["toxiproxy"]
    told = {name: str(value) for name, value in _properties(here).items()}
    assert "PLAINTEXT" not in " ".join(told.values())
    assert set(told["listener.security.protocol.map"].split(",")) == {"SSL:SSL", "CONTROLLER:SSL", "PROXIED:SSL"}
    assert told["ssl.enabled.protocols"] == "TLSv1.3"


@pytest.mark.parametrize("part", [Kafka(), Ged(), MinIO(), Vault(), Smtp(), FerretDB(), Redis(), Postgres(), Clamd()])
def test_without_tls_nothing_of_it_is_said(part: Any, here: StackSite) -> None:
    here.identity["tls"] = False
    text = " ".join([*settings_file.values(here).values(), *(str(value) for value in _properties(here).values())])
    if part.recipe is not None:
        text += " ".join(part.command(here).arguments)
    assert str(here.folder / "tls") not in text
    assert "https://" not in text.replace(settings_file.JWT_ISSUER, "")
    assert not re.search(r"\bSSL\b", text)  # as a word: secrets are random letters


def test_a_running_stack_does_not_change_its_mind(here: StackSite) -> None:
    _choose_tls(here, ["kafka"], tls=None)
    _choose_tls(here, ["kafka"], tls=True)
    with pytest.raises(StackError, match="runs with TLS: bring it down first"):
        _choose_tls(here, ["kafka"], tls=False)
    _choose_tls(here, [], tls=False)
    assert not here.tls
    again = site.load("mine")
    assert again is not None
    assert not again.tls
    with pytest.raises(StackError, match="runs without TLS"):
        _choose_tls(here, ["kafka"], tls=True)


def test_only_servers_that_run_with_a_replaced_certificate_are_started_again(
    here: StackSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = {"kafka": 100.0, "registry": 200.0, "clamd": 100.0}
    monkeypatch.setattr(Tracked, "older_than", lambda process, moment: began[process.part] < moment)
    monkeypatch.setattr(certificates, "changed_at", lambda _, name: 150.0)
    running = {name: Tracked(name, 1, 1, "", 15) for name in began}
    assert _certify(here, of("full", ()), running) == ["kafka"]


def test_a_process_knows_when_it_began() -> None:
    import os
    import time

    from deploy.native import supervisor

    started = supervisor._start_time(os.getpid())
    assert started is not None
    ours = Tracked("us", os.getpid(), started, supervisor._boot(), 15)
    assert ours.older_than(time.time() + 60)
    assert not ours.older_than(0.0)


def test_the_command_line_says_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    asked: list[object] = []

    def up(name: str, profile: str, **options: object) -> stack.Stack:
        asked.append(options["tls"])
        return stack.Stack(name, "full", tmp_path / "settings.env", ())

    monkeypatch.setattr(stack, "up", up)
    for words in ([], ["--tls"], ["--no-tls"]):
        assert CliRunner().invoke(app, ["up", *words]).exit_code == 0
    assert asked == [None, True, False]
