"""EncryptedContent: PostgreSQL is believed, the store is not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from crypto.envelope import CHUNK_SIZE, SEALED_CHUNK_SIZE, Envelope
from domain.documents import Document, Rendition
from domain.errors import (
    EnvelopeInvalid,
    IntegrityMismatch,
    KeyringUnavailable,
    ObjectMissing,
    ObjectStoreUnavailable,
    WrongKey,
)
from domain.keys import DataKey, EncryptionContext
from domain.refusals import ContentNotAvailable, RangeNotSatisfiable
from processors.documents.content import EncryptedContent, renditions_prefix
from tests.support import builders
from tests.support.fakes_content import CONTENT_KEY as KEY
from tests.support.fakes_content import MemoryKeyring, MemoryObjectStore, a_document, collect, cut, pieces

CLEAR = random.Random(5).randbytes(3 * CHUNK_SIZE + 500)
HEADER = 81


class CountingStore(MemoryObjectStore):
    """Also keeps what was asked for: (start, length, etag) of each read, and the bytes given; says when a read was closed."""

    def __init__(self) -> None:
        super().__init__(piece=100_000)
        self.reads: list[tuple[int, int | None, str | None]] = []
        self.given = 0
        self.closed = 0

    async def read(
        self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None
    ) -> AsyncIterator[bytes]:
        self.reads.append((start, length, etag))
        try:
            async for piece in super().read(key, start=start, length=length, etag=etag):
                self.given += len(piece)
                yield piece
        finally:
            self.closed += 1


class Held:
    """A content with its store and keyring, and one stored document."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self.keyring = MemoryKeyring()
        self.content = EncryptedContent(self.store, Envelope(), self.keyring)

    async def put(self, clear: bytes = CLEAR) -> Document:
        document = a_document(len(clear))
        context = EncryptionContext(document.tenant, document.id)
        key, wrapped = await self.content.new_key(context)
        stored = await self.content.store(key, context, KEY, cut(clear, 70_000))
        await self.content.verify_stored(stored, len(clear))
        return replace(document, wrapped_key=wrapped, object_etag=stored.etag, object_size=stored.size)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, len(CLEAR)])
async def test_what_is_stored_is_read(held: Held, size: int) -> None:
    document = await held.put(CLEAR[:size])
    assert await collect(held.content.read(document)) == CLEAR[:size]
    assert held.store.objects[KEY][:4] == b"DPJE"
    assert len(held.store.objects[KEY]) == Envelope().sealed_size(size)
    assert size < 16 or CLEAR[:16] not in held.store.objects[KEY]


async def test_nothing_is_stored_of_a_stream_that_fails(held: Held) -> None:
    context = EncryptionContext("banque", UUID(int=77))
    key, _ = await held.content.new_key(context)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await held.content.store(key, context, KEY, broken())
    assert held.store.objects == {}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 1),
        (0, len(CLEAR)),
        (10, 500),
        (CHUNK_SIZE - 1, CHUNK_SIZE + 1),
        (2 * CHUNK_SIZE, 3 * CHUNK_SIZE),
        (len(CLEAR) - 1, len(CLEAR)),
    ],
)
async def test_a_range_is_a_slice_and_reads_its_chunks_only(held: Held, start: int, end: int) -> None:
    document = await held.put()
    assert await collect(held.content.read_range(document, start, end)) == CLEAR[start:end]
    chunks = (end - 1) // CHUNK_SIZE - start // CHUNK_SIZE + 1
    assert held.store.given <= HEADER + chunks * SEALED_CHUNK_SIZE
    assert held.store.reads[0] == (0, HEADER, document.object_etag)
    assert held.store.reads[1][0] == HEADER + start // CHUNK_SIZE * SEALED_CHUNK_SIZE
    assert {etag for _, _, etag in held.store.reads} == {document.object_etag}


@pytest.mark.parametrize(("start", "end"), [(0, 0), (-1, 5), (5, 4), (0, len(CLEAR) + 1), (len(CLEAR), len(CLEAR) + 1)])
async def test_ranges_outside_read_nothing(held: Held, start: int, end: int) -> None:
    document = await held.put()
    held.store.calls.clear()
    held.keyring.calls.clear()
    with pytest.raises(RangeNotSatisfiable):
        await collect(held.content.read_range(document, start, end))
    assert held.store.calls == held.keyring.calls == []


async def whole(held: Held, document: Document) -> bytes:
    return await collect(held.content.read(document))


async def part(held: Held, document: Document) -> bytes:
    return await collect(held.content.read_range(document, CHUNK_SIZE + 5, CHUNK_SIZE + 10))


READERS = pytest.mark.parametrize("reader", [whole, part])


@READERS
async def test_another_length_is_a_mismatch_before_a_byte_is_read(held: Held, reader: Any) -> None:
    document = await held.put()
    held.store.objects[KEY] = held.store.objects[KEY][:-1]
    with pytest.raises(IntegrityMismatch):
        await reader(held, replace(document, object_etag=None))
    assert held.store.given == 0


@READERS
async def test_another_version_of_the_same_length_is_a_mismatch(held: Held, reader: Any) -> None:
    """An older, perfectly valid envelope of the same document shows by its ETag only."""
    first = await held.put()
    older = held.store.objects[KEY]
    document = await held.put(CLEAR[::-1])
    held.store.objects[KEY] = older
    with pytest.raises(IntegrityMismatch):
        await reader(held, document)
    assert held.store.given == 0
    assert (await reader(held, first)) in CLEAR


@READERS
async def test_an_object_swapped_while_it_is_opened_is_missing(held: Held, reader: Any) -> None:
    document = await held.put()
    original = held.store.stat

    async def stat_then_swap(key: str) -> Any:
        found = await original(key)
        held.store.objects[key] = bytes(len(held.store.objects[key]))
        return found

    held.store.stat = stat_then_swap
    with pytest.raises(ObjectMissing):
        await reader(held, document)


@READERS
async def test_without_a_recorded_etag_that_of_the_moment_is_pinned(held: Held, reader: Any) -> None:
    document = await held.put()
    assert await reader(held, replace(document, object_etag=None)) in CLEAR
    assert {etag for _, _, etag in held.store.reads} == {document.object_etag}


@READERS
async def test_altered_bytes_are_refused(held: Held, reader: Any) -> None:
    document = await held.put()
    for place in (4, 45, 60, HEADER + SEALED_CHUNK_SIZE + 7):
        altered = bytearray(held.store.objects[KEY])
        altered[place] ^= 1
        held.store.objects[KEY] = bytes(altered)
        with pytest.raises((EnvelopeInvalid, WrongKey)):
            await reader(held, replace(document, object_etag=None))
        altered[place] ^= 1
        held.store.objects[KEY] = bytes(altered)


@READERS
async def test_another_documents_key_is_refused(held: Held, reader: Any) -> None:
    document = await held.put()
    with pytest.raises(WrongKey):
        await reader(held, replace(document, id=UUID(int=78)))
    with pytest.raises(WrongKey):
        await reader(held, replace(document, tenant="autre"))


@READERS
@pytest.mark.parametrize("gap", [{"size": None}, {"wrapped_key": None}])
async def test_nothing_to_read_where_nothing_is_stored(held: Held, reader: Any, gap: dict[str, Any]) -> None:
    document = await held.put()
    with pytest.raises(ContentNotAvailable):
        await reader(held, replace(document, **gap))


@READERS
async def test_outages_pass_through(held: Held, reader: Any) -> None:
    document = await held.put()
    held.keyring.away = True
    with pytest.raises(KeyringUnavailable):
        await reader(held, document)
    held.store.away = True
    with pytest.raises(ObjectStoreUnavailable):
        await reader(held, document)


@READERS
async def test_a_missing_object_is_missing(held: Held, reader: Any) -> None:
    document = await held.put()
    await held.content.delete(KEY)
    with pytest.raises(ObjectMissing):
        await reader(held, document)
    await held.content.delete(KEY)


async def test_a_store_that_lies_about_the_length_is_found_out(held: Held) -> None:
    """It says what PostgreSQL expects, and gives a valid envelope of another length."""
    document = await held.put(CLEAR[:1000])
    told = await held.store.stat(KEY)
    assert document.wrapped_key is not None
    context = EncryptionContext("banque", document.id)
    key = await held.keyring.unwrap(document.wrapped_key, context)
    shorter = await held.content.store(key, context, KEY, pieces(CLEAR[:999]))

    async def stat(key: str) -> Any:
        return replace(told, etag=shorter.etag)

    held.store.stat = stat
    with pytest.raises(IntegrityMismatch):
        await collect(held.content.read(replace(document, object_etag=None)))


async def test_a_reading_that_is_left_closes_the_store_s(held: Held) -> None:
    document = await held.put()
    stream = held.content.read(document)
    assert CLEAR.startswith(await anext(stream))
    await stream.aclose()
    assert held.store.closed == 1
    stream = held.content.read_range(document, 0, len(CLEAR))
    await anext(stream)
    await stream.aclose()
    assert held.store.closed == 3


async def test_streams_that_cannot_be_closed_are_fine() -> None:
    """The ports promise iterators, not generators."""

    class Plain:
        def __init__(self, parts: list[bytes]) -> None:
            self._parts = parts

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> bytes:
            if not self._parts:
                raise StopAsyncIteration
            return self._parts.pop(0)

    class PlainStore(MemoryObjectStore):
        def read(self, key: str, **_: Any) -> Plain:
            return Plain([self.objects[key]])

    held = Held()
    held.store = PlainStore()
    held.content = EncryptedContent(held.store, Envelope(), held.keyring)
    document = await held.put(b"small")
    assert await collect(held.content.read(document)) == b"small"


async def test_verify_stored(held: Held) -> None:
    await held.put()
    stored = await held.store.stat(KEY)
    await held.content.verify_stored(stored, len(CLEAR))
    with pytest.raises(IntegrityMismatch):
        await held.content.verify_stored(stored, len(CLEAR) + 1)
    with pytest.raises(IntegrityMismatch):
        await held.content.verify_stored(replace(stored, etag="other"), len(CLEAR))
    await held.content.delete(KEY)
    with pytest.raises(ObjectMissing):
        await held.content.verify_stored(stored, len(CLEAR))


# --- Renditions ------------------------------------------------------------------------------------------------------

IMAGE = CLEAR[:5000]
ROLE = "thumbnail-256"


async def a_rendition(held: Held, document: Document, image: bytes = IMAGE, role: str = ROLE) -> Rendition:
    stored = await held.content.store_rendition(document, role, image)
    return builders.a_rendition(
        document, role=role, object_key=stored.key, size=len(image), object_etag=stored.etag, object_size=stored.size
    )


async def test_a_rendition_comes_back(held: Held) -> None:
    document = await held.put()
    rendition = await a_rendition(held, document)
    assert rendition.object_key.startswith(f"{renditions_prefix(KEY)}{ROLE}.")
    assert await collect(held.content.read_rendition(document, rendition)) == IMAGE
    assert await collect(held.content.read(document)) == CLEAR


async def test_a_rendition_opens_in_its_role_only(held: Held) -> None:
    document = await held.put()
    small, large = await a_rendition(held, document), await a_rendition(held, document, role="thumbnail-1024")
    for wrong in (replace(small, role="content"), replace(large, role=ROLE)):
        with pytest.raises(WrongKey):
            await collect(held.content.read_rendition(document, wrong))


async def test_a_rendition_is_pinned_and_measured_too(held: Held) -> None:
    document = await held.put()
    first = await a_rendition(held, document)
    second = await a_rendition(held, document, IMAGE[::-1])
    with pytest.raises(IntegrityMismatch):
        await collect(held.content.read_rendition(document, replace(first, object_etag=second.object_etag)))
    with pytest.raises(IntegrityMismatch):
        await collect(held.content.read_rendition(document, replace(second, size=4999)))


async def test_a_rendition_stored_later_leaves_the_recorded_one_as_it_is(held: Held) -> None:
    document = await held.put()
    recorded = await a_rendition(held, document)
    await a_rendition(held, document, IMAGE[::-1])
    assert await collect(held.content.read_rendition(document, recorded)) == IMAGE


async def test_all_renditions_go_and_the_content_stays(held: Held) -> None:
    document = await held.put()
    for role in (ROLE, ROLE, "thumbnail-1024"):
        last = await a_rendition(held, document, role=role)
    await held.content.delete_renditions(document, but=[last.object_key])
    assert list(held.store.objects) == [KEY, last.object_key]
    await held.content.delete_renditions(document)
    assert list(held.store.objects) == [KEY]
    assert await collect(held.content.read(document)) == CLEAR


async def test_no_rendition_without_content(held: Held) -> None:
    with pytest.raises(ContentNotAvailable):
        await held.content.store_rendition(a_document(None), ROLE, IMAGE)


async def test_data_keys_are_asked_for_each_time(held: Held) -> None:
    document = await held.put(b"x")
    await collect(held.content.read(document))
    await collect(held.content.read(document))
    assert held.keyring.calls.count("unwrap") == 2
    assert not [v for v in vars(held.content).values() if isinstance(v, DataKey)]
