"""Ids that the repository gives its schemas: complete, and only ever added to."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas import fixed_ids
from schemas.catalog import CURRENT, RELEASED, digest_of
from schemas.fixed_ids import IDS, problems

Listed = list[dict[str, Any]]


@pytest.fixture
def current(tmp_path: Path) -> Path:
    folder = tmp_path / "avro"
    shutil.copytree(CURRENT, folder)
    return folder


def listed(folder: Path) -> Listed:
    found: Listed = json.loads((folder / IDS).read_text())
    return found


def write(folder: Path, ids: Listed) -> None:
    (folder / IDS).write_text(json.dumps(ids))


def change_schema(folder: Path) -> str:
    """The digest of the new version of a schema that is in the folder then."""
    path = folder / "DocumentErased.avsc"
    schema = json.loads(path.read_text())
    schema["fields"].append({"name": "added", "type": "string", "default": ""})
    path.write_text(json.dumps(schema, indent=4))
    return digest_of(schema)


def test_this_release_is_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert problems() == []
    assert fixed_ids.main() == 0
    assert "Every schema has its id" in capsys.readouterr().out


def test_a_file_s_layout_is_no_new_version(current: Path) -> None:
    path = current / "DocumentErased.avsc"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7))
    assert problems(current) == []


def test_a_new_version_needs_an_id_of_its_own(current: Path) -> None:
    digest = change_schema(current)
    [said] = problems(current)
    assert said.startswith("dpj.document.erased-value has a schema without an id")
    new = {"id": len(listed(current)) + 1, "subject": "dpj.document.erased-value", "version": 2, "sha256": digest}
    write(current, [*listed(current), new])
    assert problems(current) == []  # the first one's text is among the released ones


def _rewrite(ids: Listed) -> None:
    """As if the new schema had been the one of this id all along."""
    ids[6] |= {"sha256": ids[-1]["sha256"]}
    del ids[-1]


def _swap(ids: Listed) -> None:
    ids[0], ids[1] = {**ids[1], "id": 1}, {**ids[0], "id": 2}


def _repeat(ids: Listed) -> None:
    ids.append({**ids[0], "id": len(ids) + 1, "version": 2})


def _skip(ids: Listed) -> None:
    ids[-1] |= {"id": 99}


def _misnumber(ids: Listed) -> None:
    ids[-1] |= {"version": 7}


def _drop(ids: Listed) -> None:
    del ids[-1]


@pytest.mark.parametrize("change", [_rewrite, _swap, _repeat, _skip, _misnumber, _drop])
def test_what_is_listed_stays_as_it_is(current: Path, change: Callable[[Listed], None]) -> None:
    digest = change_schema(current)
    ids = listed(current)
    ids.append({"id": len(ids) + 1, "subject": "dpj.document.erased-value", "version": 2, "sha256": digest})
    write(current, ids)
    assert problems(current) == []
    change(ids)
    write(current, ids)
    assert problems(current) != []


def test_a_version_that_was_never_released_can_not_be_taken_back(current: Path) -> None:
    """Events of it may lie in topics: what an earlier commit listed is held against the list."""
    first = listed(current)
    digest = change_schema(current)
    new = {"id": len(first) + 1, "subject": "dpj.document.erased-value", "version": 2, "sha256": digest}
    write(current, [*first, new])
    committed = (current / IDS).read_text()
    shutil.copy(CURRENT / "DocumentErased.avsc", current)
    write(current, first)
    assert problems(current) == []
    assert problems(current, RELEASED, [committed]) == ["an earlier commit lists other ids; they are only ever added"]


def test_git_tells_what_earlier_commits_listed(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    git("init", "--quiet")
    for text in ("[]", "[1]"):
        (tmp_path / IDS).write_text(text)
        git("add", IDS)
        git("commit", "--quiet", "--message", text)
    assert fixed_ids.earlier_texts(tmp_path / IDS) == ["[1]", "[]"]


def test_no_git_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fixed_ids.earlier_texts(CURRENT / IDS) == []


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", '[{"id": 1}]', "none"])
def test_a_damaged_list_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match="no list"):
        fixed_ids.fixed_ids(text)
