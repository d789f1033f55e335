"""Many lines brought into the order of their keys in bounded memory: runs are sorted in memory, kept in files and merged."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

#: Bytes of lines in memory, about; and files of one size that are merged at once.
RUN_BYTES: Final = 16 << 20
FAN_IN: Final = 64
#: What a line in memory costs beside its bytes.
_LINE_COST: Final = 100


class ExternalSort:
    """Lines with keys, to be given in the order of these, equal keys in that of the lines. A key has no tab, neither has a line end.

    Runs live in files of ``folder`` that have no name there, so that a process that dies leaves none.
    """

    def __init__(self, folder: Path, *, run_bytes: int = RUN_BYTES, fan_in: int = FAN_IN) -> None:
        self._folder = folder
        self._run_bytes = run_bytes
        self._fan_in = fan_in
        self._lines: list[bytes] = []
        self._bytes = 0
        self._levels: list[list[IO[bytes]]] = []
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._files.close()

    def add(self, key: str, line: bytes) -> None:
        held = key.encode() + b"\t" + line + b"\n"
        self._lines.append(held)
        self._bytes += len(held) + _LINE_COST
        if self._bytes >= self._run_bytes:
            self._store(sorted(self._lines), 0)
            self._lines, self._bytes = [], 0

    def __iter__(self) -> Iterator[bytes]:
        """The lines, each with its end. Nothing may be added meanwhile."""
        return (line for _, line in self.items())

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and lines, each line with its end. Nothing may be added meanwhile."""
        runs = _rewound([run for level in self._levels for run in level])
        for held in heapq.merge(*runs, sorted(self._lines)):
            key, _, line = held.partition(b"\t")
            yield key, line

    def _store(self, lines: Iterable[bytes], level: int) -> None:
        """As a run; as many of a level as may be merged become one of the next."""
        file = self._files.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115 - longer than this call
        file.writelines(lines)
        if len(self._levels) == level:
            self._levels.append([])
        runs = self._levels[level]
        runs.append(file)
        if len(runs) >= self._fan_in:
            self._store(heapq.merge(*_rewound(runs)), level + 1)
            for run in runs:
                run.close()
            runs.clear()


def _rewound(runs: list[IO[bytes]]) -> list[IO[bytes]]:
    for run in runs:
        run.seek(0)
    return runs
