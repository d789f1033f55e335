"""A tenant that no operator created is refused on every route, and leaves nothing; nobody is called as the site itself."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from crypto.local_keyring import LocalKeyring
from crypto.local_tenant_keys import LocalTenantKeys
from domain.documents import Role
from domain.errors import DatabaseUnavailable
from domain.keys import is_reserved
from domain.refusals import TenantInvalid, TenantUnknown
from ingest_api.route_authorization import ACCESS, RouteRule
from processors.documents.known_tenants import KnownTenants
from processors.operators.keys import KeyAdministration
from runtime.cli.administration import issue
from runtime.errors import CommandFailed
from tests.support.api import assert_problem, bearer
from tests.support.builders import FixedClock
from tests.support.fakes_intake import IntakeBench
from tests.support.fakes_keys import MemoryWrappedKeys
from tests.support.memory import MemoryDatabase
from tests.support.settings import settings_of
from tests.unit.test_route_authorization import ASKED, a_place, asked

GUARDED = [name for name, rule in ACCESS.items() if isinstance(rule, RouteRule)]
EVERY_ROLE = ",".join(role.value for role in Role)


@pytest.mark.parametrize("roles", [EVERY_ROLE, *(role.value for role in Role)])
@pytest.mark.parametrize("name", GUARDED)
async def test_an_unknown_tenant_is_refused_and_leaves_nothing(
    client: httpx.AsyncClient, bench: IntakeBench, name: str, roles: str
) -> None:
    place = await a_place(bench, "acme")
    before = bench.database.rows.copied()
    assert_problem(await asked(client, ASKED[name], place, bearer(roles, tenant="acmee")), 403, "tenant_unknown")
    assert bench.database.rows == before


class Counting:
    def __init__(self) -> None:
        self.created: set[str] = set()
        self.asked: list[str] = []

    async def is_created(self, tenant: str) -> bool:
        self.asked.append(tenant)
        if tenant == "away":
            raise DatabaseUnavailable
        return tenant in self.created


async def test_a_yes_is_kept_and_a_no_is_not() -> None:
    rows = Counting()
    known = KnownTenants(rows)
    for _ in range(2):
        with pytest.raises(TenantUnknown):
            await known.check("acme")
    rows.created.add("acme")
    for _ in range(3):
        await known.check("acme")
    assert rows.asked == ["acme"] * 3
    with pytest.raises(DatabaseUnavailable):
        await known.check("away")


class World:
    def __init__(self, path: Path) -> None:
        LocalKeyring.create(path)
        self.keys, self.database = LocalTenantKeys(path), MemoryDatabase()
        rows = MemoryWrappedKeys()
        self.administration = KeyAdministration(self.keys, rows, rows, self.database, FixedClock(), "operator-1")

    def said(self) -> list[str]:
        return [line.action for line in self.database.audited()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "keyring.json")


async def test_creating_makes_key_and_tenant_known(world: World) -> None:
    assert await world.administration.create("acme")
    assert world.database.rows.tenants == {"acme": "operator-1"}
    assert not await world.administration.create("acme")
    assert world.said() == ["key.creating", "key.created"]


@pytest.mark.parametrize("fault", ["away", "rollback", "lost"])
async def test_cut_off_behind_the_key_a_repetition_makes_it_known(world: World, fault: str) -> None:
    world.database.faults = [None, fault]
    with pytest.raises(DatabaseUnavailable):
        await world.administration.create("acme")
    assert not await world.administration.create("acme")
    assert world.database.rows.tenants == {"acme": "operator-1"}
    assert world.said() == ["key.creating", "key.created"]


async def test_a_key_of_a_release_before_is_made_known(world: World) -> None:
    await world.keys.create("older")
    assert not await world.administration.create("older")
    assert await world.database.is_created("older")
    assert world.said() == ["key.created"]


@pytest.mark.parametrize("name", ["system", "System", "SYSTEM", "sYsTeM"])
async def test_nobody_is_called_as_the_site(world: World, name: str) -> None:
    assert is_reserved(name)
    with pytest.raises(TenantInvalid):
        await world.administration.create(name)
    assert (world.said(), await world.keys.states(), world.database.rows.tenants) == ([], [], {})
    with pytest.raises(CommandFailed, match="No tenant can be called so"):
        issue(settings_of(jwt_private_key_file="/nonexistent"), ["portal"], tenant=name, subject="x")


def test_what_only_begins_so_is_nobody_s() -> None:
    assert not any(map(is_reserved, ("systems", "my-system", "system.", "")))
