"""Random tampering at random places: whatever is done to an export is found, and what nobody touched verifies."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.merkle import RightEdge, grown, inclusion_proof, leaf_hash, root_of_path
from tests.support.audit_histories import checkpoints_of, exported
from tests.support.audit_lines import a_chain
from tests.support.memory_audit_trees import MemorySigner
from verifier import dpj_verify

SIGNER = MemorySigner()
KEYS = {SIGNER.public.id: SIGNER.private.public_key()}
CHAIN = a_chain(40)

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def verify(entries: bytes, checkpoints: bytes) -> list[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "entries.jsonl").write_bytes(entries)
        (Path(folder) / "checkpoints.jsonl").write_bytes(checkpoints)
        result = dpj_verify.verify_export(Path(folder), KEYS, "acme", [])
    return [(one.kind, one.at) for one in result.findings]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Lines of a log and its checkpoints, whose last covers all of it."""
    length = draw(st.integers(1, 40))
    sizes = draw(st.sets(st.integers(1, length), max_size=6)) | {length}
    checkpoints = checkpoints_of(CHAIN[:length], sorted(sizes), SIGNER)
    return [entry.body + b"\n" for entry in CHAIN[:length]], b"".join(one.content for one in checkpoints)


@quick
@given(histories())
def test_untampered_always_verifies(history: tuple[list[bytes], bytes]) -> None:
    lines, checkpoints = history
    assert verify(b"".join(lines), checkpoints) == []


@quick
@given(histories(), st.data())
def test_any_change_of_lines_is_found(history: tuple[list[bytes], bytes], data: st.DataObject) -> None:
    lines, checkpoints = history
    tampered = list(lines)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(tampered) - 1, 0)))
        act = data.draw(st.sampled_from(["delete", "repeat", "swap", "edit", "insert", "truncate"]))
        if act == "insert" or not tampered:
            tampered.insert(place, data.draw(st.sampled_from([b"{}\n", b"\n", CHAIN[-1].body + b"\n"])))
        elif act == "delete":
            del tampered[place]
        elif act == "repeat":
            tampered.insert(data.draw(st.integers(0, len(tampered))), tampered[place])
        elif act == "swap":
            other = data.draw(st.integers(0, len(tampered) - 1))
            tampered[place], tampered[other] = tampered[other], tampered[place]
        elif act == "truncate":
            del tampered[place:]
        else:
            tampered[place] = tampered[place].replace(b'"actor":"u-1"', b'"actor":"u-2"').replace(b"{}", b"{ }")
    assert bool(verify(b"".join(tampered), checkpoints)) == (tampered != lines)


@quick
@given(histories(), st.data())
def test_any_changed_byte_is_found(history: tuple[list[bytes], bytes], data: st.DataObject) -> None:
    lines, checkpoints = history
    files = {"entries": bytearray(b"".join(lines)), "checkpoints": bytearray(checkpoints)}
    file = files[data.draw(st.sampled_from(sorted(files)))]
    place = data.draw(st.integers(0, len(file) - 1))
    file[place] ^= data.draw(st.integers(1, 255))
    assert verify(bytes(files["entries"]), bytes(files["checkpoints"])) != []


@quick
@given(histories(), st.data())
def test_a_history_rewritten_from_anywhere_is_found(history: tuple[list[bytes], bytes], data: st.DataObject) -> None:
    lines, checkpoints = history
    since = data.draw(st.integers(0, len(lines) - 1))
    previous = json.loads(lines[since])["prev"]
    rewritten = lines[:since]
    for line in lines[since:]:
        said: dict[str, Any] = {**json.loads(line), "prev": previous, "actor": "nobody"}
        rewritten.append(dpj_verify.canonical(said) + b"\n")
        previous = dpj_verify.hashlib.sha256(rewritten[-1][:-1]).hexdigest()
    [(kind, at)] = verify(b"".join(rewritten), checkpoints)
    assert kind == "REWRITTEN"
    assert at <= since + 1


@quick
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=700), st.data())
def test_proofs_hold_for_their_leaf_alone(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    index = data.draw(st.integers(0, len(leaves) - 1))
    size = data.draw(st.integers(index + 1, len(leaves)))
    edge = RightEdge()
    for leaf in leaves[:size]:
        edge.add(leaf)
    path = inclusion_proof(index, size, grown(0, {}, leaves))
    assert root_of_path(leaves[index], index, size, path) == edge.root
    assert dpj_verify.root_of_path(leaves[index], index, size, path) == edge.root.hex()
    assert root_of_path(leaf_hash(b"another entry"), index, size, path) != edge.root


def test_the_export_writes_those_files(tmp_path: Path) -> None:
    folder = asyncio.run(exported(tmp_path / "e", CHAIN, checkpoints_of(CHAIN, [40], SIGNER)))
    assert verify((folder / "entries.jsonl").read_bytes(), (folder / "checkpoints.jsonl").read_bytes()) == []
