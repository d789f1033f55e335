"""The ids that the repository itself gives its schemas, and the check that none is ever taken back.

``schemas/avro/ids.json`` lists every version of every subject in the order of their ids: ``id``, ``subject``, ``version`` (counted
from 1) and the SHA-256 of the schema's text. A release copies it with the schemas to ``schemas/released/<version>``.

``python -m schemas.fixed_ids`` exits 1 with the reasons if a schema of the repository has no id, an id has no schema any more, or
what a release or an earlier commit lists is not listed alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from domain.events import EVENT_TYPES
from schemas.catalog import CURRENT, RELEASED, digest_of, subject_of, text_of

IDS: Final = "ids.json"
_GIT_SECONDS: Final = 60
_SUBJECTS: Final = {event_type.SCHEMA: subject_of(event_type) for event_type in EVENT_TYPES}


@dataclass(frozen=True, slots=True)
class FixedId:
    """One version of a subject. ``version`` counts from 1; ``sha256``: of the schema's text (``catalog.text_of``), lower-case hex."""

    id: int
    subject: str
    version: int
    sha256: str


def fixed_ids(text: str) -> Sequence[FixedId]:
    """The list that a file ``ids.json`` holds. Raises ValueError if it holds none."""
    try:
        found = [FixedId(**one) for one in json.loads(text)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{IDS} is no list of schema ids") from error
    if not found:
        raise ValueError(f"{IDS} is no list of schema ids: it is empty")
    return found


def texts_in(current: Path, released: Path) -> Iterator[tuple[str, str]]:
    """(subject, text) of every schema of the repository; those of releases once for each release."""
    for folder in (*sorted(path for path in released.iterdir() if path.is_dir()), current):
        for file in sorted(folder.glob("*.avsc")):
            yield _SUBJECTS.get(file.stem, file.stem), text_of(json.loads(file.read_text("utf-8")))


def problems(current: Path = CURRENT, released: Path = RELEASED, earlier: Sequence[str] = ()) -> list[str]:
    """One line for each fault of the list in ``current``; empty when all is well. ``earlier``: texts that it had in earlier commits."""
    listed = fixed_ids((current / IDS).read_text("utf-8"))
    found = _unordered(listed)
    have = {(one.subject, one.sha256) for one in listed}
    there = {(subject, digest_of(json.loads(text))): subject for subject, text in texts_in(current, released)}
    found += [
        f"{subject} has a schema without an id: add one to {IDS}" for key, subject in there.items() if key not in have
    ]
    found += [
        f"the schema of id {one.id} ({one.subject}) is gone or changed: events that name it could not be read"
        for one in listed
        if (one.subject, one.sha256) not in there
    ]
    before = [(file.parent.name, file.read_text("utf-8")) for file in sorted(released.glob(f"*/{IDS}"))]
    before += [("an earlier commit", text) for text in earlier]
    found += [
        f"{where} lists other ids; they are only ever added" for where, text in before if not _continues(listed, text)
    ]
    return found


def _unordered(listed: Sequence[FixedId]) -> list[str]:
    found: list[str] = []
    versions: dict[str, int] = {}
    for place, one in enumerate(listed, 1):
        versions[one.subject] = versions.get(one.subject, 0) + 1
        if one.id != place:
            found.append(f"id {one.id} stands in place {place}")
        if one.version != versions[one.subject]:
            found.append(f"id {one.id} is version {versions[one.subject]} of {one.subject}, not {one.version}")
    if len({(one.subject, one.sha256) for one in listed}) < len(listed):
        found.append("a schema has two ids")
    return found


def _continues(listed: Sequence[FixedId], text: str) -> bool:
    earlier = fixed_ids(text)
    return list(listed[: len(earlier)]) == list(earlier)


def earlier_texts(file: Path) -> list[str]:
    """What ``file`` was in each commit that touched it; none where there is no git history."""
    commits = _git(file, "log", "--format=%H", "--diff-filter=AM", "--", file.name).split()
    return [text for commit in commits if (text := _git(file, "show", f"{commit}:./{file.name}"))]


def _git(file: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(file.parent), *words],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def main() -> int:
    """Print what is wrong; exit status 0 or 1."""
    found = problems(earlier=earlier_texts(CURRENT / IDS))
    for line in found:
        sys.stderr.write(f"schema ids: {line}\n")
    if not found:
        sys.stdout.write("Every schema has its id, and every id its schema.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
