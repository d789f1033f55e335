"""Puts that never ended: seen, told by their key, and removed; in the folder and in the real MinIO."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.errors import DPJError, ObjectMissing, ObjectStoreUnavailable
from domain.objects import UnfinishedPut
from storage.objects.filesystem import INCOMING, FilesystemObjectStore
from storage.objects.s3 import PART_SIZE
from tests.contract.test_object_stores import Store, bucket, new_key, store
from tests.support.fakes_content import pieces

__all__ = ["bucket", "store"]


class Sender:
    """A put that has sent more than a part and waits: ``go_on`` lets it end."""

    def __init__(self, store: Store, key: str) -> None:
        self.go_on = asyncio.Event()
        self.task = asyncio.create_task(store.put(key, self._content()))

    async def _content(self) -> AsyncIterator[bytes]:
        yield b"x" * (2 * PART_SIZE + 1)
        await self.go_on.wait()
        yield b"y"

    async def end(self) -> None:
        self.go_on.set()
        with suppress(DPJError):
            await self.task


async def unfinished(store: Store, key: str | None = None) -> list[UnfinishedPut]:
    return [put async for put in store.unfinished(key)]


async def one_of(store: Store, key: str) -> UnfinishedPut:
    async with asyncio.timeout(10):
        while not (found := await unfinished(store, key)):
            await asyncio.sleep(0.02)
    (put,) = found
    return put


async def test_a_put_under_way_is_seen_by_its_key_and_among_all(store: Store) -> None:
    key = new_key()
    sender = Sender(store, key)
    put = await one_of(store, key)
    assert put.key == key
    assert abs(datetime.now(UTC) - put.at) < timedelta(minutes=1)
    assert put.id in {one.id for one in await unfinished(store)}
    assert await unfinished(store, new_key()) == []
    await sender.end()
    assert (await store.stat(key)).size == 2 * PART_SIZE + 2
    assert await unfinished(store, key) == []


async def test_what_is_aborted_can_not_be_ended(store: Store) -> None:
    key = new_key()
    sender = Sender(store, key)
    put = await one_of(store, key)
    await store.abort(put)
    assert await unfinished(store, key) == []
    sender.go_on.set()
    with pytest.raises(ObjectStoreUnavailable):
        await sender.task
    with pytest.raises(ObjectMissing):
        await store.stat(key)
    await store.abort(put)


async def test_what_has_ended_can_not_be_aborted(store: Store) -> None:
    key = new_key()
    sender = Sender(store, key)
    put = await one_of(store, key)
    await sender.end()
    await store.abort(put)
    assert (await store.stat(key)).size == 2 * PART_SIZE + 2


async def test_a_key_that_begins_another_is_told_from_it(store: Store) -> None:
    key = new_key()
    sender = Sender(store, key + ".thumbnail")
    await one_of(store, key + ".thumbnail")
    assert await unfinished(store, key) == []
    await sender.end()


async def test_a_small_put_leaves_nothing_unfinished(store: Store) -> None:
    key = new_key()
    await store.put(key, pieces(b"x"))
    assert await unfinished(store, key) == []


async def test_files_tell_when_they_were_last_written_and_stay_while_the_store_is_checked(tmp_path: Path) -> None:
    store = FilesystemObjectStore(tmp_path / "objects")
    await store.prepare()
    incoming = tmp_path / "objects" / INCOMING
    (incoming / "documents+ab+c+0123").write_bytes(b"x")
    (incoming / "0123").write_bytes(b"x")
    os.utime(incoming / "0123", (1, 1))
    await store.check()
    old, new = await unfinished(store)
    assert (old.key, old.at) == (None, datetime.fromtimestamp(1, UTC))
    assert new.key == "documents/ab/c"
    await store.abort(UnfinishedPut("../../objects/.incoming/0123", None, old.at))
    assert [path.name for path in incoming.iterdir()] == ["documents+ab+c+0123"]
    await store.aclose()


async def test_a_key_too_long_for_a_name_is_not_told(tmp_path: Path) -> None:
    store = FilesystemObjectStore(tmp_path / "objects")
    await store.prepare()
    sender = Sender(store, "/".join(["k" * 100] * 4))
    async with asyncio.timeout(10):
        while not (found := await unfinished(store)):
            await asyncio.sleep(0.02)
    assert [put.key for put in found] == [None]
    await sender.end()
    await store.aclose()
