"""The one pass over an upload: what it counts and hashes, short and long."""

from __future__ import annotations

import hashlib
import random
import sys

import pytest

from domain.refusals import FileTooLarge
from processors.documents import hashing_upload_stream
from processors.documents.hashing_upload_stream import HashingUploadStream
from processors.documents.upload_attempts import UploadLease
from tests.support.fakes_content import collect, cut

CONTENT = random.Random(5).randbytes(10_000)


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing_upload_stream, "THREADED_FROM_BYTES", 1000)
    monkeypatch.setattr(hashing_upload_stream, "HASH_BATCH_BYTES", 300)


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 1299, 1300, 1301, 10_000])
@pytest.mark.parametrize("piece", [7, 100, 300, 1000, 10_000])
@pytest.mark.parametrize("head", [0, 50])
async def test_everything_passes_and_is_hashed_in_its_order(size: int, piece: int, head: int) -> None:
    content = CONTENT[:size]
    passed = HashingUploadStream(cut(content, piece), 10_000, UploadLease())
    if head:
        assert await passed.head(head) == content[:head]
    assert await collect(passed.chunks()) == content
    assert passed.size == size
    assert passed.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("piece", [1, 7, 100, 10_000])
@pytest.mark.parametrize("size", [1, 63, 64, 65, 129, 5_000])
@pytest.mark.parametrize("padding", [b"", b"\0" * 3_000, b" \r\n" * 50])
async def test_the_tail_is_the_last_bytes_without_padding(size: int, piece: int, padding: bytes) -> None:
    content = bytes(byte | 0x80 for byte in CONTENT[:size])
    passed = HashingUploadStream(cut(content + padding, piece), 10_000, UploadLease(), tail_wanted=64)
    await passed.head(8)
    await collect(passed.chunks())
    assert passed.tail == content[-64:]


async def test_no_more_is_kept_for_the_tail_than_twice_as_much() -> None:
    passed = HashingUploadStream(cut(CONTENT, 1), 10_000, UploadLease(), tail_wanted=64)
    largest = 0
    async for _ in passed.chunks():
        largest = max(largest, sys.getsizeof(passed._tail))
    assert largest < 4 * 64


async def test_what_is_too_long_ends_beside_the_loop_too() -> None:
    passed = HashingUploadStream(cut(CONTENT, 100), 5000, UploadLease())
    with pytest.raises(FileTooLarge):
        await collect(passed.chunks())
    assert passed.size == 5100
