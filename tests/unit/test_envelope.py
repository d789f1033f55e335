"""The envelope refuses whatever is not exactly what was sealed, and its code and its published format are one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.envelope import CHUNK_SIZE, MAX_CHUNKS, SEALED_CHUNK_SIZE, Envelope, _Chunks
from domain.errors import EnvelopeInvalid, WrongKey
from domain.keys import DataKey, EncryptionContext
from domain.refusals import RangeNotSatisfiable
from tests.support.fakes_content import collect, cut, pieces

HEADER = 81
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "envelope-v1.json").read_text("utf-8")
)["vectors"]
DOCUMENT = UUID("6f1f6c3e-0c1b-4c38-9a55-3b1d5f0b7a01")
CONTEXT = EncryptionContext("banque", DOCUMENT)
KEY = DataKey(bytes(range(32)))
SMALL = bytes(range(97))


def patterned(size: int) -> bytes:
    return (bytes((i * 7 + 3) % 251 for i in range(251)) * (size // 251 + 1))[:size]


async def seal(clear: bytes, key: DataKey = KEY, context: EncryptionContext = CONTEXT) -> bytes:
    return await collect(Envelope().encrypt(key, context, pieces(clear)))


async def unseal(sealed: bytes, key: DataKey = KEY, context: EncryptionContext = CONTEXT) -> bytes:
    return await collect(Envelope().decrypt(key, context, cut(sealed, 300_000)))


@pytest.fixture(scope="module")
def three_chunks() -> tuple[bytes, bytes]:
    """Clear and sealed bytes of two full chunks and a short one."""
    clear = patterned(2 * CHUNK_SIZE + 1000)
    return clear, asyncio.run(seal(clear))


def bounds(sealed: bytes) -> list[int]:
    """Where the chunks of an envelope begin, and its end."""
    return [*range(HEADER, len(sealed), SEALED_CHUNK_SIZE), len(sealed)]


# --- A second implementation, from docs/ENVELOPE.md alone ------------------------------------------------------------


def independent_hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, for one block of output."""
    extracted = hmac.digest(salt, key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def independent_info(label: str, context: dict[str, str]) -> bytes:
    texts = [label, context["tenant"], context["document_id"], context["role"]]
    return b"DPJE\x01\x01" + b"".join(struct.pack(">H", len(t.encode())) + t.encode() for t in texts)


def independent_seal(key: bytes, context: dict[str, str], salt: bytes, prefix: bytes, clear: bytes) -> bytes:
    commitment = independent_hkdf(key, salt, independent_info("key-commitment", context))
    header = b"DPJE" + b"\x01" + b"\x01" + (1048576).to_bytes(4, "big") + salt + prefix + commitment
    aead = AESGCM(independent_hkdf(key, salt, independent_info("file-key", context)))
    associated = hashlib.sha256(header).digest()
    chunks = [clear[i : i + 1048576] for i in range(0, len(clear), 1048576)] or [b""]
    sealed = [header]
    for number, chunk in enumerate(chunks):
        last = b"\x01" if number == len(chunks) - 1 else b"\x00"
        sealed.append(aead.encrypt(prefix + number.to_bytes(4, "big") + last, chunk, associated))
    return b"".join(sealed)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
async def test_published_vectors(vector: dict[str, Any]) -> None:
    named = vector["context"]
    context = EncryptionContext(named["tenant"], UUID(named["document_id"]), named["role"])
    key, salt, prefix = (bytes.fromhex(vector[name]) for name in ("key", "salt", "nonce_prefix"))
    clear = patterned(vector["clear_size"])
    assert hashlib.sha256(clear).hexdigest() == vector["clear_sha256"]

    given = {32: salt, 7: prefix}
    sealed = await collect(Envelope(random=given.__getitem__).encrypt(DataKey(key), context, cut(clear, 70_001)))

    assert hashlib.sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert len(sealed) == vector["sealed_size"] == Envelope().sealed_size(len(clear))
    assert vector.get("sealed", sealed.hex()) == sealed.hex()
    assert independent_seal(key, named, salt, prefix, clear) == sealed
    assert await collect(Envelope().decrypt(DataKey(key), context, cut(sealed, 99_999))) == clear


def test_vectors_cover_the_edges() -> None:
    sizes = {v["clear_size"] for v in VECTORS}
    assert {0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE} <= sizes
    assert all("sealed" in v for v in VECTORS if v["clear_size"] < 2000)


# --- What must be refused --------------------------------------------------------------------------------------------


async def test_every_flipped_byte_is_refused() -> None:
    sealed = await seal(SMALL)
    assert await unseal(sealed) == SMALL
    for place in range(len(sealed)):
        for bit in (0x01, 0x80):
            altered = bytearray(sealed)
            altered[place] ^= bit
            with pytest.raises((EnvelopeInvalid, WrongKey)):
                await unseal(bytes(altered))


async def test_flipped_byte_in_each_chunk_is_refused_and_releases_nothing_of_it(
    three_chunks: tuple[bytes, bytes],
) -> None:
    clear, sealed = three_chunks
    for number, (begin, end) in enumerate(pairwise(bounds(sealed))):
        for place in (begin, (begin + end) // 2, end - 1):
            altered = bytearray(sealed)
            altered[place] ^= 0x10
            released = bytearray()

            async def gather(altered: bytes = bytes(altered), released: bytearray = released) -> None:
                async for piece in Envelope().decrypt(KEY, CONTEXT, cut(altered, 123_457)):
                    released.extend(piece)

            with pytest.raises(EnvelopeInvalid):
                await gather()
            assert released == clear[: number * CHUNK_SIZE]


async def test_truncation_is_refused(three_chunks: tuple[bytes, bytes]) -> None:
    _, sealed = three_chunks
    cuts = {0, 1, HEADER - 1, *(b + d for b in bounds(sealed) for d in (-1, 0, 1, 15, 16, 17) if b + d < len(sealed))}
    for length in sorted(cuts):
        with pytest.raises(EnvelopeInvalid):
            await unseal(sealed[:length])


async def test_every_truncation_of_a_small_envelope_is_refused() -> None:
    sealed = await seal(SMALL)
    for length in range(len(sealed)):
        with pytest.raises(EnvelopeInvalid):
            await unseal(sealed[:length])


@pytest.mark.parametrize("size", [0, 1, 97, CHUNK_SIZE, 2 * CHUNK_SIZE])
@pytest.mark.parametrize("extra", [1, 15, 16, 17, SEALED_CHUNK_SIZE])
async def test_extension_is_refused(size: int, extra: int) -> None:
    sealed = await seal(patterned(size))
    with pytest.raises(EnvelopeInvalid):
        await unseal(sealed + bytes(extra))
    with pytest.raises(EnvelopeInvalid):
        await unseal(sealed + sealed[-extra:])


async def test_moved_repeated_and_missing_chunks_are_refused() -> None:
    sealed = await seal(patterned(4 * CHUNK_SIZE))
    header = sealed[:HEADER]
    chunks = [sealed[begin:end] for begin, end in pairwise(bounds(sealed))]
    a, b, c, d = chunks
    for order in (
        [b, a, c, d],
        [a, c, b, d],
        [a, b, d, c],
        [a, a, b, c, d],
        [a, b, c, d, d],
        [a, c, d],
        [b, c, d],
        [d],
    ):
        with pytest.raises(EnvelopeInvalid):
            await unseal(header + b"".join(order))


async def test_chunk_of_another_envelope_of_the_same_key_is_refused() -> None:
    clear = patterned(2 * CHUNK_SIZE)
    first, second = await seal(clear), await seal(clear)
    with pytest.raises(EnvelopeInvalid):
        await unseal(first[: HEADER + SEALED_CHUNK_SIZE] + second[HEADER + SEALED_CHUNK_SIZE :])


async def test_only_an_empty_document_has_an_empty_chunk() -> None:
    assert await unseal(await seal(b"")) == b""
    salt, prefix = bytes(32), bytes(7)
    context = {"tenant": CONTEXT.tenant, "document_id": str(DOCUMENT), "role": CONTEXT.role}
    header = independent_seal(KEY.secret, context, salt, prefix, b"")[:HEADER]
    aead = AESGCM(independent_hkdf(KEY.secret, salt, independent_info("file-key", context)))
    associated = hashlib.sha256(header).digest()
    full = aead.encrypt(prefix + bytes(4) + b"\x00", bytes(CHUNK_SIZE), associated)
    empty = aead.encrypt(prefix + b"\x00\x00\x00\x01\x01", b"", associated)
    with pytest.raises(EnvelopeInvalid, match="empty"):
        await unseal(header + full + empty)


@pytest.mark.parametrize(
    ("offset", "replacement"),
    [
        (0, b"DPJF"),
        (4, b"\x00"),
        (4, b"\x02"),
        (5, b"\x02"),
        (6, b"\xff\xff\xff\xff"),
        (6, b"\0\0\0\0"),
        (6, b"\0\x10\0\1"),
    ],
)
async def test_other_headers_are_refused_before_anything_is_sized_by_them(offset: int, replacement: bytes) -> None:
    sealed = bytearray(await seal(SMALL))
    sealed[offset : offset + len(replacement)] = replacement
    with pytest.raises(EnvelopeInvalid, match="format v1"):
        await unseal(bytes(sealed))


@pytest.mark.parametrize(
    "other",
    [
        EncryptionContext("autre", DOCUMENT),
        EncryptionContext("banque", UUID(int=1)),
        EncryptionContext("banque", DOCUMENT, "thumbnail-256"),
        EncryptionContext("banqu", DOCUMENT, "e"),
    ],
)
async def test_another_context_is_refused_by_the_commitment(other: EncryptionContext) -> None:
    with pytest.raises(WrongKey):
        await unseal(await seal(SMALL), context=other)


async def test_another_key_is_refused_by_the_commitment() -> None:
    with pytest.raises(WrongKey):
        await unseal(await seal(SMALL), key=DataKey(bytes(32)))


def test_the_counter_never_wraps() -> None:
    chunks = _Chunks(bytes(32), bytes(7), bytes(HEADER))
    last = chunks.seal(b"x", MAX_CHUNKS - 1, last=True)
    assert chunks.open(last, MAX_CHUNKS - 1, last=True) == b"x"
    with pytest.raises(EnvelopeInvalid, match="counter"):
        chunks.seal(b"x", MAX_CHUNKS, last=True)
    with pytest.raises(EnvelopeInvalid, match="counter"):
        chunks.open(last, MAX_CHUNKS, last=True)


# --- What must hold --------------------------------------------------------------------------------------------------


async def test_salt_and_prefix_are_new_each_time() -> None:
    first, second = await seal(SMALL), await seal(SMALL)
    assert first[10:42] != second[10:42]
    assert first[42:49] != second[42:49]


def test_sizes() -> None:
    envelope = Envelope()
    assert envelope.header_size == HEADER
    assert envelope.sealed_size(0) == HEADER + 16
    assert envelope.sealed_size(CHUNK_SIZE) == HEADER + CHUNK_SIZE + 16
    assert envelope.sealed_size(CHUNK_SIZE + 1) == HEADER + CHUNK_SIZE + 1 + 32
    assert envelope.sealed_size(1 << 52) == HEADER + (1 << 52) + 16 * MAX_CHUNKS
    for impossible in (-1, (1 << 52) + 1):
        with pytest.raises(ValueError, match="holds"):
            envelope.sealed_size(impossible)


def test_secrets_are_not_in_reprs() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in repr(KEY)


# --- Ranges: refusals (that ranges equal slices is in tests/property) -------------------------------------------------


async def window_of(sealed: bytes, clear_size: int, start: int, end: int, *, clip: slice = slice(None)) -> bytes:
    envelope = Envelope()
    offset, length = envelope.window(clear_size, start, end)
    part = sealed[offset : offset + length][clip]
    span = (clear_size, start, end)
    return await collect(envelope.decrypt_window(KEY, CONTEXT, sealed[:HEADER], cut(part, 400_000), span))


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 5), (5, 4), (-1, 3), (0, 98), (97, 98)])
async def test_ranges_outside_are_not_satisfiable(start: int, end: int) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        await window_of(await seal(SMALL), len(SMALL), start, end)
    assert caught.value.size == len(SMALL)


@pytest.mark.parametrize("clip", [slice(0), slice(0, -1), slice(1, None), slice(0, SEALED_CHUNK_SIZE)])
async def test_window_of_another_length_is_refused(three_chunks: tuple[bytes, bytes], clip: slice) -> None:
    clear, sealed = three_chunks
    with pytest.raises(EnvelopeInvalid):
        await window_of(sealed, len(clear), 10, CHUNK_SIZE + 10, clip=clip)


async def test_window_with_a_chunk_too_many_is_refused(three_chunks: tuple[bytes, bytes]) -> None:
    clear, sealed = three_chunks
    envelope = Envelope()
    span = (len(clear), 0, 10)
    with pytest.raises(EnvelopeInvalid):
        await collect(envelope.decrypt_window(KEY, CONTEXT, sealed[:HEADER], pieces(sealed[HEADER:]), span))


async def test_window_checks_the_last_flag_against_the_size(three_chunks: tuple[bytes, bytes]) -> None:
    """A size that makes an inner chunk the last one, or the last one an inner one, opens nothing."""
    clear, sealed = three_chunks
    with pytest.raises(EnvelopeInvalid):
        await window_of(sealed, 2 * CHUNK_SIZE, CHUNK_SIZE, CHUNK_SIZE + 5)
    full = await seal(patterned(CHUNK_SIZE))
    with pytest.raises(EnvelopeInvalid):
        await window_of(full, CHUNK_SIZE + 5, 0, 5)
    assert await window_of(sealed, len(clear), CHUNK_SIZE, CHUNK_SIZE + 5) == clear[CHUNK_SIZE : CHUNK_SIZE + 5]


async def test_window_with_another_key_or_header_is_refused(three_chunks: tuple[bytes, bytes]) -> None:
    clear, sealed = three_chunks
    envelope, span = Envelope(), (len(clear), 0, 5)
    chunk = sealed[HEADER : HEADER + SEALED_CHUNK_SIZE]
    with pytest.raises(WrongKey):
        await collect(envelope.decrypt_window(DataKey(bytes(32)), CONTEXT, sealed[:HEADER], pieces(chunk), span))
    with pytest.raises(EnvelopeInvalid):
        await collect(envelope.decrypt_window(KEY, CONTEXT, sealed[: HEADER - 1], pieces(chunk), span))
