#!/usr/bin/env python3
"""Verifies an exported audit log, or a document's receipt (of archiving, or of erasure), with nothing but public keys. Needs Python 3.11 and ``cryptography``.

    dpj_verify.py export FOLDER --keys keys.json [--tenant T] [--known FILE]... [--json]
    dpj_verify.py receipt FILE --keys keys.json [--document FILE] [--known FILE]... [--json]

FOLDER is what ``dpj audit export`` wrote: ``entries.jsonl`` (each line an entry's canonical bytes) and ``checkpoints.jsonl``. keys.json
is a JSON Web Key Set (RFC 8037) that you kept elsewhere: keys that come with the export prove nothing. A --known file is a checkpoint,
a checkpoints.jsonl or a receipt that you kept: the export must agree with it, which no truncated or forked history does.

Each finding is one line: what happened, where. Exit: 0 verified, 1 findings, 2 could not verify (files, keys, usage). What is not proven
though nothing is wrong is said beside the verdict, VERIFIED IN PART: a receipt whose audit entry does not name the content.
This file imports nothing of the pipeline's and may be read in one sitting: trust it by reading it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_LINE: Final = 16 << 20
MAX_FINDINGS: Final = 1_000

Keys = Mapping[str, Ed25519PublicKey]


class CanNotVerify(Exception):
    """The question can't be answered: a file or key is not there or not readable."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind`` in capitals; ``at``: an entry's number, or a checkpoint's size where ``kind`` begins with CHECKPOINT or is FORKED."""

    kind: str
    at: int
    text: str

    @property
    def line(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class Result:
    """Findings in order, without repetitions; what was looked at; and what, though nothing is wrong, remains unproven."""

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)

    def add(self, kind: str, at: int, text: str) -> None:
        if len(self.findings) < MAX_FINDINGS and not any((one.kind, one.at) == (kind, at) for one in self.findings):
            self.findings.append(Finding(kind, at, text))

    def names(self, first: int, last: int) -> bool:
        """Whether a finding is about an entry from ``first`` to ``last``."""
        return any(first <= one.at <= last for one in self.findings if not one.kind.startswith(("CHECKPOINT", "FORK")))


# --- forms -----------------------------------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """Raises ValueError for what is too deep."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("too deep") from None


def of_base64url(text: str) -> bytes:
    """Strict: without padding, and the one spelling of those bytes."""
    raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("not base64url")
    return raw


def json_object(raw: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        value = json.loads(raw)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the bytes are wrong, not a caller's type
    return value


def read_keys(path: Path) -> Keys:
    """A JSON Web Key Set; each key's id must be its RFC 7638 thumbprint. Raises CanNotVerify."""
    try:
        found = {}
        for jwk in json_object(path.read_bytes())["keys"]:
            named = {"crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"]}
            thumbprint = base64.urlsafe_b64encode(hashlib.sha256(canonical(named)).digest()).rstrip(b"=").decode()
            if (jwk["kty"], jwk["crv"], jwk["kid"]) != ("OKP", "Ed25519", thumbprint):
                raise ValueError("not an Ed25519 key under its thumbprint")
            found[thumbprint] = Ed25519PublicKey.from_public_bytes(of_base64url(jwk["x"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CanNotVerify(f"{path} is no set of Ed25519 public keys ({type(error).__name__})") from None
    return found


def holds(keys: Keys, key_id: str, signature: bytes, message: bytes) -> bool:
    """Whether a known key made this signature."""
    try:
        keys[key_id].verify(signature, message)
    except (KeyError, InvalidSignature):
        return False
    return True


# --- Merkle trees (RFC 6962 section 2.1) -----------------------------------------------------------------------------


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """Grows leaf by leaf, in memory for its right edge alone."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        self._edge.append(leaf)
        self.size += 1
        merged = self.size
        while not merged & 1:
            right = self._edge.pop()
            self._edge.append(node_hash(self._edge.pop(), right))
            merged >>= 1

    @property
    def root(self) -> str:
        joined = self._edge[-1] if self._edge else hashlib.sha256(b"").digest()
        for left in reversed(self._edge[:-1]):
            joined = node_hash(left, joined)
        return joined.hex()


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> str:
    """RFC 9162 section 2.1.3.2. Raises ValueError if the path can't be one."""
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    joined, last = leaf, size - 1
    for sibling in path:
        if last == 0:
            raise ValueError("the path is too long")
        if index & 1 or index == last:
            joined = node_hash(sibling, joined)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            joined = node_hash(joined, sibling)
        index, last = index >> 1, last >> 1
    if last:
        raise ValueError("the path is too short")
    return joined.hex()


# --- checkpoints -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checkpoint:
    tenant: str
    size: int
    root: str
    time: str
    previous: str
    hash: str


def read_checkpoint(content: bytes, keys: Keys) -> Checkpoint:
    """Raises ValueError unless ``content`` is canonical and signed by a known key."""
    outer = json_object(content)
    try:
        body, key_id, signature = outer["checkpoint"].encode(), outer["key"], of_base64url(outer["signature"])
        said = json_object(body)
        form = (said["v"], said["type"])
        made = Checkpoint(
            said["tenant"], said["size"], said["root"], said["time"], said["previous"], hashlib.sha256(body).hexdigest()
        )
    except (KeyError, TypeError, AttributeError):
        raise ValueError("it is no checkpoint") from None
    if canonical(said) != body or canonical(outer) + b"\n" != content or len(outer) != 3 or len(said) != 7:
        raise ValueError("it is not in its canonical form")
    if form != (1, "dpj-audit-checkpoint") or type(made.size) is not int or made.size < 1:
        raise ValueError("it is no checkpoint of this format")
    if not isinstance(key_id, str) or key_id not in keys:
        raise ValueError("no known key signed it")
    if not holds(keys, key_id, signature, body):
        raise ValueError("its signature does not hold")
    return made


def read_checkpoints(path: Path, keys: Keys, result: Result) -> list[Checkpoint]:
    """Those that are signed, by size; what is wrong with the file, its order and its links goes into ``result``."""
    found: list[Checkpoint] = []
    for number, line in enumerate(lines_of(path), 1):
        try:
            made = read_checkpoint(line, keys)
        except ValueError as error:
            result.add("CHECKPOINT_INVALID", number, f"line {number} of the checkpoints: {error}")
            continue
        if found and made.size < found[-1].size:
            result.add("CHECKPOINT_REORDERED", made.size, f"the checkpoint of {made.size} entries is out of its place")
        found.append(made)
    found.sort(key=lambda one: one.size)
    check_links(found, result)
    return found


def check_links(found: Sequence[Checkpoint], result: Result) -> None:
    """Each names the one before, and of each size there is one."""
    if not found:
        result.add("CHECKPOINT_MISSING", 0, "there is no valid checkpoint: nothing is signed")
        return
    tenant, before = found[0].tenant, None
    expected = hashlib.sha256(f"dpj-audit-checkpoints|1|{tenant}".encode()).hexdigest()
    for made in found:
        if made.tenant != tenant:
            result.add("CHECKPOINT_INVALID", made.size, f"the checkpoint of {made.size} entries is another tenant's")
        elif before is not None and made.size == before.size:
            if made.hash == before.hash:
                result.add("CHECKPOINT_REPEATED", made.size, f"the checkpoint of {made.size} entries is there twice")
            else:
                result.add("FORKED", made.size, f"two different checkpoints of {made.size} entries are signed")
        elif made.previous != expected:
            forked = any(other is not made and other.previous == made.previous for other in found)
            if forked:
                result.add(
                    "FORKED", made.size, f"the checkpoint of {made.size} entries follows one that has another successor"
                )
            else:
                text = f"the checkpoint before the one of {made.size} entries is missing or another"
                result.add("CHECKPOINT_MISSING", made.size, text)
        before, expected = made, made.hash


# --- entries ---------------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> Iterator[bytes]:
    """Lines with their ends. Raises CanNotVerify."""
    try:
        with path.open("rb") as opened:
            while line := opened.readline(MAX_LINE):
                yield line
    except OSError as error:
        raise CanNotVerify(f"{path}: {error.strerror or type(error).__name__}") from None


@dataclass(frozen=True, slots=True)
class Entry:
    seq: int
    previous: str
    hash: str


def read_entry(line: bytes, tenant: str) -> Entry | None:
    """None for a line that is no entry of the tenant's."""
    body = line.removesuffix(b"\n")
    try:
        said = json_object(body)
    except ValueError:
        return None
    seq, previous = said.get("seq"), said.get("prev")
    if type(seq) is not int or not isinstance(previous, str) or said.get("tenant") != tenant or body == line:
        return None
    return Entry(seq, previous, hashlib.sha256(body).hexdigest())


class Walk:
    """Reads entries in the file's order and says what happened to each that is not where or what it was."""

    def __init__(self, tenant: str, result: Result) -> None:
        self._tenant = tenant
        self._result = result
        self._previous: str | None = hashlib.sha256(f"dpj-audit-chain|1|{tenant}".encode()).hexdigest()
        #: The number that comes next, and numbers that did not come so far, as ranges.
        self.expected = 1
        self._gaps: list[tuple[int, int]] = []
        #: The line before did not fit: either it or the entry before it was edited; the next line tells which.
        self._doubtful = False
        self._unreadable = False

    def add(self, line: bytes) -> None:
        entry = read_entry(line, self._tenant)
        if entry is None:
            self._pass_unreadable()
            self._unreadable = True
            return
        if self._unreadable:
            self._unreadable = False
            if entry.seq == self.expected and entry.previous == self._previous:
                self._say("INSERTED", entry.seq, f"a line before entry {entry.seq} is none of the tenant's entries")
            else:
                self._edited_unreadably()
        if entry.seq != self.expected and entry.previous == self._previous:
            self._say("EDITED", self.expected, f"entry {self.expected} says that it is number {entry.seq}")
        elif entry.seq < self.expected:
            self._out_of_place(entry)
            return
        elif entry.seq > self.expected:
            self._gaps.append((self.expected, entry.seq - 1))
            self.expected, self._doubtful = entry.seq, False
        else:
            self._link(entry)
        self.expected, self._previous = self.expected + 1, entry.hash

    def _link(self, entry: Entry) -> None:
        fits = self._previous is None or entry.previous == self._previous
        if self._doubtful:
            edited = entry.seq - 2 if fits else entry.seq - 1
            self._say("EDITED", max(edited, 1), f"entry {max(edited, 1)} is not the one that its successor names")
            self._doubtful = False
        elif not fits:
            self._doubtful = True

    def _out_of_place(self, entry: Entry) -> None:
        for place, (first, last) in enumerate(self._gaps):
            if first <= entry.seq <= last:
                rest = [(first, entry.seq - 1), (entry.seq + 1, last)]
                self._gaps[place : place + 1] = [(low, high) for low, high in rest if low <= high]
                self._say("REORDERED", entry.seq, f"entry {entry.seq} is not in its place")
                return
        self._say("INSERTED", entry.seq, f"there is more than one entry {entry.seq}")

    def _pass_unreadable(self) -> None:
        if self._unreadable:
            self._edited_unreadably()

    def _edited_unreadably(self) -> None:
        self._say("EDITED", self.expected, f"entry {self.expected} can't be read as one of the tenant's")
        self.expected, self._previous, self._doubtful = self.expected + 1, None, False

    def end(self, size: int) -> None:
        """After the last line, where ``size`` entries are signed."""
        self._pass_unreadable()
        last = self.expected - 1
        if self._doubtful:
            self._say("EDITED", max(last - 1, 1), f"entry {max(last - 1, 1)} or {last} is not what it was")
        for first, end in self._gaps:
            what = f"entry {first} is" if first == end else f"entries {first} to {end} are"
            self._say("DELETED", first, f"{what} missing")
        if last < size:
            self._say("TRUNCATED", last + 1, f"the log ends at entry {last}; {size} are signed")
        elif last > size:
            self._say("INSERTED", size + 1, f"entries {size + 1} to {last} are beyond the newest checkpoint")

    def _say(self, kind: str, at: int, text: str) -> None:
        self._result.add(kind, at, text)


def verify_export(folder: Path, keys: Keys, tenant: str | None, known: Sequence[Checkpoint]) -> Result:
    """One pass over the entries, in memory for checkpoints and findings alone. Raises CanNotVerify."""
    result = Result()
    checkpoints = read_checkpoints(folder / "checkpoints.jsonl", keys, result)
    owner = tenant or next((made.tenant for made in (*checkpoints, *known)), "")
    if checkpoints and checkpoints[0].tenant != owner:
        result.add("CHECKPOINT_INVALID", checkpoints[0].size, f"the checkpoints are not those of tenant {owner}")
    compare_known(checkpoints, known, owner, result)
    size = checkpoints[-1].size if checkpoints else 0
    walk, tree, roots, good = Walk(owner, result), Tree(), list(reversed(checkpoints)), 0
    rewritten: tuple[int, int] | None = None
    for line in lines_of(folder / "entries.jsonl"):
        walk.add(line)
        tree.add(leaf_hash(line.removesuffix(b"\n")))
        while roots and roots[-1].size <= tree.size:
            made = roots.pop()
            if made.root == tree.root:
                good = made.size
            elif rewritten is None:
                rewritten = (good + 1, made.size)
    walk.end(size)
    if rewritten is not None and not result.names(1, rewritten[1]):
        first, last = rewritten
        text = (
            f"entries {first} to {last} follow from each other, but are not those that the checkpoint of {last} signed"
        )
        result.add("REWRITTEN", first, text)
    result.facts = {"tenant": owner, "entries": tree.size, "checkpoints": len(checkpoints), "signed": size}
    result.facts["checkpoint_time"] = checkpoints[-1].time if checkpoints else None
    return result


def compare_known(found: Sequence[Checkpoint], known: Sequence[Checkpoint], tenant: str, result: Result) -> None:
    """Checkpoints that were kept elsewhere must be among those found. Raises CanNotVerify for one of another tenant."""
    same_tenant(known, tenant)
    hashes, newest = {made.hash for made in found}, max((made.size for made in found), default=0)
    for kept in known:
        if kept.hash in hashes:
            continue
        if kept.size > newest:
            text = f"a checkpoint that you kept signs {kept.size} entries; the newest here {newest}"
            result.add("TRUNCATED", newest + 1, text)
        else:
            text = f"a checkpoint of {kept.size} entries that you kept is signed, and is not in this history"
            result.add("FORKED", kept.size, text)


def same_tenant(known: Sequence[Checkpoint], tenant: str) -> None:
    """Raises CanNotVerify: what was kept of another tenant would compare with nothing, and must not seem to have."""
    for kept in known:
        if kept.tenant != tenant:
            raise CanNotVerify(f"a --known file is about tenant {kept.tenant}; this is about {tenant}")


# --- receipts --------------------------------------------------------------------------------------------------------

ARCHIVING: Final = "dpj-receipt+jws"
ERASURE: Final = "dpj-erasure+jws"


def verify_receipt(path: Path, keys: Keys, document: Path | None, known: Sequence[Checkpoint]) -> Result:
    """Raises CanNotVerify."""
    result = Result()
    try:
        kind, said = open_signed(read(path), keys)
        if kind == ERASURE:
            result.facts = erasure_facts(said)
            same_tenant(known, result.facts["tenant"])
        else:
            made = open_archiving(said, keys)
            names = ("document_id", "tenant", "sha256", "size", "archived_at", "ged_id", "ged_path")
            result.facts = {name: said.get(name) for name in names} | {
                "signed": made.size,
                "checkpoint_time": made.time,
            }
            if "sha256" not in details_of(said):
                result.facts |= {"sha256": None, "size": None}
                result.limits.append("which content was archived: the audit entry is of a release that did not say so")
            same_tenant(known, made.tenant)
            for kept in known:
                if kept.size == made.size and kept.hash != made.hash:
                    result.add("FORKED", made.size, f"you kept another checkpoint of {made.size} entries")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        result.add(
            "RECEIPT_INVALID", 0, str(error) if isinstance(error, ValueError) else "it lacks a part of a receipt"
        )
        return result
    if document is not None and result.limits:
        result.add("CONTENT_NOT_PROVEN", 0, f"the log does not say whether {document} is what was archived")
    elif document is not None and digest_of(document) != (result.facts["sha256"], result.facts["size"]):
        what = "erased" if kind == ERASURE else "archived"
        result.add("DOCUMENT_DIFFERS", 0, f"{document} is not the document that was {what}")
    return result


def open_signed(text: bytes, keys: Keys) -> tuple[str, dict[str, Any]]:
    """A receipt's kind and what it says, its signature verified. Raises ValueError saying what does not hold."""
    first, second, third = text.decode("ascii").removesuffix("\n").split(".")
    header, said = json_object(of_base64url(first)), json_object(of_base64url(second))
    kind = header.get("typ")
    if kind not in {ARCHIVING, ERASURE} or header.get("alg") != "EdDSA" or len(header) != 3:
        raise ValueError("it is no receipt")
    if not holds(keys, str(header["kid"]), of_base64url(third), f"{first}.{second}".encode()):
        raise ValueError("no known key made its signature")
    if (said["v"], said["type"]) != (1, {ARCHIVING: "dpj-document-receipt", ERASURE: "dpj-erasure-receipt"}[kind]):
        raise ValueError("it is no receipt of this format")
    return kind, said


def erasure_facts(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a receipt of an erasure says, in short. Raises KeyError, TypeError or AttributeError for one that lacks a part."""
    document, request = said["document"], said["request"]
    return {
        "document_id": document["id"],
        "tenant": document["tenant"],
        "sha256": document["sha256"],
        "size": document["size"],
        "asked_at": request["at"],
        "reason": request["reason"],
        "legal_basis": request["legal_basis"],
        "erased_at": said["completed_at"],
        "destroyed": [one["what"] for one in said["destroyed"]],
        "remains": [one["what"] for one in said["remains"]],
    }


def open_archiving(said: Mapping[str, Any], keys: Keys) -> Checkpoint:
    """The checkpoint in a receipt of an archiving, all of it verified. Raises ValueError saying what does not hold."""
    made = read_checkpoint(canonical(said["checkpoint"]) + b"\n", keys)
    audit, inclusion, body = said["audit"], said["inclusion"], said["audit"]["entry"].encode()
    entry = json_object(body)
    details = details_of(said)
    what = (entry["tenant"], entry["seq"], entry["action"], entry["entity_id"])
    if what != (said["tenant"], audit["seq"], "document.archived", said["document_id"]):
        raise ValueError("its audit entry is not about the archiving of this document")
    if (details["ged_id"], details["ged_path"]) != (said["ged_id"], said["ged_path"]):
        raise ValueError("its audit entry names another place in the archive")
    if "sha256" in details and (details["sha256"], details["size"]) != (said["sha256"], said["size"]):
        raise ValueError("its audit entry names another content")
    if entry["at"] != said["archived_at"]:
        raise ValueError("its audit entry has another time")
    if hashlib.sha256(body).hexdigest() != audit["entry_hash"]:
        raise ValueError("its audit entry has another hash")
    if (made.tenant, made.size, audit["seq"] - 1) != (said["tenant"], inclusion["tree_size"], inclusion["leaf_index"]):
        raise ValueError("its checkpoint is about something else")
    path = [bytes.fromhex(one) for one in inclusion["path"]]
    if root_of_path(leaf_hash(body), inclusion["leaf_index"], made.size, path) != made.root:
        raise ValueError("its audit entry is not in the log that the checkpoint signs")
    return made


def details_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """The details of the audit entry in a receipt. Raises ValueError, KeyError, TypeError or AttributeError."""
    return json_object(json_object(said["audit"]["entry"].encode())["details"].encode())


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 in hex and size. Raises CanNotVerify."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest(), opened.tell()
    except OSError as error:
        raise CanNotVerify(f"{path}: {error.strerror}") from None


def read(path: Path) -> bytes:
    """Raises CanNotVerify."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CanNotVerify(f"{path}: {error.strerror}") from None


# --- command ---------------------------------------------------------------------------------------------------------


def read_known(paths: Sequence[Path], keys: Keys) -> list[Checkpoint]:
    """Checkpoints of kept files and receipts. Raises CanNotVerify: one that does not hold itself tells nothing."""
    found = []
    for path in paths:
        content = read(path)
        try:
            if content.startswith(b"{"):
                found += [read_checkpoint(line, keys) for line in content.splitlines(keepends=True)]
            else:
                kind, said = open_signed(content, keys)
                if kind == ARCHIVING:  # that of an erasure has no checkpoint to compare
                    found.append(open_archiving(said, keys))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CanNotVerify(f"{path} is neither a checkpoint nor a receipt that these keys signed") from None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    parser = argparse.ArgumentParser(description="Verify an exported audit log or a receipt.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="what dpj audit export wrote")
    export.add_argument("place", type=Path, metavar="FOLDER")
    export.add_argument("--tenant", help="whose log it has to be")
    receipt = commands.add_parser("receipt", help="a document's receipt")
    receipt.add_argument("place", type=Path, metavar="FILE")
    receipt.add_argument("--document", type=Path, help="compare this file with the receipt")
    for command in (export, receipt):
        command.add_argument("--keys", type=Path, required=True, help="public keys (JWKS) that you kept elsewhere")
        command.add_argument("--known", type=Path, action="append", default=[], help="a checkpoint or receipt you kept")
        command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    given = parser.parse_args(arguments)
    try:
        keys = read_keys(given.keys)
        known = read_known(given.known, keys)
        if given.command == "export":
            result = verify_export(given.place, keys, given.tenant, known)
        else:
            result = verify_receipt(given.place, keys, given.document, known)
    except CanNotVerify as error:
        sys.stderr.write(f"dpj_verify: {_visible(str(error))}\n")
        return 2
    if given.json:
        document = {
            "verified": not result.findings,
            **result.facts,
            "limits": result.limits,
            "findings": [asdict(one) for one in result.findings],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        facts = ", ".join(f"{name} {value}" for name, value in result.facts.items())
        verdict = "VERIFIED IN PART" if result.limits else "VERIFIED"
        told = [one.line for one in result.findings] or [f"{verdict}: {facts}"]
        told += [f"NOT PROVEN: {one}" for one in result.limits]
        sys.stdout.write("".join(f"{_visible(line)}\n" for line in told))
    return 1 if result.findings else 0


def _visible(text: str) -> str:
    """``text`` with what a terminal would obey, or not show, spelt out: what is verified may be a stranger's."""
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return "".join(one if unicodedata.category(one) not in hidden else ascii(one)[1:-1] for one in text)


if __name__ == "__main__":
    sys.exit(main())
