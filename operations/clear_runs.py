"""Is any 64-byte run of a clear file found in stored bytes? An exact answer, in one quick pass over each.

A run of 64 bytes holds 57 whole 8-byte words, one beginning at each of its first 57 = 3 x 19 offsets. If the same run stands
at offset x of a clear file and y of a stored one, then by the Chinese remainder theorem there is exactly one i < 57 for
which x + i is a multiple of 19 and y + i a multiple of 3. So the clear files' words at multiples of 19 are put in a set, the
stored bytes' words at multiples of 3 are looked up in it, and each hit is compared byte by byte in both directions: it
counts only if 64 bytes or more agree. No such run can be missed, wherever it stands. Files shorter than 64 bytes have
none and are not judged. What this does not say: that no *shorter* run, and no compressed or encoded form, is there.
"""

from __future__ import annotations

import mmap
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RUN: Final = 64
_WORD: Final = 8
_CLEAR_STEP: Final = 19
_STORED_STEP: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """``length`` bytes of the file called ``clear`` stand at ``offset`` of ``stored``."""

    clear: str
    stored: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Search:
    """What was looked through, in bytes, and what was found: at most one finding for each stored file."""

    clear_bytes: int
    stored_files: int
    stored_bytes: int
    findings: tuple[Finding, ...]


def search(clear: Mapping[str, Path], stored: Iterable[Path]) -> Search:
    """Look for runs of the ``clear`` files (by name) in the ``stored`` ones. Files are mapped, not read into memory.

    A stored file that is gone by the time of its turn is left out, of the counts too.
    """
    words: set[int] = set()
    clear_bytes = 0
    for path in clear.values():
        with _mapped(path) as data:
            clear_bytes += len(data)
            for view in _views(data, _CLEAR_STEP):
                words.update(view)
    findings = []
    files = stored_bytes = 0
    for path in stored:
        try:
            with _mapped(path) as data:
                files += 1
                stored_bytes += len(data)
                found = _first_run(words, clear, path, data)
        except FileNotFoundError:
            continue
        if found is not None:
            findings.append(found)
    return Search(clear_bytes, files, stored_bytes, tuple(findings))


def _first_run(words: set[int], clear: Mapping[str, Path], path: Path, data: bytes | mmap.mmap) -> Finding | None:
    for word in _hits(words, data):
        found = _confirmed(word.to_bytes(_WORD, sys.byteorder), clear, path, data)
        if found is not None:
            return found
    return None


def _confirmed(word: bytes, clear: Mapping[str, Path], path: Path, data: bytes | mmap.mmap) -> Finding | None:
    """Whether one of the places where both have ``word`` is part of a run that both have."""
    for name, clear_path in clear.items():
        with _mapped(clear_path) as original:
            for there in _places(original, word):
                for here in _places(data, word):
                    before = _agreeing_before(original, there, data, here)
                    length = before + _agreeing_after(original, there, data, here)
                    if length >= RUN:
                        return Finding(name, path, here - before, length)
    return None


def _places(data: bytes | mmap.mmap, word: bytes) -> Iterator[int]:
    """Where ``word`` stands. Of a stretch of one repeated byte only both ends: two such stretches agree for 64 bytes if
    both are that long, or if what is around them agrees too, which needs their beginnings or their ends to coincide."""
    if word == word[:1] * _WORD:
        for stretch in re.finditer(re.escape(word[:1]) + b"{8,}", data, re.DOTALL):
            yield stretch.start()
            yield stretch.end() - _WORD
        return
    at = -1
    while (at := data.find(word, at + 1)) >= 0:
        yield at


def _agreeing_before(one: bytes | mmap.mmap, at: int, other: bytes | mmap.mmap, where: int) -> int:
    count = 0
    while count < min(at, where) and count < RUN and one[at - count - 1] == other[where - count - 1]:
        count += 1
    return count


def _agreeing_after(one: bytes | mmap.mmap, at: int, other: bytes | mmap.mmap, where: int) -> int:
    count = 0
    while at + count < len(one) and where + count < len(other) and one[at + count] == other[where + count]:
        count += 1
    return count


def _hits(words: set[int], data: bytes | mmap.mmap) -> Iterator[int]:
    """The words of ``data`` at multiples of the stored step that are in ``words``."""
    for view in _views(data, _STORED_STEP):
        yield from words.intersection(view)


def _views(data: bytes | mmap.mmap, step: int) -> Iterator[memoryview]:
    """The 8-byte words of ``data`` at multiples of ``step`` (which is odd), as one view for each alignment."""
    with memoryview(data) as whole:
        for alignment in range(_WORD):
            ends = alignment + max(0, len(data) - alignment) // _WORD * _WORD
            # alignment + 8 k is a multiple of step for the first time at this k, and then at every step-th.
            first = next(k for k in range(step) if (alignment + _WORD * k) % step == 0)
            with whole[alignment:ends] as trimmed, trimmed.cast("Q") as all_words, all_words[first::step] as chosen:
                yield chosen


@contextmanager
def _mapped(path: Path) -> Iterator[bytes | mmap.mmap]:
    with path.open("rb") as file:
        try:
            data: bytes | mmap.mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file can't be mapped
            yield b""
            return
        try:
            yield data
        finally:
            if isinstance(data, mmap.mmap):
                data.close()
