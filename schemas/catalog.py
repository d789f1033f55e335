"""The schema files of this release, and the subjects they are registered under.

Subjects follow Confluent's TopicNameStrategy: ``<topic>-value``.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from domain.events import Event

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


@cache
def _load(name: str) -> Any:
    return json.loads((CURRENT / f"{name}.avsc").read_text("utf-8"))
