"""What acts on keys do in which order, over a key file; tests/contract has the same on servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from crypto.local_keyring import LocalKeyring
from crypto.local_tenant_keys import LocalTenantKeys
from domain.errors import KeyringUnavailable, TenantKeyMissing
from domain.events import AuditRecorded
from domain.key_encryption_keys import Canary, StoredWrappedKey, canary_context
from domain.keys import EncryptionContext, WrappedKey
from domain.refusals import KeyVersionInUse, TenantInvalid
from processors.operators.keys import MAX_PASSES, PASS_PAUSE, KeyAdministration, Rewrapping, Throttle
from runtime.cli.keys import document_of
from tests.support.builders import FixedClock
from tests.support.fakes_keys import MemoryWrappedKeys
from tests.support.memory import MemoryDatabase


class World:
    def __init__(self, path: Path) -> None:
        self.keyring = LocalKeyring.create(path)
        self.keys = LocalTenantKeys(path)
        self.rows = MemoryWrappedKeys()
        self.database = MemoryDatabase()
        self.administration = KeyAdministration(
            self.keys, self.rows, self.rows, self.database, FixedClock(), "operator-1"
        )
        self.waits = 0
        self.now = 0.0

    def pace(self, rate: float = 1e9) -> Throttle:
        return Throttle(rate, lambda: self.now, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        if seconds >= PASS_PAUSE:  # between two walks, not between two pages
            self.waits += 1
            self.rows.held.clear()

    async def deposit(self, count: int = 1, tenant: str = "acme") -> None:
        for _ in range(count):
            context = EncryptionContext(tenant, uuid4())
            _, wrapped = await self.keyring.new_data_key(context)
            self.rows.rows[context.document_id] = StoredWrappedKey(context.document_id, tenant, wrapped)

    def said(self) -> list[str]:
        return [event.action for event in self.database.rows.outbox if isinstance(event, AuditRecorded)]

    async def rewrap(self) -> Rewrapping:
        return await self.administration.rewrap("acme", self.pace(), lambda _: None)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path / "keyring.json")
    await made.administration.create("acme")
    await made.deposit(5)
    _, canary = await made.keyring.new_data_key(canary_context("acme"))
    made.rows.kept.append(Canary("acme", canary))
    return made


async def test_an_act_says_what_it_will_do_before_and_how_it_ended(world: World) -> None:
    await world.administration.rotate("acme")
    await world.rewrap()
    await world.administration.retire("acme", None, apply=True)
    acts = ("creating", "created", "rotating", "rotated", "rewrapping", "rewrapped", "retiring", "retired")
    assert world.said() == [f"key.{act}" for act in acts]
    assert {event.tenant for event in world.database.rows.outbox} == {"acme"}


async def test_an_act_that_fails_leaves_the_line_that_it_began(world: World) -> None:
    for name in ("", "a b"):
        with pytest.raises(TenantInvalid):
            await world.administration.create(name)
    with pytest.raises(TenantKeyMissing):
        await world.administration.rotate("nobody")
    assert world.said() == ["key.creating", "key.created"]
    await world.administration.rotate("acme")
    with pytest.raises(KeyVersionInUse):
        await world.administration.retire("acme", None, apply=True)
    assert world.said()[-1] == "key.retiring"
    (state,) = await world.keys.states("acme")
    assert (state.min_decryption, world.rows.floors) == (1, {})


async def test_the_database_s_floor_stands_before_the_keyring_s(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.administration.rotate("acme")
    await world.rewrap()

    async def away(*_: object) -> None:
        raise KeyringUnavailable

    monkeypatch.setattr(world.keys, "raise_floor", away)
    with pytest.raises(KeyringUnavailable):
        await world.administration.retire("acme", None, apply=True)
    assert list(world.rows.floors.values()) == [2]
    monkeypatch.undo()
    assert (await world.administration.retire("acme", None, apply=True)).min_decryption == 2


async def test_a_document_erased_under_it_gets_no_key_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.administration.rotate("acme")
    replaced = world.rows.replace

    async def erased_before(pairs: Sequence[tuple[StoredWrappedKey, WrappedKey]]) -> int:
        world.rows.rows.pop(pairs[0][0].document_id, None)
        return await replaced(pairs)

    monkeypatch.setattr(world.rows, "replace", erased_before)
    run = await world.rewrap()
    assert (run.moved, run.remaining, run.failed) == (4, 0, {})
    assert len(world.rows.rows) == 4
    await world.administration.retire("acme", None, apply=True)


async def test_rows_that_are_held_are_looked_for_again_and_canaries_move_last(world: World) -> None:
    await world.administration.rotate("acme")
    world.rows.held = set(list(world.rows.rows)[:2])
    run = await world.rewrap()
    assert (run.of, run.moved, run.remaining, run.canaries, world.waits) == (5, 5, 0, 1, 1)
    assert [one.wrapped.key_version for one in world.rows.kept] == [2]


async def test_what_is_held_for_ever_is_left_after_some_walks(world: World) -> None:
    await world.administration.rotate("acme")
    stuck = next(iter(world.rows.rows))

    async def sleep(seconds: float) -> None:
        world.waits += seconds >= PASS_PAUSE

    world.rows.held = {stuck}
    run = await world.administration.rewrap("acme", Throttle(1e9, lambda: 0.0, sleep), lambda _: None)
    assert (run.moved, run.remaining, run.canaries) == (4, 1, 0)
    assert world.waits == MAX_PASSES - 1
    assert [one.wrapped.key_version for one in world.rows.kept] == [1]


async def test_a_tenant_s_run_touches_no_other_tenant_and_no_other_keyring(world: World) -> None:
    await world.administration.create("other")
    await world.deposit(2, "other")
    foreign = next(iter(world.rows.rows.values()))
    elsewhere = replace(foreign, document_id=uuid4(), wrapped=replace(foreign.wrapped, scheme="vault-transit"))
    world.rows.rows[elsewhere.document_id] = elsewhere
    await world.administration.rotate("acme")
    await world.administration.rotate("other")
    run = await world.rewrap()
    assert (run.of, run.moved) == (5, 5)
    assert world.rows.rows[elsewhere.document_id] == elsewhere
    counts = {
        (use.tenant, use.version): use.documents for use in await world.rows.uses("local-aes-256-gcm", _names(world))
    }
    assert counts == {("acme", 2): 5, ("other", 1): 2}


def _names(world: World) -> list[str]:
    return sorted({row.wrapped.key_name for row in world.rows.rows.values()})


async def test_a_rate_is_kept(world: World) -> None:
    await world.deposit(20)
    await world.administration.rotate("acme")
    await world.administration.rewrap("acme", world.pace(10), lambda _: None)
    assert world.now == pytest.approx(2.5)


async def test_what_status_tells(world: World) -> None:
    await world.administration.rotate("acme")
    await world.deposit(3)
    lost = next(iter(world.rows.rows.values()))
    gone = replace(lost, document_id=uuid4(), wrapped=replace(lost.wrapped, key_name="gone"))
    world.rows.rows[gone.document_id] = gone
    told = document_of(*await world.administration.status())
    (key,) = told["keys"]
    assert key["uses"] == [{"version": 1, "documents": 5}, {"version": 2, "documents": 3}]
    assert (key["latest_version"], key["oldest_in_use"], key["min_decryption_version"]) == (2, 1, 1)
    assert [one["version"] for one in key["versions"]] == [1, 2]
    assert datetime.fromisoformat(key["versions"][1]["made_at"]) <= datetime.now(UTC)
    assert [(one["key"], one["documents"]) for one in told["unknown"]] == [("gone", 1)]
