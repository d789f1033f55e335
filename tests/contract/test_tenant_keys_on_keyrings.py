"""Creating, rotating, rewrapping and retiring tenants' keys: both keyrings, on a PostgreSQL database of the test's own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from crypto.encoding import to_text
from crypto.local_keyring import LocalKeyring
from crypto.local_tenant_keys import LocalTenantKeys
from crypto.vault_session import VaultSession
from crypto.vault_tenant_keys import VaultTenantKeys
from crypto.vault_transit import VaultTransitKeyring
from domain.documents import Document, Dossier
from domain.errors import KeyringUnavailable, KeyVersionRetired, TenantKeyMissing
from domain.key_encryption_keys import KeyUse
from domain.keys import DataKey, EncryptionContext, WrappedKey
from domain.lifecycle import Status
from domain.refusals import KeyVersionInUse, TenantInvalid
from processors.operators.keys import KeyAdministration, Rewrapping, Throttle
from processors.resilience.canary_keyring import CanaryCheckedKeyring
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.keys.canaries import PostgresCanaries
from storage.postgres.keys.wrapped_keys import RETIRED_STATE, PostgresWrappedKeys
from tests.support.builders import a_document, a_dossier
from tests.support.keyrings import operator_session

#: In a line's Avro: the text's length, the text.
ACTION = re.compile(rb"[\x10-\x30]key\.([a-z]+(?:ed|ing))")

Keyring = LocalKeyring | VaultTransitKeyring


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


def quick() -> Throttle:
    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    return Throttle(1e9, time.monotonic, sleep)


def nothing(_: Rewrapping) -> None: ...


@dataclass
class World:
    tenant: str
    administration: KeyAdministration
    keyring: CanaryCheckedKeyring
    canaries: PostgresCanaries
    database: PostgresDatabase
    postgres: Postgres
    dossier: Dossier

    async def deposit(self, **changes: Any) -> tuple[Document, DataKey]:
        """A document with a key of its own."""
        document, key = await self.in_flight(**changes)
        return await self.put(document), key

    async def in_flight(self, **changes: Any) -> tuple[Document, DataKey]:
        """A document that has a wrapped key and is not in the database yet."""
        document = a_document(self.dossier, **changes)
        key, wrapped = await self.keyring.new_data_key(EncryptionContext(self.tenant, document.id))
        return replace(document, wrapped_key=wrapped), key

    async def put(self, document: Document) -> Document:
        async with self.database.transaction() as work:
            await work.documents.add(document)
        return document

    async def get(self, document_id: UUID) -> Document:
        async with self.database.transaction() as work:
            return await work.documents.get(document_id)

    async def opened(self, document: Document) -> tuple[int, DataKey]:
        """The version that its key is wrapped under now, and the key."""
        wrapped = (await self.get(document.id)).wrapped_key
        assert wrapped is not None
        return wrapped.key_version, await self.keyring.unwrap(wrapped, EncryptionContext(self.tenant, document.id))

    async def uses(self) -> dict[int, int]:
        """Documents by version."""
        return {
            use.version: use.documents for use in (await self.administration.status())[1] if use.tenant == self.tenant
        }

    async def said(self) -> list[str]:
        """Actions in the outbox's audit lines, in their order."""
        async with self.postgres.connection() as connection:
            rows = await connection.fetch("SELECT body FROM outbox WHERE topic = 'dpj.audit.recorded' ORDER BY id")
        return [found[1].decode() for row in rows if (found := ACTION.search(bytes(row["body"])))]


@pytest.fixture(params=["local", "vault"])
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres, database: PostgresDatabase
) -> AsyncIterator[World]:
    tenant = f"t-{uuid4().hex[:10]}"
    keyring: Keyring
    keys: LocalTenantKeys | VaultTenantKeys
    if request.param == "local":
        key = to_text(os.urandom(32))
        path = tmp_path / "keyring.json"
        path.touch(0o600)
        single = {"format": "dpj-keyring-1", "name": "local-x", "current": 1, "keys": {"1": key}}
        path.write_text(json.dumps(single), "utf-8")
        keyring, keys = LocalKeyring(path), LocalTenantKeys(path)
    else:
        stack = request.getfixturevalue("stack")
        login = stack["DPJ_VAULT_ADDR"], stack["DPJ_VAULT_ROLE_ID"], stack["DPJ_VAULT_SECRET_ID"]
        keyring = VaultTransitKeyring(VaultSession.connect(*login), "dpj-tenant-", "dpj-documents")
        keys = VaultTenantKeys(operator_session(stack), "dpj-tenant-", "dpj-documents")
    canaries = PostgresCanaries(postgres)
    care = KeyAdministration(keys, PostgresWrappedKeys(postgres), canaries, database, Now(), "operator-1")
    dossier = a_dossier(tenant=tenant)
    async with database.transaction() as work:
        await work.dossiers.add(dossier)
    yield World(tenant, care, CanaryCheckedKeyring(keyring, canaries), canaries, database, postgres, dossier)
    await keyring.aclose()
    await keys.aclose()


async def test_a_tenant_has_no_key_until_one_is_created(world: World) -> None:
    with pytest.raises(TenantKeyMissing):
        await world.deposit()
    with pytest.raises(TenantKeyMissing):
        await world.administration.rotate(world.tenant)
    with pytest.raises(TenantKeyMissing):
        await world.administration.rewrap(world.tenant, quick(), nothing)
    for odd in ("", "../x", "a b", "é", "x" * 64):
        with pytest.raises(TenantInvalid):
            await world.administration.create(odd)
    assert await world.administration.create(world.tenant)
    assert not await world.administration.create(world.tenant)
    assert world.tenant in await world.administration.tenants()
    (state,) = [state for state in (await world.administration.status())[0] if state.tenant == world.tenant]
    assert (state.latest, state.min_decryption, list(state.versions)) == (1, 1, [1])
    made = state.versions[1]
    assert made is not None
    assert abs(datetime.now(UTC) - made) < timedelta(minutes=5)
    async with asyncio.timeout(15):
        while True:
            try:
                await world.deposit()
                break
            except TenantKeyMissing:  # who asked for it before it was there does not ask again at once
                await asyncio.sleep(0.2)


async def test_rotated_and_rewrapped(world: World) -> None:
    await world.administration.create(world.tenant)
    before = [await world.deposit() for _ in range(7)]
    assert (await world.administration.rotate(world.tenant)).latest == 2
    assert await world.uses() == {1: 7}
    late, late_key = await world.deposit()
    told: list[int] = []
    run = await world.administration.rewrap(world.tenant, quick(), lambda run: told.append(run.moved))
    assert (run.of, run.moved, run.remaining, run.failed, run.version) == (7, 7, 0, {}, 2)
    assert told[-1] == 7
    assert await world.uses() == {2: 8}
    for document, key in [*before, (late, late_key)]:
        assert await world.opened(document) == (2, key)
        assert replace(await world.get(document.id), wrapped_key=None) == replace(document, wrapped_key=None)
    (state,) = [state for state in (await world.administration.status())[0] if state.tenant == world.tenant]
    kept = await world.canaries.of(state.scheme, state.name)
    assert [canary.wrapped.key_version for canary in kept] == [2]
    await world.keyring.check()
    again = await world.administration.rewrap(world.tenant, quick(), nothing)
    assert (again.of, again.moved) == (0, 0)
    wanted = ["creating", "created", "rotating", "rotated", "rewrapping", "rewrapped", "rewrapping", "rewrapped"]
    assert await world.said() == wanted


async def test_a_run_that_is_cut_off_is_simply_started_again(world: World) -> None:
    await world.administration.create(world.tenant)
    before = [await world.deposit() for _ in range(9)]
    await world.administration.rotate(world.tenant)
    slow = Throttle(2, time.monotonic, quick()._sleep)  # two at a time

    def cut(run: Rewrapping) -> None:
        if run.moved >= 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.administration.rewrap(world.tenant, slow, cut)
    assert await world.uses() == {1: 5, 2: 4}
    for document, key in before:
        assert (await world.opened(document))[1] == key
    assert (await world.administration.rewrap(world.tenant, quick(), nothing)).moved == 5
    assert await world.uses() == {2: 9}


async def test_rows_that_change_or_are_held_meanwhile_are_left_and_looked_for_again(world: World) -> None:
    await world.administration.create(world.tenant)
    held, key = await world.deposit()
    erased, _ = await world.deposit()
    other, other_key = await world.deposit()
    await world.administration.rotate(world.tenant)
    holds, released = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with world.database.transaction() as work:
            row = await work.documents.lock(held.id)
            await work.documents.update(row, replace(row, tags=("held",)))
            holds.set()
            await released.wait()

    async def pause(_: float) -> None:
        released.set()
        await holding

    holding = asyncio.create_task(hold())
    await holds.wait()

    def tell(run: Rewrapping) -> None:
        assert run.moved < 3 or released.is_set()

    run = await world.administration.rewrap(world.tenant, Throttle(1e9, time.monotonic, pause), tell)
    assert (run.moved, run.remaining) == (3, 0)
    assert await world.opened(held) == (2, key)
    assert (await world.get(held.id)).tags == ("held",)
    # Between the read and the write somebody has put another key there: it stays.
    wrapped = PostgresWrappedKeys(world.postgres)
    stale = (await world.get(erased.id)).wrapped_key
    assert stale is not None
    use = KeyUse(stale.scheme, stale.key_name, 2, world.tenant, 0)
    (kept,) = await wrapped.page(use, None, 1)
    row = await world.get(kept.document_id)
    async with world.database.transaction() as work:
        await work.documents.update(row, replace(row, wrapped_key=replace(kept.wrapped, ciphertext="changed")))
    assert await wrapped.replace([(kept, replace(kept.wrapped, ciphertext="mine"))]) == 0
    if kept.document_id != other.id:
        assert await world.opened(other) == (2, other_key)


async def test_a_key_that_does_not_open_is_told_and_left(world: World) -> None:
    await world.administration.create(world.tenant)
    whole, key = await world.deposit()
    damaged, _ = await world.deposit()
    assert damaged.wrapped_key is not None
    text = damaged.wrapped_key.ciphertext
    other = text[:30] + ("A" if text[30] != "A" else "B") + text[31:]
    async with world.database.transaction() as work:
        changed = replace(damaged, wrapped_key=replace(damaged.wrapped_key, ciphertext=other))
        await work.documents.update(damaged, changed)
    await world.administration.rotate(world.tenant)
    run = await world.administration.rewrap(world.tenant, quick(), nothing)
    assert (run.moved, run.remaining, run.failed) == (1, 1, {damaged.id: "wrong_key"})
    assert await world.opened(whole) == (2, key)
    with pytest.raises(KeyVersionInUse):
        await world.administration.retire(world.tenant, None, apply=True)


async def test_retiring_is_refused_while_anything_is_older(world: World) -> None:
    await world.administration.create(world.tenant)
    document, key = await world.deposit()
    await world.administration.rotate(world.tenant)
    for apply in (False, True):
        with pytest.raises(KeyVersionInUse):
            await world.administration.retire(world.tenant, None, apply=apply)
    wrapped = PostgresWrappedKeys(world.postgres)
    (state,) = [state for state in (await world.administration.status())[0] if state.tenant == world.tenant]
    await world.administration.rewrap(world.tenant, quick(), nothing)
    # An upload that began before the newest version was there holds a key of an older one, maybe.
    upload = a_document(world.dossier, Status.PENDING, created_at=datetime.now(UTC) - timedelta(hours=1))
    async with world.database.transaction() as work:
        await work.uploads.begin(upload, 60)
    with pytest.raises(KeyVersionInUse):
        await world.administration.retire(world.tenant, None, apply=True)
    assert (await world.administration.status())[0] == (await world.administration.status())[0]
    async with world.postgres.connection() as connection:
        await connection.execute("UPDATE documents SET statut = 'ABANDONED' WHERE id = $1", upload.id)
    planned = await world.administration.retire(world.tenant, None, apply=False)
    assert planned.min_decryption == 1
    assert (await world.administration.retire(world.tenant, None, apply=True)).min_decryption == 2
    assert (await world.administration.retire(world.tenant, 2, apply=True)).min_decryption == 2
    for odd in (1, 3):
        with pytest.raises(KeyVersionInUse):
            await world.administration.retire(world.tenant, odd, apply=True)
    assert await world.opened(document) == (2, key)
    assert document.wrapped_key is not None
    with pytest.raises(KeyringUnavailable) as waits:  # whoever read the row before finds the new key at his next try
        await world.keyring.unwrap(document.wrapped_key, EncryptionContext(world.tenant, document.id))
    assert not waits.value.outage
    # Nothing can be kept under what was retired, by whatever way.
    old = replace(document, id=uuid4(), object_key=uuid4().hex)
    with pytest.raises(KeyVersionRetired):
        await wrapped.replace([((await _kept(wrapped, state.name, world.tenant)), document.wrapped_key)])
    async with world.postgres.connection() as connection:
        with pytest.raises(Exception, match="key version retired"):
            await connection.execute(
                "UPDATE documents SET cle_version = 1 WHERE id = $1",
                document.id,
            )
    with pytest.raises(Exception, match="key version retired"):
        await world.put(old)
    await world.keyring.check()


async def _kept(wrapped: PostgresWrappedKeys, name: str, tenant: str) -> Any:
    (use,) = [use for use in await wrapped.uses() if use.name == name]
    return (await wrapped.page(use, None, 1))[0]


async def test_a_row_that_is_being_written_can_t_slip_through_a_retirement(world: World) -> None:
    """A transaction has written a key under version 1 and not committed when the retirement looks."""
    await world.administration.create(world.tenant)
    await world.deposit()
    late = [(await world.in_flight())[0] for _ in range(2)]
    await world.administration.rotate(world.tenant)
    await world.administration.rewrap(world.tenant, quick(), nothing)
    written, commit = asyncio.Event(), asyncio.Event()

    async def write(document: Document) -> None:
        async with world.database.transaction() as work:
            await work.documents.add(document)
            written.set()
            await commit.wait()

    writing = asyncio.create_task(write(late[0]))
    await written.wait()
    retiring = asyncio.create_task(world.administration.retire(world.tenant, None, apply=True))
    await asyncio.sleep(0.3)
    assert not retiring.done()  # it waits for the writer, whose row it can't see yet
    commit.set()
    await writing
    with pytest.raises(KeyVersionInUse):
        await retiring
    # A writer that is slower than the retirement may wait: it gives up, and nothing is changed.
    written.clear()
    commit.clear()
    writing = asyncio.create_task(write(late[1]))
    await written.wait()
    with pytest.raises(KeyVersionInUse):
        await world.administration.retire(world.tenant, None, apply=True)
    commit.set()
    await writing
    assert (await world.administration.rewrap(world.tenant, quick(), nothing)).moved == 2
    assert (await world.administration.retire(world.tenant, None, apply=True)).min_decryption == 2


async def test_uploads_and_a_retirement_at_once(world: World) -> None:
    """Whatever wins: no row stands under a version that opens nothing any more."""
    await world.administration.create(world.tenant)
    await world.deposit()
    late = [(await world.in_flight())[0] for _ in range(20)]
    await world.administration.rotate(world.tenant)
    await world.administration.rewrap(world.tenant, quick(), nothing)
    refused = 0

    async def upload(document: Document) -> None:
        nonlocal refused
        try:
            await world.put(document)
        except asyncpg.PostgresError as error:
            refused += error.sqlstate == RETIRED_STATE

    async def retire() -> bool:
        try:
            await world.administration.retire(world.tenant, None, apply=True)
        except KeyVersionInUse:
            return False
        return True

    uploads = [asyncio.create_task(upload(document)) for document in late]
    retired = await retire()
    await asyncio.gather(*uploads)
    older = (await world.uses()).get(1, 0)
    assert older + refused == 20
    assert not (retired and older)
    if not retired:
        await world.administration.rewrap(world.tenant, quick(), nothing)
        assert await retire()


async def test_documents_of_the_single_key_stay_readable_and_move_to_their_tenant_s(
    world: World, request: pytest.FixtureRequest
) -> None:
    documents = [a_document(world.dossier) for _ in range(5)]
    elsewhere = a_dossier(tenant="elsewhere")
    foreign = a_document(elsewhere)
    async with world.database.transaction() as work:
        await work.dossiers.add(elsewhere)
    keys = {one.id: DataKey(os.urandom(32)) for one in [*documents, foreign]}
    if "vault" in request.node.name:
        wrapped = _wrapped_by_vault(request.getfixturevalue("stack"), keys, [*documents, foreign])
    else:
        wrapped = _wrapped_by_file(world, keys, [*documents, foreign])
    for document in (*documents, foreign):
        await world.put(replace(document, wrapped_key=wrapped[document.id]))
    for document in documents:
        assert await world.opened(document) == (1, keys[document.id])
    await world.administration.create(world.tenant)
    run = await world.administration.rewrap(world.tenant, quick(), nothing)
    assert (run.moved, run.remaining) == (5, 0)
    for document in documents:
        assert await world.opened(document) == (1, keys[document.id])
        moved = (await world.get(document.id)).wrapped_key
        assert moved is not None
        assert moved.key_name.endswith(world.tenant)
    assert (await world.get(foreign.id)).wrapped_key == wrapped[foreign.id]


def _wrapped_by_file(world: World, keys: Mapping[UUID, DataKey], documents: list[Document]) -> dict[UUID, WrappedKey]:
    from crypto import local_key_file
    from crypto.local_key_file import KeyFile
    from crypto.local_keyring import wrap

    keyring = world.keyring._keyring
    assert isinstance(keyring, LocalKeyring)
    content = local_key_file.read(keyring._path)
    assert content.single is not None

    class Single(KeyFile):
        def name_of(self, tenant: str) -> str:
            return self.name

    single = Single(content.name, dict.fromkeys([one.tenant for one in documents], content.single))
    return {one.id: wrap(single, keys[one.id], EncryptionContext(one.tenant, one.id)) for one in documents}


def _wrapped_by_vault(
    stack: Mapping[str, str], keys: Mapping[UUID, DataKey], documents: list[Document]
) -> dict[UUID, WrappedKey]:
    """As Vault's administrator, whose site had one key."""
    from crypto.vault_transit import derivation_context, to_base64, wrapped_key
    from deploy.native import site

    here = site.load(stack["DPJ_STACK_NAME"])
    assert here is not None
    root = json.loads((here.folder / "keys" / "vault.json").read_text("utf-8"))["root_token"]
    headers = {"X-Vault-Token": root}
    with httpx.Client(base_url=f"{stack['DPJ_VAULT_ADDR']}/v1/transit", headers=headers, trust_env=False) as vault:
        vault.post("/keys/dpj-documents", json={"type": "aes256-gcm96", "derived": True}).raise_for_status()
        made = {}
        for one in documents:
            context = derivation_context(EncryptionContext(one.tenant, one.id))
            body = {"plaintext": to_base64(keys[one.id].secret), "context": context}
            answer = vault.post("/encrypt/dpj-documents", json=body).raise_for_status().json()["data"]
            made[one.id] = wrapped_key("dpj-documents", answer)
    return made
