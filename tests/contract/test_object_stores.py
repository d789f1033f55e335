"""What every object store promises, run over the folder and over the real MinIO."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from minio import Minio

from domain.errors import IntegrityMismatch, ObjectMissing, ObjectStoreUnavailable
from domain.objects import StoredObject
from domain.refusals import FileTooLarge
from storage.objects import s3 as objects_minio
from storage.objects.filesystem import FOOTER_SIZE, INCOMING, FilesystemObjectStore
from storage.objects.s3 import PART_SIZE, MinioObjectStore
from tests.support.fakes_content import collect, cut, pieces
from tests.support.tcp_proxy import Proxy

Store = FilesystemObjectStore | MinioObjectStore

CONTENT = random.Random(3).randbytes(2 * PART_SIZE + 12_345)
SIZES = [0, 1, 97, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, PART_SIZE, PART_SIZE + 1, 2 * PART_SIZE, len(CONTENT)]


def minio_store(stack: dict[str, str], bucket: str, endpoint: str | None = None, **options: float) -> MinioObjectStore:
    return MinioObjectStore(
        endpoint or stack["DPJ_MINIO_ENDPOINT"],
        stack["DPJ_MINIO_ACCESS_KEY"],
        stack["DPJ_MINIO_SECRET_KEY"],
        bucket,
        secure=False,
        **options,
    )


@pytest.fixture(scope="session")
def bucket(stack: dict[str, str]) -> Iterator[str]:
    """A bucket of this session's own."""
    name = f"contract-{uuid4().hex[:12]}"
    client = Minio(
        stack["DPJ_MINIO_ENDPOINT"], stack["DPJ_MINIO_ACCESS_KEY"], stack["DPJ_MINIO_SECRET_KEY"], secure=False
    )
    client.make_bucket(name)
    yield name
    for found in client.list_objects(name, recursive=True):
        client.remove_object(name, found.object_name or "")
    client.remove_bucket(name)


@pytest.fixture(params=["filesystem", "minio"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    if request.param == "filesystem":
        made = FilesystemObjectStore(tmp_path / "data" / "objects")
    else:
        made = minio_store(request.getfixturevalue("stack"), request.getfixturevalue("bucket"))
    await made.prepare()
    await made.check()
    yield made
    await made.aclose()


def new_key() -> str:
    return f"t-{uuid4().hex}/2026/{uuid4().hex}"


async def listed(store: Store, prefix: str) -> list[StoredObject]:
    return [found async for found in store.list(prefix)]


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_is_read(store: Store, size: int) -> None:
    key, content = new_key(), CONTENT[:size]
    put = await store.put(key, cut(content, 333_333))
    found = await store.stat(key)
    assert (put.key, put.size, put.etag) == (found.key, found.size, found.etag) == (key, size, put.etag)
    assert abs(found.modified_at - datetime.now(UTC)) < timedelta(minutes=2)
    assert abs(put.modified_at - found.modified_at) < timedelta(seconds=5)
    assert await collect(store.read(key)) == content
    assert await collect(store.read(key, etag=found.etag)) == content


async def test_empty_pieces_and_large_pieces(store: Store) -> None:
    key = new_key()
    await store.put(key, pieces(b"", CONTENT, b"", b"end", b""))
    assert await collect(store.read(key)) == CONTENT + b"end"


async def test_ranges(store: Store) -> None:
    key, size = new_key(), (1 << 20) + 500
    await store.put(key, cut(CONTENT[:size], 1 << 20))
    for start, length in [
        (0, 1),
        (0, 81),
        (5, 0),
        (5, 1 << 20),
        (1, (1 << 20) + 300),
        (81, (1 << 20) - 81),
        (size - 1, 1),
        (size - 5, 5),
    ]:
        assert await collect(store.read(key, start=start, length=length)) == CONTENT[start : start + length]
    assert await collect(store.read(key, start=1000)) == CONTENT[1000:size]


async def test_ranges_end_where_the_object_ends(store: Store) -> None:
    key = new_key()
    await store.put(key, pieces(b"0123456789"))
    assert await collect(store.read(key, start=8, length=100)) == b"89"
    assert await collect(store.read(key, start=10, length=5)) == b""
    assert await collect(store.read(key, start=99)) == b""


async def test_a_new_put_replaces_and_changes_the_etag(store: Store) -> None:
    key = new_key()
    first = await store.put(key, pieces(b"first version"))
    second = await store.put(key, pieces(b"other version"))
    assert first.etag != second.etag
    assert (await store.stat(key)).etag == second.etag
    assert await collect(store.read(key)) == b"other version"
    with pytest.raises(ObjectMissing):
        await collect(store.read(key, etag=first.etag))
    with pytest.raises(ObjectMissing):
        await collect(store.read(key, start=3, length=4, etag=first.etag))


async def test_a_reading_never_mixes_two_versions(store: Store) -> None:
    key, content = new_key(), CONTENT[: 3 << 20]
    await store.put(key, cut(content, 1 << 20))
    read = bytearray()
    with suppress(ObjectMissing):
        async with aclosing(store.read(key)) as stream:
            async for piece in stream:
                if not read:
                    await store.put(key, cut(content[::-1], 1 << 20))
                read += piece
        assert len(read) == len(content)
    assert read
    assert content.startswith(read)


async def test_absent_objects(store: Store) -> None:
    key = new_key()
    with pytest.raises(ObjectMissing):
        await store.stat(key)
    with pytest.raises(ObjectMissing):
        await collect(store.read(key))
    await store.delete(key)


async def test_delete(store: Store) -> None:
    key = new_key()
    await store.put(key, pieces(b"x"))
    await store.delete(key)
    with pytest.raises(ObjectMissing):
        await store.stat(key)
    await store.delete(key)
    assert await listed(store, key) == []


async def test_list_is_by_prefix_and_in_order(store: Store) -> None:
    top = f"l-{uuid4().hex}"
    names = ["a/b", "a/b.thumbnail-256", "a/c", "a-1/x", "a.b", "ab", "b/1/2/3"]
    for name in names:
        await store.put(f"{top}/{name}", pieces(name.encode()))
    found = await listed(store, f"{top}/")
    assert [f.key for f in found] == sorted(f"{top}/{name}" for name in names)
    for one in found:
        stat = await store.stat(one.key)
        assert (one.size, one.etag) == (stat.size, stat.etag)
        assert abs(one.modified_at - stat.modified_at) < timedelta(seconds=2)
    assert [f.key for f in await listed(store, f"{top}/a/b")] == [f"{top}/a/b", f"{top}/a/b.thumbnail-256"]
    assert [f.key for f in await listed(store, f"{top}/b/")] == [f"{top}/b/1/2/3"]
    assert await listed(store, f"{top}/zz") == []
    assert await listed(store, f"{top}/a/b/") == []


async def test_list_goes_on_beyond_one_batch(store: Store) -> None:
    top = f"m-{uuid4().hex}"
    for number in range(300):
        await store.put(f"{top}/{number:04}", pieces(b"x"))
    assert [f.key for f in await listed(store, top)] == [f"{top}/{number:04}" for number in range(300)]
    async with aclosing(store.list(top)) as some:
        assert (await anext(some)).key == f"{top}/0000"


@pytest.mark.parametrize(
    "key",
    ["", "/", "/a", "a/", "a//b", "../a", "a/../b", "a/.b", ".incoming/x", "a@", "a\0", "a b", "é", "a\n", "x" * 513],
)
async def test_odd_keys_are_refused(store: Store, key: str) -> None:
    for call in (store.stat(key), store.delete(key), store.put(key, pieces(b"x")), collect(store.read(key))):
        with pytest.raises(ValueError, match="object key"):
            await call


@pytest.mark.parametrize("before", [0, 10, PART_SIZE + 10, 2 * PART_SIZE + 10])
async def test_nothing_is_left_if_the_stream_fails(store: Store, before: int, tmp_path: Path) -> None:
    key = new_key()

    async def broken() -> AsyncIterator[bytes]:
        async for piece in cut(CONTENT[:before], 1 << 20):
            yield piece
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put(key, broken())
    await assert_nothing(store, key)


@pytest.mark.parametrize("before", [10, 2 * PART_SIZE + 10])
async def test_nothing_is_left_if_a_put_is_cancelled_while_it_waits(store: Store, before: int) -> None:
    key, waiting = new_key(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        async for piece in cut(CONTENT[:before], 1 << 20):
            yield piece
        waiting.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(store.put(key, endless()))
    await waiting.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    await assert_nothing(store, key)


@pytest.mark.parametrize("size", [1000, 2 * PART_SIZE + 10])
async def test_nothing_is_left_if_a_put_is_cancelled_at_its_end(store: Store, size: int) -> None:
    """The stream has ended, the last call is under way in its thread and can't be stopped."""
    key, ended = new_key(), asyncio.Event()

    async def telling() -> AsyncIterator[bytes]:
        async for piece in cut(CONTENT[:size], 1 << 20):
            yield piece
        ended.set()

    putting = asyncio.create_task(store.put(key, telling()))
    await ended.wait()
    await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    await assert_nothing(store, key)


async def assert_nothing(store: Store, key: str) -> None:
    with pytest.raises(ObjectMissing):
        await store.stat(key)
    assert await listed(store, key) == []
    if isinstance(store, FilesystemObjectStore):
        assert list((store._root / INCOMING).iterdir()) == []
    else:
        uploads = store._client._list_multipart_uploads(store._bucket, prefix=key).uploads
        assert uploads == []


async def test_a_failed_put_leaves_what_was_there_before(store: Store) -> None:
    key = new_key()
    first = await store.put(key, pieces(b"first version"))

    async def broken() -> AsyncIterator[bytes]:
        yield b"other"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put(key, broken())
    assert (await store.stat(key)).etag == first.etag
    assert await collect(store.read(key)) == b"first version"


async def test_many_at_once(store: Store) -> None:
    async def one(number: int) -> None:
        key, content = new_key(), CONTENT[number : number + 70_000]
        await store.put(key, cut(content, 10_000))
        assert await collect(store.read(key)) == content

    await asyncio.gather(*(one(number) for number in range(40)))


async def test_a_reading_that_is_left_lets_others_go_on(store: Store) -> None:
    key = new_key()
    await store.put(key, pieces(CONTENT))
    for _ in range(30):
        async with aclosing(store.read(key)) as stream:
            assert CONTENT.startswith(await anext(stream))
    assert await collect(store.read(key)) == CONTENT


async def test_memory_of_a_put_is_bounded(store: Store) -> None:
    """200 MiB pass while the parts that were not sent yet never pile up."""
    import tracemalloc

    piece = os.urandom(1 << 20)

    async def long() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield piece

    key = new_key()
    tracemalloc.start()
    try:
        stored = await store.put(key, long())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stored.size == 200 << 20
    assert peak < 5 * PART_SIZE  # three, and one that a thread is just letting go of
    await store.delete(key)


# --- The folder ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[FilesystemObjectStore]:
    made = FilesystemObjectStore(tmp_path / "objects")
    await made.prepare()
    yield made
    await made.aclose()


def modes_under(folder: Path) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_mode & 0o777 for p in folder.rglob("*")}


async def test_only_the_owner_may_look(folder: FilesystemObjectStore, tmp_path: Path) -> None:
    await folder.put("a/b/c", pieces(b"x"))
    assert modes_under(tmp_path) == {
        "objects": 0o700,
        "objects/.incoming": 0o700,
        "objects/a": 0o700,
        "objects/a/b": 0o700,
        "objects/a/b/c@": 0o600,
    }


async def test_the_etag_is_the_digest_and_lies_with_the_bytes(folder: FilesystemObjectStore, tmp_path: Path) -> None:
    stored = await folder.put("a", pieces(b"hello"))
    assert stored.etag == hashlib.sha256(b"hello").hexdigest()
    content = (tmp_path / "objects" / "a@").read_bytes()
    assert content == b"hello" + b"DPJOBJ1\n" + hashlib.sha256(b"hello").digest()


async def test_a_file_cut_short_is_not_an_object(folder: FilesystemObjectStore, tmp_path: Path) -> None:
    await folder.put("a", pieces(b"hello"))
    await folder.put("b", pieces(b"hello"))
    path = tmp_path / "objects" / "a@"
    for kept in (0, 5, FOOTER_SIZE, FOOTER_SIZE + 4):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(IntegrityMismatch):
            await folder.stat("a")
        with pytest.raises(IntegrityMismatch):
            await collect(folder.read("a"))
        assert [f.key for f in await listed(folder, "")] == ["b"]


async def test_foreign_files_are_no_objects(folder: FilesystemObjectStore, tmp_path: Path) -> None:
    root = tmp_path / "objects"
    (root / INCOMING / "half").write_bytes(b"half")
    (root / "lost+found").mkdir()
    (root / "note.txt").write_bytes(b"x")
    (root / "elsewhere").symlink_to(tmp_path)
    await folder.put("a", pieces(b"x"))
    assert [f.key for f in await listed(folder, "")] == ["a"]


async def test_a_folder_that_is_no_store_is_an_outage(tmp_path: Path) -> None:
    """A volume that isn't mounted: nothing is missing, the store is away."""
    (tmp_path / "objects").mkdir()
    store = FilesystemObjectStore(tmp_path / "objects")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.stat("a"),
        lambda: collect(store.read("a")),
        lambda: store.put("a", pieces(b"x")),
        lambda: store.delete("a"),
        lambda: listed(store, ""),
        store.check,
    ]
    for call in calls:
        with pytest.raises(ObjectStoreUnavailable):
            await call()
    assert list((tmp_path / "objects").iterdir()) == []
    await store.aclose()


async def test_a_folder_that_cannot_be_written_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = FilesystemObjectStore(tmp_path / "file" / "objects")
    with pytest.raises(ObjectStoreUnavailable):
        await store.prepare()
    await store.aclose()


async def test_an_open_reading_keeps_its_version(folder: FilesystemObjectStore) -> None:
    old, new = CONTENT[: 3 << 20], CONTENT[1 : 3 << 20]
    await folder.put("a", pieces(old))
    stream = folder.read("a")
    first = await anext(stream)
    await folder.put("a", pieces(new))
    assert first + await collect(stream) == old


async def test_a_later_put_survives_the_undoing_of_an_earlier_one(folder: FilesystemObjectStore) -> None:
    from storage.objects.filesystem import _FileWriting

    earlier = _FileWriting(folder._root, "a")
    earlier.finish(bytearray(b"earlier"))
    later = await folder.put("a", pieces(b"later"))
    earlier.undo()
    assert (await folder.stat("a")).etag == later.etag


# --- MinIO behind a line that misbehaves ------------------------------------------------------------------------------


@pytest.fixture
async def proxy(stack: dict[str, str]) -> AsyncIterator[Proxy]:
    async with Proxy(stack["DPJ_MINIO_ENDPOINT"]) as running:
        yield running


@pytest.fixture
async def behind(stack: dict[str, str], bucket: str, proxy: Proxy) -> AsyncIterator[MinioObjectStore]:
    made = minio_store(stack, bucket, proxy.endpoint, deadline=2.0, connect_timeout=1.0)
    yield made
    await made.aclose()


@pytest.mark.parametrize("size", [1000, PART_SIZE + 1000])
async def test_a_damaged_transfer_is_refused(
    behind: MinioObjectStore, stack: dict[str, str], bucket: str, proxy: Proxy, size: int
) -> None:
    key, content = new_key(), b"\xaa" * (size - 500) + b"MARK-THIS-PLACE!" + b"\xaa" * 484
    proxy.replace = (b"MARK-THIS-PLACE!", b"MARK_THIS-PLACE!")
    with pytest.raises(ObjectStoreUnavailable):
        await behind.put(key, cut(content, 100_000))
    assert proxy.replaced
    direct = minio_store(stack, bucket)
    await assert_nothing(direct, key)
    await direct.aclose()


async def test_a_read_that_is_cut_is_never_taken_for_the_end(behind: MinioObjectStore, proxy: Proxy) -> None:
    key = new_key()
    await behind.put(key, pieces(CONTENT))
    proxy.cut_answers_after = 3 << 20
    received = bytearray()

    async def gather() -> None:
        async for piece in behind.read(key):
            received.extend(piece)

    with pytest.raises(ObjectStoreUnavailable):
        await gather()
    assert CONTENT.startswith(bytes(received))


async def test_a_store_that_does_not_answer_is_an_outage_in_time(behind: MinioObjectStore, proxy: Proxy) -> None:
    await behind.check()
    proxy.silent = True
    started = asyncio.get_running_loop().time()
    for call in (behind.stat("a"), behind.put("a", pieces(b"x")), collect(behind.read("a")), behind.check()):
        with pytest.raises(ObjectStoreUnavailable):
            await call
    assert asyncio.get_running_loop().time() - started < 20
    proxy.silent = False
    await behind.check()


async def test_a_store_that_refuses_connections_is_an_outage(behind: MinioObjectStore, proxy: Proxy) -> None:
    await proxy.close()
    for call in (behind.stat("a"), behind.put("a", pieces(b"x")), collect(behind.read("a")), listed(behind, "")):
        with pytest.raises(ObjectStoreUnavailable):
            await call


async def test_a_missing_bucket_is_an_outage_and_condemns_nothing(stack: dict[str, str]) -> None:
    away = minio_store(stack, f"absent-{uuid4().hex[:12]}")
    calls = (
        away.stat("a"),
        away.put("a", pieces(b"x")),
        away.put("a", pieces(CONTENT)),
        collect(away.read("a")),
        listed(away, "a"),
        away.delete("a"),
        away.check(),
    )
    for call in calls:
        with pytest.raises(ObjectStoreUnavailable):
            await call
    await away.aclose()


async def test_more_parts_than_the_store_takes_are_refused(
    stack: dict[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_minio, "MAX_PARTS", 1)
    store, key = minio_store(stack, bucket), new_key()
    with pytest.raises(FileTooLarge):
        await store.put(key, cut(CONTENT, 1 << 20))
    await assert_nothing(store, key)
    await store.aclose()


async def test_a_part_that_arrives_otherwise_than_it_was_sent_is_refused(
    stack: dict[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crc32 = zlib.crc32

    def of_other_bytes(part: bytearray) -> int:
        return crc32(part) ^ 1

    monkeypatch.setattr(zlib, "crc32", of_other_bytes)
    store, key = minio_store(stack, bucket), new_key()
    with pytest.raises(ObjectStoreUnavailable):
        await store.put(key, cut(CONTENT, 1 << 20))
    monkeypatch.undo()
    await assert_nothing(store, key)
    await store.aclose()


async def test_a_later_object_survives_the_undoing_of_an_earlier_one(stack: dict[str, str], bucket: str) -> None:
    store, key = minio_store(stack, bucket), new_key()
    earlier = objects_minio._Upload(store._client, bucket, key)
    await asyncio.to_thread(earlier.finish, bytearray(b"earlier"))
    later = await store.put(key, pieces(b"later"))
    await asyncio.to_thread(earlier.undo)
    assert (await store.stat(key)).etag == later.etag
    await store.aclose()


async def test_wrong_credentials_are_an_outage(stack: dict[str, str], bucket: str) -> None:
    wrong = minio_store({**stack, "DPJ_MINIO_SECRET_KEY": "not-the-secret"}, bucket)
    for call in (wrong.stat("a"), wrong.put("a", pieces(b"x")), collect(wrong.read("a")), wrong.check()):
        with pytest.raises(ObjectStoreUnavailable):
            await call
    await wrong.aclose()
