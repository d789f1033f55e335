"""A clear data key lives for one operation: whatever ends that wipes the key, and a wiped key serves nobody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from crypto.envelope import Envelope
from domain.documents import Document
from domain.errors import DatabaseUnavailable, IntegrityMismatch, ObjectStoreUnavailable, WrongKey
from domain.keys import DATA_KEY_BYTES, DataKey, EncryptionContext, WrappedKey
from domain.refusals import ChecksumMismatch
from processors.documents.content import EncryptedContent
from processors.resilience.canary_keyring import CanaryCheckedKeyring
from tests.support.fakes_canaries import MemoryCanaries
from tests.support.fakes_content import MemoryKeyring, MemoryObjectStore, a_document, collect, cut
from tests.support.fakes_intake import PDF, IntakeBench

CLEAR = os.urandom(300_000)


class Watched(MemoryKeyring):
    """Remembers every key that it gave away."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[DataKey] = []

    async def new_data_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]:
        key, wrapped = await super().new_data_key(context)
        self.given.append(key)
        return key, wrapped

    async def unwrap(self, wrapped: WrappedKey, context: EncryptionContext) -> DataKey:
        key = await super().unwrap(wrapped, context)
        self.given.append(key)
        return key

    @property
    def alive(self) -> int:
        """Keys that are not wiped."""
        return sum(key._secret is not None for key in self.given)


def test_a_wiped_key_is_gone_from_where_it_lay_and_can_t_be_used() -> None:
    lay = bytearray(os.urandom(DATA_KEY_BYTES))
    key = DataKey(lay)
    assert key.secret is lay
    with key:
        assert lay != bytes(DATA_KEY_BYTES)
    assert lay == bytes(DATA_KEY_BYTES)
    key.wipe()
    with pytest.raises(RuntimeError, match="wiped"):
        _ = key.secret


async def test_a_wiped_key_encrypts_nothing() -> None:
    key = DataKey(os.urandom(DATA_KEY_BYTES))
    key.wipe()
    with pytest.raises(RuntimeError):
        await collect(Envelope().encrypt(key, EncryptionContext("acme", uuid4()), cut(CLEAR, 1000)))


def test_keys_compare_by_their_bytes_and_show_none() -> None:
    secret = os.urandom(DATA_KEY_BYTES)
    assert DataKey(secret) == DataKey(bytearray(secret))
    assert DataKey(secret) != DataKey(os.urandom(DATA_KEY_BYTES))
    assert secret.hex()[:8] not in repr(DataKey(secret))
    assert repr(secret)[2:10] not in repr(DataKey(secret))
    with pytest.raises(TypeError):
        hash(DataKey(secret))
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(secret[:31])


async def stored(content: EncryptedContent) -> Document:
    document = a_document(len(CLEAR), id=uuid4(), object_key=f"documents/{uuid4()}")
    key, wrapped = await content.new_key(EncryptionContext(document.tenant, document.id))
    with key:
        made = await content.store(
            key, EncryptionContext(document.tenant, document.id), document.object_key, cut(CLEAR, 7000)
        )
    return replace(document, wrapped_key=wrapped, object_etag=made.etag, object_size=made.size)


async def test_reading_wipes_its_key_however_it_ends() -> None:
    keyring = Watched()
    content = EncryptedContent(MemoryObjectStore(), Envelope(), keyring)
    document = await stored(content)
    assert await collect(content.read(document)) == CLEAR
    assert await collect(content.read_range(document, 10, 20)) == CLEAR[10:20]
    await content.store_rendition(document, "thumbnail-256", b"small")
    assert keyring.alive == 0
    pieces: AsyncIterator[bytes] = content.read(document)
    await anext(pieces)
    assert keyring.alive == 1
    await pieces.aclose()
    assert keyring.alive == 0
    with pytest.raises(WrongKey):
        await collect(content.read(replace(document, tenant="other")))
    with pytest.raises(IntegrityMismatch):
        await collect(content.read(replace(document, object_etag="other")))
    assert keyring.alive == 0


async def test_what_vouches_for_a_keyring_is_wiped() -> None:
    inner = Watched()
    keyring = CanaryCheckedKeyring(inner, MemoryCanaries())
    key, _ = await keyring.new_data_key(EncryptionContext("acme", uuid4()))
    await keyring.check()
    assert inner.alive == 1
    key.wipe()
    canaries = MemoryCanaries()
    canaries.away = True
    inner = Watched()
    other = CanaryCheckedKeyring(inner, canaries)
    with pytest.raises(DatabaseUnavailable):
        await other.new_data_key(EncryptionContext("acme", uuid4()))
    assert inner.alive == 0


async def test_an_upload_wipes_its_key_however_it_ends() -> None:
    bench, keyring = IntakeBench(), Watched()
    bench.content._keyring = keyring
    await bench.receive()
    bench.objects.fail_puts = 1
    with pytest.raises(ObjectStoreUnavailable):
        await bench.receive()
    with pytest.raises(ChecksumMismatch):
        await bench.receive(sha256="0" * 64)

    async def hangs() -> AsyncIterator[bytes]:
        yield PDF
        await asyncio.Event().wait()

    vanishing = asyncio.create_task(bench.receive(hangs()))
    async with asyncio.timeout(5):
        while keyring.alive == 0:
            await asyncio.sleep(0.01)
    vanishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await vanishing
    assert len(keyring.given) == 4
    assert keyring.alive == 0
