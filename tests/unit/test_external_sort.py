"""Lines come out in the order of their keys, whatever part of them memory takes."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from operations.external_sort import ExternalSort


@pytest.mark.parametrize(("run_bytes", "fan_in"), [(1, 2), (1, 3), (500, 2), (5_000, 64), (1 << 20, 64)])
def test_sorted_by_key(tmp_path: Path, run_bytes: int, fan_in: int) -> None:
    numbers = list(range(200))
    random.Random(7).shuffle(numbers)
    with ExternalSort(tmp_path, run_bytes=run_bytes, fan_in=fan_in) as lines:
        for number in numbers:
            lines.add(f"{number:04}", f"line\t{number}".encode())
        assert list(lines) == [f"line\t{number}\n".encode() for number in range(200)]
        assert list(tmp_path.iterdir()) == []


def test_nothing_at_all(tmp_path: Path) -> None:
    with ExternalSort(tmp_path) as lines:
        assert list(lines) == []


def test_memory_is_bounded_by_the_runs(tmp_path: Path) -> None:
    chosen = random.Random(7)
    line = b"x" * 500
    tracemalloc.start()
    try:
        with ExternalSort(tmp_path, run_bytes=200_000, fan_in=8) as lines:
            for _ in range(20_000):
                lines.add(f"{chosen.getrandbits(128):032x}", line)
            count = sum(1 for _ in lines)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 3_000_000  # of ten million bytes
