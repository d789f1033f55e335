"""Lag is computed from the broker's numbers alone, and its table fits a terminal."""

from __future__ import annotations

import pytest

from domain import consumers
from operations.kafka.lag import PartitionLag, Span, duration, next_offset, table_lines, total_lines, totals


@pytest.mark.parametrize(
    ("span", "committed", "reads"),
    [
        (Span(0, 10), None, 0),
        (Span(4, 10), None, 4),
        (Span(0, 10), 7, 7),
        (Span(8, 10), 3, 8),
        (Span(0, 10), 10, 10),
        (Span(0, 10), 12, 10),
    ],
)
def test_what_a_group_reads_next(span: Span, committed: int | None, reads: int) -> None:
    assert next_offset(span, committed) == reads


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (200_000, "2 d"), (30 * 86400, "30 d")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def _rows() -> list[PartitionLag]:
    return [
        PartitionLag(
            group=group,
            topic=topic,
            partition=partition,
            start=0,
            end=99_999_999_999,
            committed=None if partition == 0 else 89_999_999_999,
            lag=9_999_999_999,
            behind=None if partition == 0 else 30 * 86400.0,
        )
        for group, topics in consumers.groups().items()
        for topic in topics
        for partition in (0, 11, 999)
    ]


def test_tables_fit_eighty_columns_with_large_numbers() -> None:
    lines = [*table_lines(_rows()), *total_lines(totals(_rows()))]
    assert max(map(len, lines)) <= 80


def test_each_group_has_its_total_and_its_oldest_record() -> None:
    lines = table_lines(_rows())
    assert lines[0] == "dpj.integrity: lag 29999999997"
    assert lines[2].split() == ["dpj.document.uploaded", "0", "99999999999", "-", "9999999999", "-"]
    assert total_lines(totals(_rows()))[1].split() == ["dpj.integrity", "29999999997", "30", "d"]
