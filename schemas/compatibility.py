"""Can this release read every event that any earlier release wrote (BACKWARD_TRANSITIVE)?

``python -m schemas.compatibility`` compares ``schemas/avro`` with each folder of ``schemas/released`` by the rules of the
official ``avro`` package, and exits 1 with the reason if not. A release copies ``schemas/avro`` to ``schemas/released/<version>``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

from schemas.catalog import CURRENT, RELEASED

_new_checker: Any = ReaderWriterCompatibilityChecker  # the package says it is typed, this class is not


def problems(current: Path = CURRENT, released: Path = RELEASED) -> list[str]:
    """One line per schema of a release that the current one can't read, or that is gone; empty when all is well."""
    found: list[str] = []
    versions = sorted(folder for folder in released.iterdir() if folder.is_dir())
    if not versions:
        return [f"{released.name}: there is no released version to compare with"]
    for version in versions:
        for old in sorted(version.glob("*.avsc")):
            new = current / old.name
            found += [f"{old.stem} against {version.name}: {reason}" for reason in _reasons(new, old)]
    return found


def _reasons(new: Path, old: Path) -> list[str]:
    if not new.exists():
        return ["the schema is gone, so its events can no longer be read"]
    reader, writer = parse(new.read_text("utf-8")), parse(old.read_text("utf-8"))
    result = _new_checker().get_compatibility(reader=reader, writer=writer)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    return [f"{message} (at {place})" for message, place in zip(result.messages, result.locations, strict=False)] or [
        "incompatible"
    ]


def main() -> int:
    """Print what is wrong; exit status 0 or 1."""
    found = problems()
    for line in found:
        sys.stderr.write(f"schema incompatible: {line}\n")
    if not found:
        sys.stdout.write("Every schema reads all released versions.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
