"""docs/ENVELOPE.md, "Envelope format v1" to "Sealed texts"."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import stat
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .forms import Refused, aead_open, fields, of_base64url, of_padded

# --- envelope --------------------------------------------------------------------------------------------------------

HEADER = 81
CHUNK = 1_048_576
TAG = 16
CONTENT = "content"


@dataclass(frozen=True)
class Context:
    """What an envelope or a wrapped key is bound to."""

    tenant: str
    document_id: str
    role: str = CONTENT


def sealed_size(clear: int) -> int:
    return HEADER + clear + TAG * max(1, -(-clear // CHUNK))


def open_envelope(sealed: bytes, key: bytes, context: Context) -> bytes:
    """The whole document. Raises Refused."""
    header, body = sealed[:HEADER], sealed[HEADER:]
    chunks = [body[at : at + CHUNK + TAG] for at in range(0, len(body), CHUNK + TAG)] or [b""]
    return b"".join(
        _open_chunk(header, key, context, chunk, number, last=number == len(chunks) - 1)
        for number, chunk in enumerate(chunks)
    )


def open_range(
    read: Callable[[int, int], bytes], size: int, key: bytes, context: Context, start: int, end: int
) -> bytes:
    """Clear bytes ``start`` to ``end`` (excl.) of a document of ``size``; ``read(offset, length)`` reads the object."""
    header, clear = read(0, HEADER), b""
    final = max(1, -(-size // CHUNK)) - 1
    for number in range(start // CHUNK, (end - 1) // CHUNK + 1):
        length = min(CHUNK, size - number * CHUNK) + TAG
        chunk = read(HEADER + number * (CHUNK + TAG), length)
        clear += _open_chunk(header, key, context, chunk, number, last=number == final)
    base = start // CHUNK * CHUNK
    return clear[start - base : end - base]


def seal_envelope(clear: bytes, key: bytes, context: Context, salt: bytes, prefix: bytes) -> bytes:
    """``salt`` of 32 and ``prefix`` of 7 bytes are random wherever the result is not compared with a vector."""
    begin = b"DPJE" + bytes([1, 1]) + CHUNK.to_bytes(4, "big") + salt + prefix
    header = begin + _derived(key, context, salt, "key-commitment")
    aead, pieces = AESGCM(_derived(key, context, salt, "file-key")), range(0, len(clear), CHUNK) or range(1)
    chunks = [
        aead.encrypt(_nonce(prefix, number, last=number == len(pieces) - 1), clear[at : at + CHUNK], _digest(header))
        for number, at in enumerate(pieces)
    ]
    return header + b"".join(chunks)


def _open_chunk(header: bytes, key: bytes, context: Context, chunk: bytes, number: int, *, last: bool) -> bytes:
    if len(header) != HEADER or header[:10] != b"DPJE" + bytes([1, 1]) + CHUNK.to_bytes(4, "big"):
        raise Refused("not a header of format v1")
    salt, prefix, commitment = header[10:42], header[42:49], header[49:81]
    if not hmac.compare_digest(_derived(key, context, salt, "key-commitment"), commitment):
        raise Refused("wrong key")
    if len(chunk) < TAG or (len(chunk) == TAG and number):
        raise Refused("not a chunk")
    try:
        return AESGCM(_derived(key, context, salt, "file-key")).decrypt(
            _nonce(prefix, number, last=last), chunk, _digest(header)
        )
    except InvalidTag:
        raise Refused("a chunk does not verify") from None


def _derived(key: bytes, context: Context, salt: bytes, label: str) -> bytes:
    info = b"DPJE" + bytes([1, 1]) + fields(label, context.tenant, context.document_id, context.role)
    return HKDF(SHA256(), 32, salt, info).derive(key)


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _digest(header: bytes) -> bytes:
    return hashlib.sha256(header).digest()


# --- the folder store ------------------------------------------------------------------------------------------------

FOOTER = 40


def read_stored_file(root: Path, object_key: str) -> tuple[bytes, str]:
    """The object's bytes and its etag. Raises Refused, also if its bytes are not those that the footer names."""
    if not (root / ".incoming").is_dir():
        raise Refused("no store")
    held = (root / f"{object_key}@").read_bytes()
    content, footer = held[:-FOOTER], held[-FOOTER:]
    if len(footer) != FOOTER or footer[:8] != b"DPJOBJ1\n":
        raise Refused("it has lost its footer")
    if hashlib.sha256(content).digest() != footer[8:]:
        raise Refused("its bytes are not those of its footer")
    return content, footer[8:].hex()


# --- key files -------------------------------------------------------------------------------------------------------


def read_key_file(path: Path) -> bytes:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Refused("others may read the key file")
    return path.read_bytes()


def key_encryption_key(path: Path, name: str, version: int) -> bytes:
    """Of a keyring file. Raises Refused: it has none of that name and version, or one that opens nothing any more."""
    held = json.loads(read_key_file(path))
    if held["format"] == "dpj-keyring-1":
        held = {"format": "dpj-keyring-2", "name": held["name"], "tenants": {}, "single": held}
    if held["format"] != "dpj-keyring-2":
        raise Refused("no keyring file")
    keyring, _, tenant = name.partition(".")
    if keyring != held["name"]:
        raise Refused("another keyring's key")
    key: Any = held["tenants"].get(tenant) if tenant else held.get("single")
    if key is None or str(version) not in key["keys"] or version < key.get("from", 1):
        raise Refused("there is no such key")
    return of_padded(key["keys"][str(version)])


def signing_seeds(path: Path) -> Mapping[int, bytes]:
    held = json.loads(read_key_file(path))
    if held["format"] != "dpj-signing-1":
        raise Refused("no file of signing keys")
    return {int(version): of_padded(seed) for version, seed in held["keys"].items()}


def listed_keys(path: Path, kind: str) -> Mapping[str, bytes]:
    """By their ids, the current one first."""
    keys = [of_padded(line) for line in read_key_file(path).decode("ascii").splitlines()]
    return {key_id(kind, key): key for key in keys}


def key_id(kind: str, key: bytes) -> str:
    return hmac.digest(key, f"{kind}-key-id".encode(), "sha256").hex()[:8]


# --- wrapped keys ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WrappedKey:
    """``cle_schema``, ``cle_nom``, ``cle_version``, ``cle_enveloppee``."""

    scheme: str
    key_name: str
    version: int
    ciphertext: str


#: Sends the JSON body to that path of Vault, and gives the JSON answer.
AskVault = Callable[[str, Mapping[str, str]], Mapping[str, Any]]


def unwrap_by_file(wrapped: WrappedKey, context: Context, path: Path) -> bytes:
    if wrapped.scheme != "local-aes-256-gcm":
        raise Refused("another scheme")
    bound = fields(
        "dpj-local-wrap-1",
        "local-aes-256-gcm",
        wrapped.key_name,
        wrapped.version,
        context.tenant,
        context.document_id,
        context.role,
    )
    raw = of_base64url(wrapped.ciphertext)
    if len(raw) != 60:
        raise Refused("not a wrapped key")
    return aead_open(key_encryption_key(path, wrapped.key_name, wrapped.version), raw, bound)


def unwrap_by_vault(wrapped: WrappedKey, context: Context, ask: AskVault) -> bytes:
    if wrapped.scheme != "vault-transit" or not wrapped.ciphertext.startswith(f"vault:v{wrapped.version}:"):
        raise Refused("another scheme, or another version")
    derivation = base64.b64encode(fields(context.tenant, context.document_id, context.role)).decode("ascii")
    body = {"ciphertext": wrapped.ciphertext, "context": derivation}
    key = base64.b64decode(ask(f"/v1/transit/decrypt/{wrapped.key_name}", body)["data"]["plaintext"], validate=True)
    if len(key) != 32:
        raise Refused("not a data key")
    return key


# --- sealed texts ----------------------------------------------------------------------------------------------------


def parts(sealed: str, form: str) -> tuple[str, str, str]:
    """Prefix, key id, body. Raises Refused for another form."""
    found, key, body = sealed.split(".")
    if found != form:
        raise Refused("another form")
    return f"{found}.{key}", key, body


def open_text(sealed: str, personal: Mapping[str, bytes]) -> str:
    """``p1``."""
    prefix, key, body = parts(sealed, "p1")
    return aead_open(personal[key], of_base64url(body), prefix.encode()).decode()


def open_column(sealed: str, columns: Mapping[str, bytes], tenant: str, document_id: str, what: str) -> str:
    """``p2``."""
    _, key, body = parts(sealed, "p2")
    opening = hmac.digest(columns[key], fields("dpj-column-2", tenant, document_id), "sha256")
    return aead_open(opening, of_base64url(body), fields("p2", key, tenant, document_id, what)).decode()


def open_subject_key(wrapped: str, personal: Mapping[str, bytes], tenant: str, document_id: str) -> bytes:
    """``k1``."""
    prefix, key, body = parts(wrapped, "k1")
    return aead_open(personal[key], of_base64url(body), fields(prefix, tenant, document_id))


def open_audit_field(sealed: str, subject_key: bytes, tenant: str, document_id: str, what: str) -> str:
    """``s1``; ``what`` is ``ip`` or ``user_agent``."""
    prefix, key, body = parts(sealed, "s1")
    if key != key_id("dpj-personal", subject_key):
        raise Refused("another subject's key")
    return aead_open(subject_key, of_base64url(body), fields(prefix, tenant, document_id, what)).decode()


def look_up_index(key: bytes, tenant: str, what: str, text: str) -> bytes:
    normalised = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).strip()
    return hmac.digest(key, fields("dpj-lookup-1", tenant, what, normalised), "sha256")[:16]


def pseudonym(key: bytes, purpose: str, value: str) -> str:
    return hmac.digest(key, fields(purpose, value), "sha256").hex()[:32]


def open_link(token: str, links: Mapping[str, bytes]) -> tuple[UUID, UUID, int]:
    """``l1``: link, document, end in Unix seconds. Raises Refused."""
    _, key, body = parts(token, "l1")
    raw = of_base64url(body)
    if len(raw) != 72 or key not in links:
        raise Refused("not a link of ours")
    said, mac = raw[:40], raw[40:]
    if not hmac.compare_digest(mac, hmac.digest(links[key], b"dpj-link-v1" + key.encode() + said, "sha256")):
        raise Refused("its MAC fails")
    return UUID(bytes=said[:16]), UUID(bytes=said[16:32]), int.from_bytes(said[32:], "big")
