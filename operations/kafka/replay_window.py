"""What a window of topics holds, without its contents: a scan in bounded memory and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime

from domain.dead_letters import REDRIVEN_FOR
from domain.refusals import ParameterInvalid
from domain.shared.ids import uuid_or_none
from operations.kafka.dead_letters import read_window
from processors.operators.replay import MOST_SCANNED, WindowRecord


def scan_window(
    bootstrap: str,
    topics: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    key: str | None,
    *,
    most: int = MOST_SCANNED,
    security: Mapping[str, str] | None = None,
) -> Sequence[WindowRecord]:
    """The records of these topics from ``since`` to before ``until``, of one ``key`` if it is given.

    Raises BrokerUnavailable, or ParameterInvalid if the window holds more than ``most`` records.
    """
    found: list[WindowRecord] = []
    scanned = 0
    for topic in topics:
        window = read_window(bootstrap, topic, _milliseconds(since), _milliseconds(until), security=security)
        with closing(window) as records:
            for record in records:
                scanned += 1
                if scanned > most:
                    raise ParameterInvalid(f"The window holds more than {most} records: choose a shorter one.")
                if key is not None and record.entity_id != key:
                    continue
                found.append(
                    WindowRecord(
                        topic=topic,
                        partition=record.place.partition,
                        offset=record.place.offset,
                        written_ms=record.place.written_ms,
                        event_id=uuid_or_none(record.headers.get("event-id", "")),
                        redriven_for=record.headers.get(REDRIVEN_FOR),
                    )
                )
    return found


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)
