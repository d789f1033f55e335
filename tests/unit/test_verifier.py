"""The single-file verifier finds and names what was done to an export."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.audit_chain import ChainEntry
from tests.support.audit_histories import checkpoints_of, exported, kept_keys, signed, verified
from tests.support.audit_lines import a_chain, a_line, chain_of
from tests.support.builders import NOW
from tests.support.memory_audit_trees import MemorySigner
from verifier import dpj_verify

SIZES = [4, 9, 12]
TWELVE = (NOW + timedelta(minutes=12)).isoformat(timespec="microseconds")
FILE = Path(dpj_verify.__file__)


@pytest.fixture
def chain() -> list[ChainEntry]:
    return a_chain(12)


@pytest.fixture
def signer() -> MemorySigner:
    return MemorySigner()


@pytest.fixture
async def export(tmp_path: Path, chain: list[ChainEntry], signer: MemorySigner) -> Path:
    return await exported(tmp_path / "export", chain, checkpoints_of(chain, SIZES, signer))


@pytest.fixture
def look(tmp_path: Path, export: Path, signer: MemorySigner, capsys: Any) -> Callable[..., dict[str, Any]]:
    """Verify the export; the answer, whose verdict must be the exit code's."""
    keys = kept_keys(tmp_path, signer)

    def verify(*more: object) -> dict[str, Any]:
        code, answer = verified(capsys, "export", export, "--keys", keys, *more)
        assert code == (0 if answer["verified"] else 1)
        return answer

    return verify


def found(answer: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["kind"], one["at"]) for one in answer["findings"]]


def lines(export: Path, name: str = "entries.jsonl") -> list[bytes]:
    return (export / name).read_bytes().splitlines(keepends=True)


def write(export: Path, content: Sequence[bytes], name: str = "entries.jsonl") -> None:
    (export / name).write_bytes(b"".join(content))


def edited(line: bytes, **changes: Any) -> bytes:
    return dpj_verify.canonical({**json.loads(line), **changes}) + b"\n"


def test_untampered_verifies(look: Callable[..., dict[str, Any]]) -> None:
    assert look() == {
        "verified": True, "tenant": "acme", "entries": 12, "checkpoints": 3, "signed": 12,
        "checkpoint_time": TWELVE, "limits": [], "findings": [],
    }  # fmt: skip
    assert look("--tenant", "acme")["verified"]
    assert found(look("--tenant", "other"))[0] == ("CHECKPOINT_INVALID", 4)


@pytest.mark.parametrize("seq", [1, 2, 4, 5, 9, 11])
def test_an_edited_entry(look: Callable[..., dict[str, Any]], export: Path, seq: int) -> None:
    content = lines(export)
    content[seq - 1] = edited(content[seq - 1], action="document.read")
    write(export, content)
    assert found(look()) == [("EDITED", seq)]


def test_the_last_entry_has_no_successor_but_a_checkpoint(look: Callable[..., dict[str, Any]], export: Path) -> None:
    content = lines(export)
    content[11] = edited(content[11], actor="u-2")
    write(export, content)
    assert found(look()) == [("REWRITTEN", 10)]


@pytest.mark.parametrize(
    "changes", [{"seq": 77}, {"seq": 2}, {"prev": "0" * 64}, {"tenant": "other"}, {"seq": "6"}, {"prev": None}]
)
def test_an_edited_link_is_an_edit(look: Callable[..., dict[str, Any]], export: Path, changes: dict[str, Any]) -> None:
    content = lines(export)
    content[5] = edited(content[5], **changes)
    write(export, content)
    assert ("EDITED", 6) in found(look())


@pytest.mark.parametrize("junk", [b"x\n", b"\n", b"[]\n", b"{}\n", b"[" * 100_000 + b"\n", b"\xff\n"])
def test_a_line_that_is_none(look: Callable[..., dict[str, Any]], export: Path, junk: bytes) -> None:
    content = lines(export)
    write(export, [*content[:5], junk, *content[6:]])
    assert found(look()) == [("EDITED", 6)]
    write(export, [*content[:5], junk, *content[5:]])
    assert found(look()) == [("INSERTED", 6)]
    write(export, [*content[:11], junk])
    assert found(look()) == [("EDITED", 12)]
    write(export, [*content, junk])
    assert found(look()) == [("EDITED", 13), ("INSERTED", 13)]


@pytest.mark.parametrize("seq", [1, 2, 7, 11])
def test_a_deleted_entry(look: Callable[..., dict[str, Any]], export: Path, seq: int) -> None:
    content = lines(export)
    write(export, content[: seq - 1] + content[seq:])
    answer = look()
    assert found(answer) == [("DELETED", seq)]
    assert answer["findings"][0]["text"] == f"entry {seq} is missing"


@pytest.mark.parametrize("left", [0, 1, 8, 9, 11])
def test_a_truncated_log(look: Callable[..., dict[str, Any]], export: Path, left: int) -> None:
    write(export, lines(export)[:left])
    assert found(look()) == [("TRUNCATED", left + 1)]


def test_an_inserted_entry(look: Callable[..., dict[str, Any]], export: Path, chain: list[ChainEntry]) -> None:
    content = lines(export)
    forged = chain_of([a_line() for _ in range(7)])
    for line in (content[6], edited(content[6], action="x"), forged[6].body + b"\n"):
        write(export, [*content[:7], line, *content[7:]])
        assert found(look()) == [("INSERTED", 7)]
    follows = edited(content[7], action="forged")  # it links, and takes the place of the eighth
    write(export, [*content[:7], follows, *content[7:]])
    assert ("INSERTED", 8) in found(look())


def test_an_entry_beyond_the_newest_checkpoint(
    look: Callable[..., dict[str, Any]], export: Path, chain: list[ChainEntry]
) -> None:
    body = edited(chain[-1].body, seq=13, prev=chain[-1].hash)
    write(export, [*lines(export), body])
    assert found(look()) == [("INSERTED", 13)]


@pytest.mark.parametrize(("first", "second"), [(1, 2), (3, 9), (11, 12), (1, 12)])
def test_reordered_entries(look: Callable[..., dict[str, Any]], export: Path, first: int, second: int) -> None:
    content = lines(export)
    content[first - 1], content[second - 1] = content[second - 1], content[first - 1]
    write(export, content)
    answer = look()
    assert {kind for kind, _ in found(answer)} == {"REORDERED"}
    assert ("REORDERED", first) in found(answer)


@pytest.mark.parametrize(("since", "named"), [(1, (1, 4)), (6, (5, 9)), (11, (10, 12))])
def test_a_rewritten_history(
    look: Callable[..., dict[str, Any]], export: Path, since: int, named: tuple[int, int]
) -> None:
    """All hashes recomputed: every entry follows from the one before, and only the checkpoints know better."""
    content = lines(export)
    previous = json.loads(content[since - 1])["prev"]
    for place in range(since - 1, 12):
        content[place] = edited(content[place], prev=previous, actor="nobody")
        previous = dpj_verify.hashlib.sha256(content[place][:-1]).hexdigest()
    write(export, content)
    answer = look()
    assert found(answer) == [("REWRITTEN", named[0])]
    assert f"entries {named[0]} to {named[1]} follow from each other" in answer["findings"][0]["text"]


def test_two_faults_have_two_lines(look: Callable[..., dict[str, Any]], export: Path) -> None:
    content = lines(export)
    content[1] = edited(content[1], action="x")
    del content[7]
    write(export, content)
    assert found(look()) == [("EDITED", 2), ("DELETED", 8)]


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_a_forked_checkpoint(
    look: Callable[..., dict[str, Any]], export: Path, chain: list[ChainEntry], signer: MemorySigner
) -> None:
    honest = checkpoints_of(chain, SIZES, signer)
    other = signed(replace(honest[1].checkpoint, root="ab" * 32), signer)
    write(export, [honest[0].content, honest[1].content, other.content, honest[2].content], "checkpoints.jsonl")
    assert ("FORKED", 9) in found(look())
    beside = signed(replace(honest[1].checkpoint, size=10, root="ab" * 32), signer)
    write(export, [honest[0].content, honest[1].content, beside.content, honest[2].content], "checkpoints.jsonl")
    assert ("FORKED", 10) in found(look())


def test_a_missing_checkpoint(look: Callable[..., dict[str, Any]], export: Path) -> None:
    content = lines(export, "checkpoints.jsonl")
    for left, named in (([1, 2], 9), ([0, 2], 12)):
        write(export, [content[place] for place in left], "checkpoints.jsonl")
        assert found(look()) == [("CHECKPOINT_MISSING", named)]
    write(export, [], "checkpoints.jsonl")
    assert ("CHECKPOINT_MISSING", 0) in found(look())


def test_checkpoints_out_of_order_or_twice(look: Callable[..., dict[str, Any]], export: Path) -> None:
    content = lines(export, "checkpoints.jsonl")
    write(export, [content[1], content[0], content[2]], "checkpoints.jsonl")
    assert found(look()) == [("CHECKPOINT_REORDERED", 4)]
    write(export, [content[0], content[1], content[1], content[2]], "checkpoints.jsonl")
    assert found(look()) == [("CHECKPOINT_REPEATED", 9)]


def test_a_checkpoint_that_nobody_signed(
    look: Callable[..., dict[str, Any]], export: Path, chain: list[ChainEntry], signer: MemorySigner
) -> None:
    honest = checkpoints_of(chain, SIZES, signer)
    moved = replace(honest[2], checkpoint=replace(honest[2].checkpoint, root="00" * 32))
    stranger = checkpoints_of(chain, SIZES, MemorySigner(9))[2]
    spaced = honest[2].content.replace(b'","', b'", "', 1)
    renamed = honest[2].content.replace(b"type", b"tyqe")
    keyless = edited(honest[2].content, key=[])
    for line in (moved.content, stranger.content, spaced, renamed, keyless, b"{}\n", b"x\n"):
        write(export, [honest[0].content, honest[1].content, line], "checkpoints.jsonl")
        assert ("CHECKPOINT_INVALID", 3) in found(look())


def test_truncation_down_to_an_older_checkpoint_needs_one_that_was_kept(
    look: Callable[..., dict[str, Any]], export: Path, tmp_path: Path, chain: list[ChainEntry], signer: MemorySigner
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_bytes(lines(export, "checkpoints.jsonl")[2])
    assert look("--known", kept)["verified"]
    write(export, lines(export)[:9])
    write(export, lines(export, "checkpoints.jsonl")[:2], "checkpoints.jsonl")
    assert look()["verified"]  # it is what an export of that day was
    assert found(look("--known", kept)) == [("TRUNCATED", 10)]
    other = checkpoints_of(a_chain(9), [9], signer)[0]
    kept.write_bytes(other.content)
    assert found(look("--known", kept)) == [("FORKED", 9)]


# --- the command -----------------------------------------------------------------------------------------------------


def test_it_runs_alone_and_says_one_line_per_finding(
    look: Callable[..., dict[str, Any]], export: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "dpj_verify.py"
    alone.write_bytes(FILE.read_bytes())
    command = [sys.executable, "-I", str(alone), "export", str(export), "--keys", str(tmp_path / "kept-keys.json")]
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = f"VERIFIED: tenant acme, entries 12, checkpoints 3, signed 12, checkpoint_time {TWELVE}\n"
    assert (good.returncode, good.stdout) == (0, told)
    write(export, lines(export)[1:7])
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert bad.stdout == "DELETED: entry 1 is missing\nTRUNCATED: the log ends at entry 7; 12 are signed\n"


def test_what_can_not_be_verified_is_no_verdict(
    export: Path, tmp_path: Path, signer: MemorySigner, capsys: Any
) -> None:
    keys = kept_keys(tmp_path, signer)
    bad = tmp_path / "bad.json"
    bad.write_text('{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "me", "x": "AAAA"}]}')
    number = {"kty": "OKP", "crv": "Ed25519", "x": 7}
    named = dpj_verify.hashlib.sha256(dpj_verify.canonical({**number})).digest()
    kid = dpj_verify.base64.urlsafe_b64encode(named).rstrip(b"=").decode()
    no_text = tmp_path / "no-text.json"
    no_text.write_text(json.dumps({"keys": [{**number, "kid": kid}]}))
    others = tmp_path / "others.json"
    others.write_bytes(checkpoints_of(a_chain(3, "other"), [3], signer, "other")[0].content)
    for arguments in (
        ("export", tmp_path / "nowhere", "--keys", keys),
        ("export", export, "--keys", tmp_path / "nowhere"),
        ("export", export, "--keys", bad),
        ("export", export, "--keys", no_text),
        ("export", export, "--keys", keys, "--known", bad),
        ("export", export, "--keys", keys, "--known", others),
        ("receipt", tmp_path / "nowhere", "--keys", keys),
    ):
        assert verified(capsys, *arguments)[0] == 2
    with pytest.raises(SystemExit) as ended:
        dpj_verify.main(["export", str(export)])
    assert ended.value.code == 2


def test_it_imports_the_standard_library_and_cryptography_alone() -> None:
    imported = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else name.name).partition(".")[0]
        for node in ast.walk(ast.parse(FILE.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported - {"cryptography"} <= sys.stdlib_module_names
