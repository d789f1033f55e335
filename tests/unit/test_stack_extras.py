"""Toxiproxy and Redis are part of a stack that was asked to have them, and of no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.native import ports, prerequisites, settings_file, site, stack
from deploy.native.cli import app
from deploy.native.errors import StackError
from deploy.native.parts import ALL, of, redis
from deploy.native.parts.kafka import _properties
from deploy.native.parts.toxiproxy import NAME, UPSTREAMS, listening_port
from deploy.native.site import StackSite
from deploy.native.stack import PORTS
from tests.support.stack_sites import site_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSite:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    return site_of("full")


def test_no_profile_has_it() -> None:
    assert NAME in {part.name for part in ALL}
    assert NAME not in {part.name for part in of("full", ())}
    assert NAME in {part.name for part in of("full", (NAME,))}


def test_every_other_server_has_a_line_of_its_own(here: StackSite) -> None:
    others = {part.port for part in of("full", ())} - {"mongo"}  # the cluster below FerretDB is FerretDB's business
    assert set(UPSTREAMS) == others
    addresses = {listening_port(here, name) for name in UPSTREAMS}
    first = here.ports["toxiproxy_listeners"]
    assert addresses <= set(range(first, first + ports.width("toxiproxy_listeners")))
    assert len(addresses) == len(UPSTREAMS)


def test_kafka_tells_each_client_the_way_it_came(here: StackSite) -> None:
    assert "PROXIED://" not in str(_properties(here)["advertised.listeners"])
    here.identity["extras"] = [NAME]
    told = str(_properties(here)["advertised.listeners"])
    assert f"PLAINTEXT://{here.address('kafka')}" in told
    assert f"PROXIED://127.0.0.1:{listening_port(here, 'kafka')}" in told
    assert f"PROXIED://{here.address('kafka_proxied')}" in str(_properties(here)["listeners"])


def test_it_is_remembered_and_not_added_under_running_servers(here: StackSite) -> None:
    with pytest.raises(StackError, match="bring it down first"):
        stack._add_extras(here, [NAME], ["kafka"])
    stack._add_extras(here, [NAME], [])
    again = site.load("mine")
    assert again is not None
    assert again.extras == {NAME}
    stack._add_extras(again, [NAME], ["kafka"])
    stack._add_extras(again, [], ["kafka"])
    assert again.extras == {NAME}


def test_a_release_may_add_ports_to_a_stack_that_runs(here: StackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "free", lambda port: True)
    before = dict(here.ports)
    del here.identity["ports"]["kafka_proxied"], here.identity["ports"]["toxiproxy_listeners"]
    running = of("full", ())
    stack._assign_ports(here, running, None)
    assert here.ports.keys() == set(PORTS)
    assert {part.port: here.ports[part.port] for part in running} == {part.port: before[part.port] for part in running}


def test_only_what_is_there_can_be_added() -> None:
    refused = CliRunner().invoke(app, ["up", "--with", "kafka"])
    assert refused.exit_code == 2
    assert "toxiproxy" in refused.output


def test_redis_is_told_to_keep_what_it_is_told(here: StackSite) -> None:
    part = redis.Redis()
    part.prepare(here)
    config = (here.folder / "config" / "redis.conf").read_text().splitlines()
    assert {"bind 127.0.0.1", "appendonly yes", "appendfsync always", "maxmemory-policy noeviction"} <= set(config)
    assert f"requirepass {here.secret('redis')}" in config
    assert (here.folder / "config" / "redis.conf").stat().st_mode & 0o077 == 0
    assert here.secret("redis") not in " ".join(part.command(here).arguments)


def test_only_a_stack_with_redis_keeps_revocations_there(here: StackSite) -> None:
    here.profile = "embedded"
    assert "DPJ_REDIS_URL" not in settings_file.values(here)
    here.identity["extras"] = [redis.NAME]
    told = settings_file.values(here)
    assert told["DPJ_REDIS_URL"] == redis.Redis().url(here)
    assert (told["DPJ_REVOCATION_STORE"], told["DPJ_RATE_STORE"]) == ("redis", "redis")
    assert {part.name for part in of("embedded", (redis.NAME,))} - {part.name for part in of("embedded", ())} == {
        "redis"
    }


def test_the_program_is_asked_for_where_it_is_needed(here: StackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.native.prerequisites.shutil.which", lambda *_, **__: None)
    assert prerequisites.REDIS in redis.Redis().lacks(here)
    assert prerequisites.REDIS not in [item for part in of("full", ()) for item in part.lacks(here)]
