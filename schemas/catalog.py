"""The schema files of this release, and the subjects they are registered under.

Subjects follow Confluent's TopicNameStrategy: ``<topic>-value``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from domain.events import EVENT_TYPES, Event

FOLDER: Final = Path(__file__).resolve().parent
CURRENT: Final = FOLDER / "avro"
RELEASED: Final = FOLDER / "released"


def subject_of(event_type: type[Event]) -> str:
    """The registry subject of an event's schema."""
    return f"{event_type.TOPIC}-value"


def schema_of(event_type: type[Event]) -> Any:
    """The schema of this release as parsed JSON; treat it as read-only."""
    return _load(event_type.SCHEMA)


def schema_text(event_type: type[Event]) -> str:
    """The schema in the one text form that is registered and looked up: layout changes of the file make no new version."""
    return text_of(schema_of(event_type))


def text_of(schema: Any) -> str:
    """That text form of a parsed schema."""
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)


def digest_of(schema: Any) -> str:
    """SHA-256 of a parsed schema's text form, lower-case hex."""
    return hashlib.sha256(text_of(schema).encode()).hexdigest()


def fingerprint_of(schema: Any) -> str:
    """The first 16 digits of it: what a record says of the schema that wrote it, whatever ids a registry gives."""
    return digest_of(schema)[:16]


@cache
def known_schemas() -> Mapping[str, tuple[str, Any]]:
    """Every schema that a release ever had, and this one's, by fingerprint: its subject and the parsed JSON."""
    subjects = {event_type.SCHEMA: subject_of(event_type) for event_type in EVENT_TYPES}
    paths = [*CURRENT.glob("*.avsc"), *RELEASED.glob("*/*.avsc")]
    loaded = ((path.stem, json.loads(path.read_text("utf-8"))) for path in paths)
    return {fingerprint_of(schema): (subjects[name], schema) for name, schema in loaded if name in subjects}


@cache
def _load(name: str) -> Any:
    return json.loads((CURRENT / f"{name}.avsc").read_text("utf-8"))
