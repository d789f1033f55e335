"""The check that guards old events has to catch what would make them unreadable."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas import compatibility
from schemas.catalog import CURRENT, RELEASED


def test_this_release_reads_all_released_versions() -> None:
    assert compatibility.problems() == []
    assert compatibility.main() == 0


def _remove_field(schema: dict[str, Any]) -> None:
    """Reading without a field that was written is fine."""
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "details"]


def _add_with_default(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "added", "type": "string", "default": ""})


def _add_without_default(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "added", "type": "string"})


def _change_type(schema: dict[str, Any]) -> None:
    next(field for field in schema["fields"] if field["name"] == "details")["type"] = "long"


def _drop_null(schema: dict[str, Any]) -> None:
    field = next(field for field in schema["fields"] if field["name"] == "old_state")
    field["type"] = "string"
    del field["default"]


def _rename(schema: dict[str, Any]) -> None:
    schema["name"] = "AuditWritten"


@pytest.mark.parametrize(
    ("change", "readable"),
    [
        (_remove_field, True),
        (_add_with_default, True),
        (_add_without_default, False),
        (_change_type, False),
        (_drop_null, False),
        (_rename, False),
    ],
)
def test_a_change_is_judged_by_whether_old_events_stay_readable(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], readable: bool
) -> None:
    current = tmp_path / "avro"
    shutil.copytree(CURRENT, current)
    path = current / "AuditRecorded.avsc"
    schema = json.loads(path.read_text())
    change(schema)
    path.write_text(json.dumps(schema))
    found = compatibility.problems(current, RELEASED)
    assert (found == []) is readable
    assert all("AuditRecorded against 0.1.0" in line for line in found)


def test_every_release_counts_not_only_the_last(tmp_path: Path) -> None:
    """A default removed two releases later breaks only the oldest events."""
    released = tmp_path / "released"
    shutil.copytree(RELEASED / "0.1.0", released / "0.1.0")
    shutil.copytree(RELEASED / "0.1.0", released / "0.2.0")
    current = tmp_path / "avro"
    shutil.copytree(CURRENT, current)
    for folder, default in ((released / "0.2.0", {"default": ""}), (current, {})):
        path = folder / "DocumentErased.avsc"
        schema = json.loads(path.read_text())
        schema["fields"].append({"name": "added", "type": "string", **default})
        path.write_text(json.dumps(schema))
    found = compatibility.problems(current, released)
    assert [line.split(":")[0] for line in found] == ["DocumentErased against 0.1.0"]


def test_a_lost_schema_or_no_release_at_all_is_a_problem(tmp_path: Path) -> None:
    current, released = tmp_path / "avro", tmp_path / "released"
    shutil.copytree(CURRENT, current)
    (current / "DocumentErased.avsc").unlink()
    assert len(compatibility.problems(current, RELEASED)) == 1
    released.mkdir()
    assert len(compatibility.problems(CURRENT, released)) == 1


def test_the_command_says_why_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(compatibility, "problems", lambda: ["X against 0.1.0: reason"])
    assert compatibility.main() == 1
    assert "X against 0.1.0: reason" in capsys.readouterr().err
