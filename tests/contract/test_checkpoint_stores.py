"""What every checkpoint store promises, run over the folder and over the real MinIO."""

from __future__ import annotations

import asyncio
import io
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from minio import Minio
from minio.commonconfig import COMPLIANCE, GOVERNANCE
from minio.error import S3Error
from minio.objectlockconfig import DAYS, YEARS, ObjectLockConfig

from domain.errors import CheckpointStoreUnavailable
from storage.checkpoints.folder import FolderCheckpointStore
from storage.checkpoints.names import tenant_folder
from storage.checkpoints.s3 import S3CheckpointStore
from tests.support.tcp_proxy import Proxy

Store = FolderCheckpointStore | S3CheckpointStore


def owner(stack: dict[str, str]) -> Minio:
    """Who may do anything, but for what a lock forbids everybody."""
    return Minio(
        stack["DPJ_MINIO_ENDPOINT"], stack["DPJ_MINIO_ACCESS_KEY"], stack["DPJ_MINIO_SECRET_KEY"], secure=False
    )


def s3_store(
    stack: dict[str, str], bucket: str, endpoint: str | None = None, *, least_days: int = 1
) -> S3CheckpointStore:
    return S3CheckpointStore(
        endpoint or stack["DPJ_MINIO_ENDPOINT"],
        stack["DPJ_MINIO_ACCESS_KEY"],
        stack["DPJ_MINIO_SECRET_KEY"],
        bucket,
        secure=False,
        deadline=5.0,
        least_days=least_days,
    )


def site_store(stack: dict[str, str]) -> S3CheckpointStore:
    """The stack's own, under its own credentials."""
    return S3CheckpointStore(
        stack["DPJ_CHECKPOINT_ENDPOINT"],
        stack["DPJ_CHECKPOINT_ACCESS_KEY"],
        stack["DPJ_CHECKPOINT_SECRET_KEY"],
        stack["DPJ_CHECKPOINT_BUCKET"],
        secure=False,
    )


@pytest.fixture(scope="session")
def locked(stack: dict[str, str]) -> str:
    """A locked bucket of this session's own; what is in it goes with the stack."""
    name = f"locked-{uuid4().hex[:12]}"
    client = owner(stack)
    client.make_bucket(name, object_lock=True)
    client.set_object_lock_config(name, ObjectLockConfig(COMPLIANCE, 1, DAYS))
    return name


@pytest.fixture(params=["folder", "s3", "site"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    if request.param == "folder":
        made = FolderCheckpointStore(tmp_path / "data" / "checkpoints")
    elif request.param == "s3":
        made = s3_store(request.getfixturevalue("stack"), request.getfixturevalue("locked"))
    else:
        made = site_store(request.getfixturevalue("stack"))
    await made.check()
    yield made
    await made.aclose()


def a_tenant() -> str:
    return f"t-{uuid4().hex[:12]}"


async def test_what_is_put_is_read_and_stays(store: Store) -> None:
    tenant = a_tenant()
    assert await store.contents(tenant, 7) == []
    await store.put(tenant, 7, b"first\n")
    await store.put(tenant, 7, b"first\n")
    await store.put(tenant, 7, b"second\n")
    assert await store.contents(tenant, 7) == [b"first\n"]


async def test_of_many_at_once_one_stays(store: Store) -> None:
    tenant = a_tenant()
    await asyncio.gather(*(store.put(tenant, 1, f"{number}\n".encode()) for number in range(8)))
    [kept] = await store.contents(tenant, 1)
    assert kept in {f"{number}\n".encode() for number in range(8)}


async def test_sizes_come_in_order_and_from_where_they_are_asked(store: Store) -> None:
    tenant, neighbour = a_tenant(), a_tenant()
    assert await store.sizes(tenant, 1, 10) == []
    for size in (900, 12, 1, 10_000_000_000, 99):
        await store.put(tenant, size, b"x\n")
    await store.put(neighbour, 50, b"x\n")
    assert await store.sizes(tenant, 1, 10) == [1, 12, 99, 900, 10_000_000_000]
    assert await store.sizes(tenant, 1, 2) == [1, 12]
    assert await store.sizes(tenant, 12, 2) == [12, 99]
    assert await store.sizes(tenant, 13, 9) == [99, 900, 10_000_000_000]
    assert await store.sizes(tenant, 10_000_000_001, 9) == []
    assert await store.contents(tenant, 13) == []


@pytest.mark.parametrize("name", ["a/b", "..", ".", "é è", "%2E", "-x"])
async def test_any_tenant_has_a_place_of_its_own(store: Store, name: str) -> None:
    tenant = f"{name}{uuid4().hex[:8]}"
    await store.put(tenant, 3, tenant.encode())
    assert await store.sizes(tenant, 1, 9) == [3]
    assert await store.contents(tenant, 3) == [tenant.encode()]
    assert tenant in await store.tenants()


def test_names_of_tenants_are_plain_and_differ() -> None:
    names = [".", "..", ".a", "%2Ea", "a", "A", "a/b", "a%2Fb"]
    assert len({tenant_folder(name) for name in names}) == len(names)
    assert not any("/" in tenant_folder(name) or tenant_folder(name).startswith(".") for name in names)
    with pytest.raises(ValueError, match="name"):
        tenant_folder("")


# --- the folder ------------------------------------------------------------------------------------------------------


async def test_files_are_read_only_and_half_written_ones_no_checkpoints(tmp_path: Path) -> None:
    store = FolderCheckpointStore(tmp_path)
    await store.put("acme", 3, b"x\n")
    [file] = (tmp_path / "acme").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    (tmp_path / "acme" / ".0123456789abcdef0123456789abcdef").write_bytes(b"half")
    (tmp_path / "acme" / "README").write_bytes(b"of somebody")
    assert await store.sizes("acme", 1, 9) == [3]


async def test_a_folder_that_takes_no_files_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = FolderCheckpointStore(tmp_path / "file" / "checkpoints")
    with pytest.raises(CheckpointStoreUnavailable):
        await store.check()
    with pytest.raises(CheckpointStoreUnavailable):
        await store.put("acme", 1, b"x")


# --- the bucket ------------------------------------------------------------------------------------------------------


async def test_nobody_removes_what_is_locked(stack: dict[str, str], locked: str) -> None:
    store, client, tenant = s3_store(stack, locked), owner(stack), a_tenant()
    await store.put(tenant, 3, b"x\n")
    [version] = [
        (found.object_name or "", found.version_id)
        for found in client.list_objects(locked, f"{tenant}/", include_version=True)
    ]
    with pytest.raises(S3Error, match=r"WORM|locked|AccessDenied|Access Denied"):
        client.remove_object(locked, version[0], version_id=version[1])
    assert await store.contents(tenant, 3) == [b"x\n"]
    await store.aclose()


async def test_what_is_hidden_or_put_on_top_shows(stack: dict[str, str], locked: str) -> None:
    store, client, tenant = s3_store(stack, locked), owner(stack), a_tenant()
    for size in (3, 5):
        await store.put(tenant, size, b"honest\n")
    name = f"{tenant}/{3:020d}.json"
    client.remove_object(locked, name)  # a delete marker: all that a lock allows
    assert await store.sizes(tenant, 1, 9) == [3, 5]
    assert await store.contents(tenant, 3) == [b"honest\n"]
    client.put_object(locked, name, io.BytesIO(b"forked\n"), 7)
    assert await store.sizes(tenant, 1, 9) == [3, 5]
    assert await store.contents(tenant, 3) == [b"honest\n", b"forked\n"]
    await store.aclose()


async def test_a_bucket_that_is_not_locked_takes_no_checkpoint(stack: dict[str, str]) -> None:
    client = owner(stack)
    for lock, mode in ((False, None), (True, None), (True, GOVERNANCE)):
        name = f"unlocked-{uuid4().hex[:12]}"
        client.make_bucket(name, object_lock=lock)
        if mode:
            client.set_object_lock_config(name, ObjectLockConfig(mode, 1, DAYS))
        store = s3_store(stack, name)
        with pytest.raises(CheckpointStoreUnavailable):
            await store.put("acme", 1, b"x")
        assert await store.sizes("acme", 1, 9) == []
        await store.aclose()
        client.remove_bucket(name)


async def test_a_lock_that_is_too_short_or_is_loosened_later_takes_none(stack: dict[str, str]) -> None:
    client, name = owner(stack), f"loosened-{uuid4().hex[:12]}"
    client.make_bucket(name, object_lock=True)
    client.set_object_lock_config(name, ObjectLockConfig(COMPLIANCE, 1, DAYS))
    strict, store = s3_store(stack, name, least_days=2), s3_store(stack, name)
    with pytest.raises(CheckpointStoreUnavailable):
        await strict.put("acme", 1, b"x")
    await store.put("acme", 1, b"x")
    client.set_object_lock_config(name, ObjectLockConfig(COMPLIANCE, 1, YEARS))
    await s3_store(stack, name, least_days=365).put("acme", 2, b"x")
    for mode in (GOVERNANCE, None):
        client.set_object_lock_config(name, ObjectLockConfig(mode, mode and 1, mode and DAYS))
        with pytest.raises(CheckpointStoreUnavailable):
            await store.put("acme", 3, b"x")
    assert await store.sizes("acme", 1, 9) == [1, 2]
    await store.aclose()
    await strict.aclose()


async def test_the_sites_credentials_put_and_read_and_nothing_else(stack: dict[str, str]) -> None:
    store, tenant, bucket = site_store(stack), a_tenant(), stack["DPJ_CHECKPOINT_BUCKET"]
    await store.put(tenant, 3, b"x\n")
    await store.aclose()
    name = f"{tenant}/{3:020d}.json"
    theirs = Minio(
        stack["DPJ_CHECKPOINT_ENDPOINT"],
        stack["DPJ_CHECKPOINT_ACCESS_KEY"],
        stack["DPJ_CHECKPOINT_SECRET_KEY"],
        secure=False,
        region="us-east-1",
    )
    assert theirs.get_object(bucket, name).read() == b"x\n"
    for refused in (
        lambda: theirs.remove_object(bucket, name),
        lambda: theirs.set_object_lock_config(bucket, ObjectLockConfig(None, None, None)),
        lambda: theirs.stat_object(stack["DPJ_MINIO_BUCKET"], "x"),
        lambda: theirs.make_bucket(f"mine-{uuid4().hex[:8]}"),
    ):
        with pytest.raises(S3Error, match=r"AccessDenied|Access Denied"):
            refused()
    for refused in (lambda: owner(stack).get_object(bucket, name), lambda: owner(stack).remove_object(bucket, name)):
        with pytest.raises(S3Error, match=r"AccessDenied|Access Denied"):
            refused()


async def test_a_store_that_is_away(stack: dict[str, str], locked: str) -> None:
    async with Proxy(stack["DPJ_MINIO_ENDPOINT"]) as proxy:
        store = s3_store(stack, locked, proxy.endpoint)
        await store.check()
        await proxy.close()
        for call in (store.put("acme", 1, b"x"), store.sizes("acme", 1, 1), store.contents("acme", 1), store.check()):
            with pytest.raises(CheckpointStoreUnavailable):
                await call
        await store.aclose()
