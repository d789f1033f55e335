"""Whatever the sizes and the cuts, what comes out is what went in, and a range is a slice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from functools import cache
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.envelope import CHUNK_SIZE, Envelope
from domain.errors import EnvelopeInvalid, WrongKey
from domain.keys import DataKey, EncryptionContext
from tests.support.fakes_content import collect, pieces

CONTEXT = EncryptionContext("banque", UUID(int=7))
KEY = DataKey(bytes(range(32)))
FIXED = {32: b"s" * 32, 7: b"p" * 7}
LARGE = random.Random(20).randbytes(4 * CHUNK_SIZE + 777)
EDGES = sorted(
    {n * CHUNK_SIZE + d for n in range(5) for d in (-2, -1, 0, 1, 2) if n * CHUNK_SIZE + d >= 0} | {len(LARGE)}
)

sizes = st.one_of(st.integers(0, 3000), st.sampled_from([e for e in EDGES if e <= 2 * CHUNK_SIZE + 2]))
places = st.one_of(st.sampled_from(EDGES), st.integers(0, len(LARGE)))


def split(content: bytes, seed: int) -> AsyncIterator[bytes]:
    """The content in pieces of sizes from one byte (and none) to more than a chunk, the same for the same seed."""
    generator, parts, at = random.Random(seed), [], 0
    while at < len(content):
        size = generator.choice([0, 1, 16, 81, 4096, 65_536, 300_000, CHUNK_SIZE, CHUNK_SIZE + 16, 2_500_000])
        parts.append(content[at : at + size])
        at += size
    return pieces(*parts)


@settings(max_examples=60, deadline=None)
@given(size=sizes, inward=st.integers(), outward=st.integers())
def test_any_cut_gives_the_same_envelope_and_the_same_clear_bytes(size: int, inward: int, outward: int) -> None:
    async def check() -> None:
        clear = LARGE[:size]
        whole = await collect(Envelope(random=FIXED.__getitem__).encrypt(KEY, CONTEXT, pieces(clear)))
        sealed = await collect(Envelope(random=FIXED.__getitem__).encrypt(KEY, CONTEXT, split(clear, inward)))
        assert sealed == whole
        assert len(sealed) == Envelope().sealed_size(size)
        assert await collect(Envelope().decrypt(KEY, CONTEXT, split(sealed, outward))) == clear

    asyncio.run(check())


@cache
def sealed_large() -> bytes:
    """Not a fixture: Hypothesis would print all of it beside an example."""
    return asyncio.run(collect(Envelope().encrypt(KEY, CONTEXT, pieces(LARGE))))


@settings(max_examples=80, deadline=None)
@given(one=places, other=places, cutting=st.integers())
def test_a_range_is_a_slice(one: int, other: int, cutting: int) -> None:
    start, end = min(one, other), max(one, other)
    end += start == end
    if end > len(LARGE):
        start, end = start - 1, end - 1

    sealed = sealed_large()

    async def check() -> None:
        envelope = Envelope()
        offset, length = envelope.window(len(LARGE), start, end)
        assert length <= ((end - start) // CHUNK_SIZE + 2) * (CHUNK_SIZE + 16)
        header, part = sealed[: envelope.header_size], sealed[offset : offset + length]
        assert len(part) == length
        clear = envelope.decrypt_window(KEY, CONTEXT, header, split(part, cutting), (len(LARGE), start, end))
        assert await collect(clear) == LARGE[start:end]

    asyncio.run(check())


@settings(max_examples=100, deadline=None)
@given(clear=st.binary(max_size=300), data=st.data())
def test_altered_envelopes_are_refused(clear: bytes, data: st.DataObject) -> None:
    """Bytes replaced, removed or put in anywhere."""

    async def check() -> None:
        sealed = await collect(Envelope().encrypt(KEY, CONTEXT, pieces(clear)))
        begin = data.draw(st.integers(0, len(sealed)))
        end = data.draw(st.integers(begin, min(len(sealed), begin + 40)))
        altered = sealed[:begin] + data.draw(st.binary(max_size=40)) + sealed[end:]
        if altered != sealed:
            with pytest.raises((EnvelopeInvalid, WrongKey)):
                await collect(Envelope().decrypt(KEY, CONTEXT, pieces(altered)))

    asyncio.run(check())
