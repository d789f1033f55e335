"""Envelope encryption beside the AWS Encryption SDK with a raw AES keyring: same bytes, same cipher, key commitment on."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Any, Final, Protocol
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.measurement import RoundValues, alternate, ratio_of
from benchmarks.report import BenchReport, Cell, Chart, Ratio
from benchmarks.site import BenchSite
from crypto.envelope import CHUNK_SIZE, TAG_SIZE, Envelope
from domain.keys import DataKey, EncryptionContext

MEGABYTE: Final = 1_000_000
SIZES: Final = {"100 KB": 100_000, "1 MB": MEGABYTE, "100 MB": 100 * MEGABYTE}
GOAL: Final = 5.0
#: Bytes that one round handles at least, in documents of the size measured.
ROUND_BYTES: Final = 30 * MEGABYTE
#: What one step takes in: a body as the API's server hands it on.
PIECE: Final = 64 * 1024
OURS: Final = "DPJ"
SDK: Final = "SDK"
SDK_LARGE: Final = "SDK, 1 MiB"
CEILING: Final = "AES-GCM"
NAMES: Final = (OURS, SDK, SDK_LARGE, CEILING)
#: The SDK's own default, and a frame as large as our chunk.
FRAMES: Final = {SDK: 4096, SDK_LARGE: 1 << 20}
METHOD: Final = (
    """One document in memory is streamed through again and again, pieces of what comes out are dropped; one process, MB (1,000,000
        bytes) per second of its processor time.""",
    """Both use AES-256-GCM under a fresh data key per document, with key commitment. The SDK wraps that key with its raw AES
        keyring; ours is wrapped outside of the envelope (by Vault, in batches), so that work is not in our figure.""",
    """The SDK's suite is AES_256_GCM_HKDF_SHA512_COMMIT_KEY (no signature, as ours), commitment required on both ways; once
        with its default frames of 4 KiB, which the goal is about, once with frames of 1 MiB, the size of our chunks.""",
    """AES-GCM is the bare cipher, one call per MiB: the ceiling of this core.""",
)
_CONTEXT: Final = EncryptionContext("bench", UUID(int=1))


Key = DataKey | None
Sink = Callable[[bytes | memoryview], object]


class EnvelopeContestant(Protocol):
    """Makes and opens an envelope piece by piece, with a data key of its own for each; pieces are given to ``sink``."""

    async def encrypt(self, clear: bytes, sink: Sink) -> Key: ...

    async def decrypt(self, key: Key, sealed: bytes, sink: Sink) -> None: ...


class OurEnvelope:
    """Our cipher, fed in pieces as the API's server and the object store hand them on."""

    def __init__(self) -> None:
        self._envelope = Envelope()

    async def encrypt(self, clear: bytes, sink: Sink) -> Key:
        key = DataKey(os.urandom(32))
        async for piece in self._envelope.encrypt(key, _CONTEXT, _pieces(clear)):
            sink(piece)
        return key

    async def decrypt(self, key: Key, sealed: bytes, sink: Sink) -> None:
        if key is None:
            raise ValueError("our envelope is opened with its key")
        async for piece in self._envelope.decrypt(key, _CONTEXT, _pieces(sealed)):
            sink(piece)


class Sdk:
    """The SDK with commitment required on both ways and a suite that does not sign, as ours does not."""

    def __init__(self, frame: int) -> None:
        from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
        from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
        from aws_cryptographic_material_providers.mpl.models import AesWrappingAlg, CreateRawAesKeyringInput
        from aws_encryption_sdk import EncryptionSDKClient
        from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy

        providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
        ring = CreateRawAesKeyringInput(
            key_namespace="bench",
            key_name="bench",
            wrapping_key=os.urandom(32),
            wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
        )
        self._client = EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
        self._how: dict[str, Any] = {
            "keyring": providers.create_raw_aes_keyring(ring),
            "encryption_context": {"tenant": "bench", "document_id": str(_CONTEXT.document_id), "role": "content"},
        }
        self._suite = {"algorithm": Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY, "frame_length": frame}
        # What one step reads: a whole frame, and no less than ours is fed with.
        self._piece = max(frame, PIECE)

    async def encrypt(self, clear: bytes, sink: Sink) -> Key:
        self._through(clear, sink, mode="e", **self._suite)
        return None

    async def decrypt(self, key: Key, sealed: bytes, sink: Sink) -> None:  # noqa: ARG002 - its envelope holds the key
        self._through(sealed, sink, mode="d")

    def _through(self, data: bytes, sink: Sink, **how: Any) -> None:
        with self._client.stream(source=BytesIO(data), **self._how, **how) as stream:
            while piece := stream.read(self._piece):
                sink(piece)


class Ceiling:
    """The cipher alone, one call per chunk of 1 MiB into one buffer: what no envelope can outrun on this core."""

    def __init__(self) -> None:
        self._aead = AESGCM(os.urandom(32))
        self._buffer = bytearray(CHUNK_SIZE + TAG_SIZE)

    async def encrypt(self, clear: bytes, sink: Sink) -> Key:
        for number, start in enumerate(range(0, len(clear), CHUNK_SIZE)):
            chunk = memoryview(clear)[start : start + CHUNK_SIZE]
            count = self._aead.encrypt_into(_nonce(number), chunk, None, self._out(len(chunk) + TAG_SIZE))
            sink(self._out(count))
        return None

    async def decrypt(self, key: Key, sealed: bytes, sink: Sink) -> None:  # noqa: ARG002 - it has its own
        step = CHUNK_SIZE + TAG_SIZE
        for number, start in enumerate(range(0, len(sealed), step)):
            chunk = memoryview(sealed)[start : start + step]
            count = self._aead.decrypt_into(_nonce(number), chunk, None, self._out(len(chunk) - TAG_SIZE))
            sink(self._out(count))

    def _out(self, count: int) -> memoryview:
        return memoryview(self._buffer)[:count]


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


async def run(site: BenchSite, quick: bool) -> BenchReport:  # noqa: ARG001 - needs no server
    """Encrypt and decrypt at each size, in turn."""
    peers: dict[str, EnvelopeContestant] = {name: Sdk(frame) for name, frame in FRAMES.items()}
    contestants: dict[str, EnvelopeContestant] = {OURS: OurEnvelope(), **peers, CEILING: Ceiling()}
    rows: list[tuple[Cell, ...]] = []
    found: dict[str, dict[str, RoundValues]] = {}
    for size, count in SIZES.items():
        clear = os.urandom(count)
        for way, figures in (await _measure(contestants, clear, rounds=3 if quick else 7)).items():
            label = f"{way} {size}"
            found[label] = figures
            for name, sample in figures.items():
                times = ratio_of(figures[OURS], sample)
                rows.append((label, name, sample.median, str(sample), None if name == OURS else times.median))
    return _report(rows, found)


async def _measure(
    contestants: Mapping[str, EnvelopeContestant], clear: bytes, *, rounds: int
) -> dict[str, dict[str, RoundValues]]:
    """MB/s of both ways for one size."""
    repeats = max(1, ROUND_BYTES // len(clear))
    encrypting: dict[str, Callable[[], Awaitable[float]]] = {}
    decrypting: dict[str, Callable[[], Awaitable[float]]] = {}
    for name, one in contestants.items():
        sealed, opened = bytearray(), bytearray()
        key = await one.encrypt(clear, sealed.extend)
        await one.decrypt(key, bytes(sealed), opened.extend)
        if opened != clear:
            raise ValueError(f"{name} does not give back what went in")
        encrypting[name] = partial(_rate, partial(one.encrypt, clear, _drop), repeats, len(clear))
        decrypting[name] = partial(_rate, partial(one.decrypt, key, bytes(sealed), _drop), repeats, len(clear))
    return {"encrypt": await alternate(encrypting, rounds), "decrypt": await alternate(decrypting, rounds)}


async def _rate(work: Callable[[], Awaitable[object]], repeats: int, size: int) -> float:
    """MB per second of processor time: what other programs do meanwhile does not count."""
    began = time.process_time()
    for _ in range(repeats):
        await work()
    return repeats * size / MEGABYTE / (time.process_time() - began)


def _drop(_: bytes | memoryview) -> None:
    """Where pieces go while the clock runs."""


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def _report(rows: list[tuple[Cell, ...]], found: Mapping[str, Mapping[str, RoundValues]]) -> BenchReport:
    ratios = [
        Ratio(
            name=f"envelope, {label}: against the SDK",
            value=ratio_of(figures[OURS], figures[SDK]).median,
            goal=GOAL,
        )
        for label, figures in found.items()
    ]
    return BenchReport(
        name="envelope",
        title="Envelope encryption, MB/s per core",
        method=METHOD,
        columns=("what", "who", "MB/s", "lowest - highest", "ours / it"),
        rows=tuple(rows),
        ratios=tuple(ratios),
        notes=_notes(found),
        chart=Chart(
            title="Envelope encryption",
            unit="MB/s per core, more is better",
            categories=tuple(found),
            series={name: tuple(figures[name].median for figures in found.values()) for name in NAMES},
            spread={name: tuple(figures[name].spread for figures in found.values()) for name in NAMES},
        ),
    )


def _notes(found: Mapping[str, Mapping[str, RoundValues]]) -> tuple[str, ...]:
    least = min(ratio_of(figures[OURS], figures[SDK_LARGE]).median for figures in found.values())
    return (
        f"""Set to frames of 1 MiB, the SDK comes closer: ours is {least:.1f} times as fast where it is closest. At 100 MB both are
        then bound by the cipher and by memory: five times the SDK would be more than the cipher itself does.""",
    )
