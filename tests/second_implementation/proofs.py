"""docs/ENVELOPE.md, "Public keys" and "Audit log" to "Exports"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .forms import Refused, base64url, canonical, of_base64url, of_canonical

Keys = Mapping[str, Ed25519PublicKey]

ENTRY_MEMBERS = {
    *("v", "tenant", "seq", "prev", "event_id", "correlation_id", "event_sequence", "entity_type", "entity_id"),
    *("action", "actor", "at", "details", "old_state", "new_state", "ip_sealed", "user_agent_sealed"),
}
ANONYMISED_MEMBERS = {
    "documents.jsonl": {
        *(
            "document",
            "dossier",
            "parent",
            "client",
            "depositor",
            "validator",
            "version",
            "type",
            "status",
            "mandatory",
        ),
        *("language", "media_type", "size", "archive_planned", "retention_years", "failure_code", "thumbnail_note"),
        *("events", "created_at", "deposited_at", "decided_at", "archived_at", "expires_at"),
    },
    "timeline.jsonl": {"document", "position", "type", "actor", "at", "details"},
    "audit.jsonl": {
        *("entity", "entity_type", "action", "actor", "at", "event_number", "conversation"),
        *("old_status", "new_status", "details"),
    },
}
CHECKPOINT_MEMBERS = {"previous", "root", "size", "tenant", "time", "type", "v"}


def public_keys(key_set: bytes) -> Keys:
    found = {}
    for jwk in json.loads(key_set)["keys"]:
        named = canonical({"crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"]})
        if (jwk["kty"], jwk["crv"], jwk["kid"]) != ("OKP", "Ed25519", base64url(hashlib.sha256(named).digest())):
            raise Refused("a key under another id")
        found[jwk["kid"]] = Ed25519PublicKey.from_public_bytes(of_base64url(jwk["x"]))
    return found


def verify(keys: Keys, key_id: str, signature: str, message: bytes) -> None:
    if key_id not in keys:
        raise Refused("no known key signed it")
    try:
        keys[key_id].verify(of_base64url(signature), message)
    except InvalidSignature:
        raise Refused("its signature fails") from None


# --- audit log -------------------------------------------------------------------------------------------------------


def sha256_hex(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def read_entry(raw: bytes) -> dict[str, Any]:
    said = of_canonical(raw)
    if set(said) != ENTRY_MEMBERS or said["v"] != 1:
        raise Refused("no entry of this format")
    for name in ("details", "old_state", "new_state"):
        if said[name] is not None:
            of_canonical(said[name].encode())
    if datetime.fromisoformat(said["at"]).isoformat(timespec="microseconds") != said["at"]:
        raise Refused("another form of a time")
    return said


def follow(tenant: str, entries: Sequence[bytes]) -> None:
    """Raises Refused unless they are the tenant's first entries, in order."""
    previous = sha256_hex(f"dpj-audit-chain|1|{tenant}".encode())
    for number, raw in enumerate(entries, 1):
        said = read_entry(raw)
        if (said["tenant"], said["seq"], said["prev"]) != (tenant, number, previous):
            raise Refused(f"entry {number} does not follow")
        previous = sha256_hex(raw)


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """As RFC 6962 defines it, by recursion."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root(leaves[:left]) + root(leaves[left:])).digest()


def root_by_path(of_leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """By recursion too: the last of the path is the other half of the whole. Raises Refused."""
    if not 0 <= index < size or (size == 1) != (not path):
        raise Refused("no such path")
    if size == 1:
        return of_leaf
    left = 1 << (size - 1).bit_length() - 1
    if index < left:
        return hashlib.sha256(b"\x01" + root_by_path(of_leaf, index, left, path[:-1]) + path[-1]).digest()
    return hashlib.sha256(b"\x01" + path[-1] + root_by_path(of_leaf, index - left, size - left, path[:-1])).digest()


# --- checkpoints -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    tenant: str
    size: int
    root: str
    previous: str
    hash: str


def read_checkpoint(file: bytes, keys: Keys) -> Checkpoint:
    """Raises Refused."""
    if not file.endswith(b"\n"):
        raise Refused("a file ends with a line feed")
    outer = of_canonical(file[:-1])
    if set(outer) != {"checkpoint", "key", "signature"}:
        raise Refused("other members")
    body = outer["checkpoint"].encode()
    said = of_canonical(body)
    if set(said) != CHECKPOINT_MEMBERS or (said["v"], said["type"]) != (1, "dpj-audit-checkpoint") or said["size"] < 1:
        raise Refused("no checkpoint")
    verify(keys, outer["key"], outer["signature"], body)
    return Checkpoint(said["tenant"], said["size"], said["root"], said["previous"], sha256_hex(body))


def linked(tenant: str, checkpoints: Sequence[Checkpoint]) -> None:
    """Raises Refused unless they are all of the tenant's, in order."""
    previous, size = sha256_hex(f"dpj-audit-checkpoints|1|{tenant}".encode()), 0
    for made in checkpoints:
        if (made.tenant, made.previous) != (tenant, previous) or made.size <= size:
            raise Refused(f"the checkpoint of {made.size} entries does not follow")
        previous, size = made.hash, made.size


def checkpoint_name(tenant: str, size: int) -> str:
    folder = quote(tenant, safe="")
    return f"{'%2E' + folder[1:] if folder.startswith('.') else folder}/{size:020}.json"


# --- receipts --------------------------------------------------------------------------------------------------------


def open_receipt(text: str, keys: Keys) -> dict[str, Any]:
    """What a receipt of either kind says, its signature verified. Raises Refused."""
    header, payload, signature = text.removesuffix("\n").split(".")
    said_of, said = of_canonical(of_base64url(header)), of_canonical(of_base64url(payload))
    kinds = {"dpj-receipt+jws": "dpj-document-receipt", "dpj-erasure+jws": "dpj-erasure-receipt"}
    if said_of != {"alg": "EdDSA", "kid": said_of.get("kid"), "typ": said_of.get("typ")}:
        raise Refused("another header")
    if (said["v"], said["type"]) != (1, kinds.get(said_of["typ"])):
        raise Refused("no receipt of this format")
    verify(keys, said_of["kid"], signature, f"{header}.{payload}".encode("ascii"))
    return said


def verify_archiving(text: str, keys: Keys) -> dict[str, Any]:
    """What a receipt of an archiving says, all of it verified that can be. Raises Refused."""
    said = open_receipt(text, keys)
    made = read_checkpoint(canonical(said["checkpoint"]) + b"\n", keys)
    raw = said["audit"]["entry"].encode()
    entry = read_entry(raw)
    details = of_canonical(entry["details"].encode())
    seq, inclusion = said["audit"]["seq"], said["inclusion"]
    agree = [
        (said["type"], "dpj-document-receipt"),
        (entry["action"], "document.archived"),
        (entry["entity_type"], "document"),
        (entry["entity_id"], said["document_id"]),
        (entry["at"], said["archived_at"]),
        (entry["seq"], seq),
        (inclusion["leaf_index"], seq - 1),
        (inclusion["tree_size"], made.size),
        (sha256_hex(raw), said["audit"]["entry_hash"]),
        (retained_until(entry["at"], details["retention_years"]), said["retained_until"]),
        *((tenant, said["tenant"]) for tenant in (entry["tenant"], made.tenant)),
        *((details.get(name), said[name]) for name in ("sha256", "size", "ged_id", "ged_path")),
    ]
    if any(one != other for one, other in agree):
        raise Refused("the receipt and its audit entry differ")
    path = [bytes.fromhex(one) for one in inclusion["path"]]
    if root_by_path(leaf(raw), seq - 1, made.size, path).hex() != made.root:
        raise Refused("the entry is not in the signed log")
    return said


def retained_until(archived_at: str, years: int) -> str:
    at = datetime.fromisoformat(archived_at)
    try:
        until = at.replace(year=at.year + years)
    except ValueError:
        until = at.replace(year=at.year + years, month=3, day=1)
    return until.isoformat(timespec="microseconds")


def verify_erasure(text: str, keys: Keys) -> dict[str, Any]:
    said = open_receipt(text, keys)
    members = {"v", "type", "document", "request", "completed_at", "destroyed", "remains"}
    if said["type"] != "dpj-erasure-receipt" or set(said) != members:
        raise Refused("no receipt of an erasure")
    if any(not {"what", "where", "at"} <= set(one) for one in said["destroyed"]):
        raise Refused("what was destroyed lacks a member")
    if any(set(one) != {"what", "where", "why", "until"} for one in said["remains"]):
        raise Refused("what remains has other members")
    return said


# --- exports ---------------------------------------------------------------------------------------------------------


def verify_export(folder: Path, tenant: str, keys: Keys) -> tuple[Sequence[bytes], Sequence[Checkpoint]]:
    """The entries and checkpoints of an export of the audit log. Raises Refused."""
    entries = (folder / "entries.jsonl").read_bytes().split(b"\n")
    if entries.pop() != b"":
        raise Refused("the last line does not end")
    files = (folder / "checkpoints.jsonl").read_bytes().splitlines(keepends=True)
    checkpoints = [read_checkpoint(file, keys) for file in files]
    follow(tenant, entries)
    linked(tenant, checkpoints)
    leaves = [leaf(entry) for entry in entries]
    for made in checkpoints:
        if root(leaves[: made.size]).hex() != made.root:
            raise Refused(f"the first {made.size} entries are not those that were signed")
    if len(entries) != (checkpoints[-1].size if checkpoints else 0):
        raise Refused("entries and the newest checkpoint end at different places")
    return entries, checkpoints


def verify_anonymised(folder: Path) -> dict[str, Any]:
    """The manifest of an anonymised export, its files compared. Raises Refused."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    if (manifest["v"], manifest["type"]) != (1, "dpj-anonymised-export"):
        raise Refused("no anonymised export")
    for name, said in manifest["files"].items():
        held = (folder / name).read_bytes()
        if said != {"lines": held.count(b"\n"), "bytes": len(held), "sha256": sha256_hex(held)}:
            raise Refused(f"{name} is not what the manifest says")
    return manifest
