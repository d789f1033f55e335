"""Readiness and a store without room: a file system that is full, a MinIO bucket that is; and both with room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider

from deploy.native import site as native_site
from deploy.native.parts.minio import ADMIN
from domain.errors import ObjectStoreUnavailable
from domain.objects import StoredObject
from ingest_api.readiness import Readiness
from processors.resilience.write_probe import NO_ROOM_SECONDS, PROBE_BYTES, ROOM_SECONDS, WriteProbe
from storage.objects.filesystem import FilesystemObjectStore
from storage.objects.s3 import MinioObjectStore
from tests.support.builders import ManualSeconds
from tests.support.fakes_content import pieces

Store = FilesystemObjectStore | MinioObjectStore


class Site:
    """A store, what fills it and frees it, and readiness over it."""

    def __init__(self, store: Store, fill: Callable[[], None], free: Callable[[], None]) -> None:
        self.store = store
        self.fill = fill
        self.free = free
        self.clock = ManualSeconds()
        probe = WriteProbe(store, store.check, self.clock)
        self.readiness = Readiness({"object_store": probe.check}, clock=self.clock)

    async def ready(self, after: float) -> bool:
        self.clock.now += after
        return dict(await self.readiness.status())["object_store"]

    async def keys(self) -> list[str]:
        return [found.key async for found in self.store.list("")]


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "volume"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def filesystem(small_volume: Path) -> Site:
    ballast = small_volume / "ballast"

    def fill() -> None:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert os.statvfs(small_volume).f_bavail == 0

    return Site(FilesystemObjectStore(small_volume / "objects"), fill, ballast.unlink)


@pytest.fixture
def minio(stack: Mapping[str, str]) -> Iterator[Site]:
    endpoint, bucket = stack["DPJ_MINIO_ENDPOINT"], f"room-{uuid4().hex[:12]}"
    keys = stack["DPJ_MINIO_ACCESS_KEY"], stack["DPJ_MINIO_SECRET_KEY"]
    client = Minio(endpoint, *keys, secure=False)
    client.make_bucket(bucket)
    here = native_site.load(stack["DPJ_STACK_NAME"])
    assert here is not None
    admin = MinioAdmin(endpoint=endpoint, credentials=StaticProvider(ADMIN, here.secret("minio_admin")), secure=False)
    yield Site(
        MinioObjectStore(endpoint, *keys, bucket, secure=False),
        lambda: admin.bucket_quota_set(bucket, PROBE_BYTES // 2),
        lambda: admin.bucket_quota_clear(bucket),
    )
    for found in client.list_objects(bucket, recursive=True):
        client.remove_object(bucket, found.object_name or "")
    client.remove_bucket(bucket)


@pytest.fixture(params=["filesystem", "minio"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    site: Site = request.getfixturevalue(request.param)
    await site.store.prepare()
    yield site
    await site.store.aclose()


async def test_a_full_store_is_not_ready_and_is_again_once_there_is_room(site: Site) -> None:
    assert await site.ready(after=0)
    site.fill()
    assert await site.ready(after=ROOM_SECONDS / 2)  # what was found is told for a while
    assert not await site.ready(after=ROOM_SECONDS)
    await site.store.check()  # it answers all the same
    with pytest.raises(ObjectStoreUnavailable, match="The object store is full"):
        await site.store.put("documents/a", pieces(bytes(PROBE_BYTES)))
    site.free()
    assert not await site.ready(after=NO_ROOM_SECONDS / 2)
    assert await site.ready(after=NO_ROOM_SECONDS)
    assert await site.keys() == []


async def test_readiness_that_is_asked_often_writes_seldom(site: Site) -> None:
    written: list[str] = []
    put = site.store.put

    async def counted(key: str, data: AsyncIterator[bytes]) -> StoredObject:
        written.append(key)
        return await put(key, data)

    site.store.put = counted  # type: ignore[method-assign,assignment]
    for _ in range(100):
        assert await site.ready(after=1.01)
    assert 5 <= len(written) <= 8
