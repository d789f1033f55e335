"""Envelope format v1: how a document lies encrypted in the object store. ``docs/ENVELOPE.md`` is the format's text.

Header (81 bytes, big-endian): magic ``DPJE`` | version u8 | suite u8 | chunk size u32 | salt 32 | nonce prefix 7 |
key commitment 32. Then the chunks, each AES-256-GCM over at most 1 MiB of clear bytes, its 16-byte tag behind it.
Nonce = prefix | chunk counter u32 | last flag u8; associated data = SHA-256 of the header. The construction is STREAM
(Hoang, Reyhanitabar, Rogaway, Vizár 2015): the flag makes truncation and extension at a chunk boundary show.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.encoding import length_prefixed
from domain.errors import EnvelopeInvalid, WrongKey
from domain.keys import DataKey, EncryptionContext
from domain.refusals import RangeNotSatisfiable

MAGIC = b"DPJE"
VERSION = 1
SUITE = 1  # HKDF-SHA256, AES-256-GCM
CHUNK_SIZE = 1 << 20
TAG_SIZE = 16
SEALED_CHUNK_SIZE = CHUNK_SIZE + TAG_SIZE
SALT_SIZE = 32
PREFIX_SIZE = 7
MAX_CHUNKS = 1 << 32
MAX_CLEAR_SIZE = MAX_CHUNKS * CHUNK_SIZE
FILE_KEY_LABEL = "file-key"
COMMITMENT_LABEL = "key-commitment"

_HEADER = struct.Struct(">4sBBI32s7s32s")
_NONCE = struct.Struct(">7sIB")

_Buffer = bytes | bytearray | memoryview


class Envelope:
    """The Cipher port over format v1. Stateless: one instance serves any number of documents at once.

    ``random(n)`` gives n random bytes; anything but the default exists for the published test vectors only, because a
    salt and prefix that repeat under one key repeat the nonces.
    """

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random

    @property
    def header_size(self) -> int:
        """Bytes before the first chunk."""
        return _HEADER.size

    async def encrypt(
        self, key: DataKey, context: EncryptionContext, clear: AsyncIterable[bytes]
    ) -> AsyncIterator[bytes]:
        """The envelope of ``clear``, whose pieces may be of any size: the header, then one piece per chunk."""
        salt, prefix = self._random(SALT_SIZE), self._random(PREFIX_SIZE)
        file_key, commitment = _derive(key, context, salt)
        header = _HEADER.pack(MAGIC, VERSION, SUITE, CHUNK_SIZE, salt, prefix, commitment)
        chunks = _Chunks(file_key, prefix, header)
        yield header
        counter = 0
        async for chunk, last in _regroup(b"", clear, CHUNK_SIZE):
            yield chunks.seal(chunk, counter, last=last)
            counter += 1

    async def decrypt(
        self, key: DataKey, context: EncryptionContext, sealed: AsyncIterable[bytes]
    ) -> AsyncIterator[bytes]:
        """Clear bytes, a chunk at a time; valid as a whole only once the iterator has ended.

        Raises EnvelopeInvalid (altered, truncated, extended) or WrongKey (another document's, tenant's or role's key).
        """
        source = aiter(sealed)
        head = b""
        async for piece in source:
            head = head + piece if head else piece
            if len(head) >= _HEADER.size:
                break
        chunks = _open(key, context, head[: _HEADER.size])
        counter = 0
        async for chunk, last in _regroup(memoryview(head)[_HEADER.size :], source, SEALED_CHUNK_SIZE):
            clear = chunks.open(chunk, counter, last=last)
            counter += 1
            if clear:
                yield clear

    def sealed_size(self, clear_size: int) -> int:
        """Bytes of the envelope of ``clear_size`` clear bytes. Raises ValueError outside what the format can hold."""
        return _HEADER.size + clear_size + TAG_SIZE * _chunk_count(clear_size)

    def window(self, clear_size: int, start: int, end: int) -> tuple[int, int]:
        """Offset and length, in the sealed object, of the chunks that hold clear bytes ``start`` to ``end`` (excl.).

        Raises RangeNotSatisfiable if the range is empty or outside.
        """
        first, last = _chunks_of(clear_size, start, end)
        offset = _HEADER.size + first * SEALED_CHUNK_SIZE
        stop = min(_HEADER.size + (last + 1) * SEALED_CHUNK_SIZE, self.sealed_size(clear_size))
        return offset, stop - offset

    async def decrypt_window(
        self,
        key: DataKey,
        context: EncryptionContext,
        header: bytes,
        sealed: AsyncIterable[bytes],
        span: tuple[int, int, int],
    ) -> AsyncIterator[bytes]:
        """Clear bytes of ``span`` = (clear size, start, end) from the sealed bytes of its ``window``.

        The clear size is the caller's (PostgreSQL's), so a chunk's last flag is checked against it. Raises
        EnvelopeInvalid, WrongKey or RangeNotSatisfiable.
        """
        clear_size, start, end = span
        first, last = _chunks_of(clear_size, start, end)
        final = _chunk_count(clear_size) - 1
        chunks = _open(key, context, header)
        counter = first
        async for chunk, _ in _regroup(b"", sealed, SEALED_CHUNK_SIZE):
            base = counter * CHUNK_SIZE
            expected = min(CHUNK_SIZE, clear_size - base) + TAG_SIZE
            if counter > last or len(chunk) != expected:
                raise EnvelopeInvalid("The stored range does not have the length of its chunks.")
            clear = chunks.open(chunk, counter, last=counter == final)
            yield clear[max(0, start - base) : end - base]
            counter += 1
        if counter != last + 1:
            raise EnvelopeInvalid("The stored range ends early.")


class _Derived(NamedTuple):
    """What a data key becomes for one envelope."""

    file_key: bytes
    commitment: bytes


class _Chunks:
    """Seals and opens the chunks of one envelope: one AEAD call each."""

    __slots__ = ("_aead", "_associated", "_prefix")

    def __init__(self, file_key: bytes, prefix: bytes, header: bytes) -> None:
        self._aead = AESGCM(file_key)
        self._prefix = prefix
        self._associated = hashlib.sha256(header).digest()

    def seal(self, clear: _Buffer, counter: int, *, last: bool) -> bytes:
        return self._aead.encrypt(self._nonce(counter, last=last), clear, self._associated)

    def open(self, sealed: _Buffer, counter: int, *, last: bool) -> bytes:
        if len(sealed) < TAG_SIZE:
            raise EnvelopeInvalid("The envelope ends inside a chunk.")
        if len(sealed) == TAG_SIZE and counter:
            raise EnvelopeInvalid("Only an empty document may have an empty chunk.")
        try:
            return self._aead.decrypt(self._nonce(counter, last=last), sealed, self._associated)
        except InvalidTag:
            raise EnvelopeInvalid("A chunk does not verify.") from None

    def _nonce(self, counter: int, *, last: bool) -> bytes:
        if counter >= MAX_CHUNKS:
            raise EnvelopeInvalid("The envelope has more chunks than its counter can name.")
        return _NONCE.pack(self._prefix, counter, last)


def _derive(key: DataKey, context: EncryptionContext, salt: bytes) -> _Derived:
    """File key and commitment by HKDF-SHA256. They are ``bytes``: Python can't wipe them, they go with the last reference.

    Spelt out (RFC 5869), because both come of one extraction and are one block long: three HMACs, where two objects of the
    library's cost ten times as much.
    """
    extracted = hmac.digest(salt, key.secret, "sha256")
    return _Derived(*(_expand(extracted, context, label) for label in (FILE_KEY_LABEL, COMMITMENT_LABEL)))


def _expand(extracted: bytes, context: EncryptionContext, label: str) -> bytes:
    info = MAGIC + bytes((VERSION, SUITE)) + length_prefixed(label, *context.fields())
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _open(key: DataKey, context: EncryptionContext, header: bytes) -> _Chunks:
    """Check the header and the key's commitment to it. Raises EnvelopeInvalid or WrongKey."""
    if len(header) != _HEADER.size:
        raise EnvelopeInvalid("The envelope ends inside its header.")
    magic, version, suite, chunk_size, salt, prefix, commitment = _HEADER.unpack(header)
    # Before anything is sized by it: v1 knows one chunk size.
    if (magic, version, suite, chunk_size) != (MAGIC, VERSION, SUITE, CHUNK_SIZE):
        raise EnvelopeInvalid("The header is not that of an envelope of format v1.")
    derived = _derive(key, context, salt)
    if not hmac.compare_digest(derived.commitment, commitment):
        raise WrongKey("The key does not belong to this envelope.")
    return _Chunks(derived.file_key, prefix, header)


def _chunk_count(clear_size: int) -> int:
    if not 0 <= clear_size <= MAX_CLEAR_SIZE:
        raise ValueError("the format holds 0 to 2^52 bytes")
    return max(1, -(-clear_size // CHUNK_SIZE))


def _chunks_of(clear_size: int, start: int, end: int) -> tuple[int, int]:
    """First and last chunk (inclusive) that hold the range."""
    if not 0 <= start < end <= clear_size:
        raise RangeNotSatisfiable(clear_size)
    return start // CHUNK_SIZE, (end - 1) // CHUNK_SIZE


async def _regroup(
    lead: _Buffer, source: AsyncIterable[bytes], size: int
) -> AsyncIterator[tuple[bytearray | memoryview, bool]]:
    """``lead`` and the pieces of ``source`` cut anew: each of exactly ``size`` bytes, the last one 0 to ``size``, flagged.

    What is yielded is good until the next step only: there is one buffer, filled over and over, and pieces that are
    longer than ``size`` pass as views of themselves.
    """
    buffer = bytearray()
    filled = 0
    async for piece in _led(lead, source):
        view = memoryview(piece)
        while view:
            if filled == size:  # more bytes follow, so the full buffer isn't the last
                yield buffer, False
                filled = 0
            if not filled and len(view) > size:
                yield view[:size], False
                view = view[size:]
                continue
            taken = min(size - filled, len(view))
            # Beyond the buffer's end this assignment lets it grow: a small document never allocates a whole chunk.
            buffer[filled : filled + taken] = view[:taken]
            filled += taken
            view = view[taken:]
    yield memoryview(buffer)[:filled], True


async def _led(lead: _Buffer, source: AsyncIterable[bytes]) -> AsyncIterator[_Buffer]:
    if lead:
        yield lead
    async for piece in source:
        yield piece
