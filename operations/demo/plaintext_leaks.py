"""Is any 64-byte run of a clear file found in stored bytes? An exact answer, in one quick pass over each.

A run of 64 bytes holds 57 whole 8-byte words, one beginning at each of its first 57 = 3 x 19 offsets. If the same run stands
at offset x of a clear file and y of a stored one, then by the Chinese remainder theorem there is exactly one i < 57 for
which x + i is a multiple of 19 and y + i a multiple of 3. So the clear files' words at multiples of 19 are put in a set, the
stored bytes' words at multiples of 3 are looked up in it, and each hit is compared byte by byte in both directions: it
counts only if 64 bytes or more agree and they are not one byte repeated (zeros tell nothing, and stores write zeros of
their own). No such run can be missed, wherever it stands. Files shorter than 64 bytes have none and are not judged. What
this does not say: that no *shorter* run, and no compressed or encoded form, is there.
"""

from __future__ import annotations

import mmap
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEAK_BYTES: Final = 64
_WORD: Final = 8
_CLEAR_STEP: Final = 19
_STORED_STEP: Final = 3


@dataclass(frozen=True, slots=True)
class PlaintextLeak:
    """``length`` bytes of the file called ``clear`` stand at ``offset`` of ``stored``."""

    clear: str
    stored: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class LeakSearch:
    """What was looked through, in bytes, and what was found: at most one finding for each stored file."""

    clear_bytes: int
    stored_files: int
    stored_bytes: int
    findings: tuple[PlaintextLeak, ...]


Data = bytes | mmap.mmap


def find_leaks(clear: Mapping[str, Path], stored: Iterable[Path]) -> LeakSearch:
    """Look for runs of the ``clear`` files (by name) in the ``stored`` ones. Files are mapped, not read into memory.

    A stored file that is gone by the time of its turn is left out, of the counts too.
    """
    with ExitStack() as opened:
        originals = {name: opened.enter_context(_mapped(path)) for name, path in clear.items()}
        words: set[int] = set()
        for original in originals.values():
            for view in _views(original, _CLEAR_STEP):
                words.update(view)
        files = stored_bytes = 0
        hits: dict[Path, set[int]] = {}
        for path in stored:
            with suppress(FileNotFoundError), _mapped(path) as data:
                files += 1
                stored_bytes += len(data)
                hits[path] = {word for view in _views(data, _STORED_STEP) for word in words.intersection(view)}
        del words
        places = _clear_places(originals, set().union(*hits.values()))
        found = [_first_run(path, words_there, originals, places) for path, words_there in hits.items() if words_there]
    clear_bytes = sum(path.stat().st_size for path in clear.values())
    return LeakSearch(clear_bytes, files, stored_bytes, tuple(finding for finding in found if finding is not None))


def _clear_places(originals: Mapping[str, Data], words: set[int]) -> dict[int, list[tuple[str, int]]]:
    """Where the clear files have each of these few words: at multiples of the clear step, or the ends of stretches."""
    places: dict[int, list[tuple[str, int]]] = {word: [] for word in words}
    uniform = {word for word in words if _is_uniform(_bytes(word))}
    for name, original in originals.items():
        for word in uniform:
            places[word] += ((name, at) for at in _places(original, _bytes(word)))
        others = words - uniform
        for view, at in _views_at(original, _CLEAR_STEP):
            if not others.isdisjoint(view):
                for index, word in enumerate(view):
                    if word in others:
                        places[word].append((name, at + index * _WORD * _CLEAR_STEP))
    return places


def _first_run(
    path: Path, words: set[int], originals: Mapping[str, Data], places: Mapping[int, list[tuple[str, int]]]
) -> PlaintextLeak | None:
    """The first place where a clear file and the stored one agree for RUN bytes around one of ``words``."""
    with suppress(FileNotFoundError), _mapped(path) as data:
        for word in words:
            for here in _places(data, _bytes(word)):
                for name, there in places[word]:
                    before = _agreeing_before(originals[name], there, data, here)
                    length = before + _agreeing_after(originals[name], there, data, here)
                    if length >= LEAK_BYTES and not _is_uniform(data[here - before : here - before + length]):
                        return PlaintextLeak(name, path, here - before, length)
    return None


def _bytes(word: int) -> bytes:
    return word.to_bytes(_WORD, sys.byteorder)


def _is_uniform(data: bytes) -> bool:
    return data == data[:1] * len(data)


def _places(data: Data, word: bytes) -> Iterator[int]:
    """Where ``word`` stands. Of a stretch of one repeated byte only both ends: for two stretches to be part of a run with
    anything else in it, their beginnings or their ends have to coincide."""
    if _is_uniform(word):
        for stretch in re.finditer(re.escape(word[:1]) + b"{8,}", data, re.DOTALL):
            yield stretch.start()
            yield stretch.end() - _WORD
        return
    at = -1
    while (at := data.find(word, at + 1)) >= 0:
        yield at


def _agreeing_before(one: Data, at: int, other: Data, where: int) -> int:
    count = 0
    while count < min(at, where) and count < LEAK_BYTES and one[at - count - 1] == other[where - count - 1]:
        count += 1
    return count


def _agreeing_after(one: Data, at: int, other: Data, where: int) -> int:
    count = 0
    while at + count < len(one) and where + count < len(other) and one[at + count] == other[where + count]:
        count += 1
    return count


def _views(data: Data, step: int) -> Iterator[memoryview]:
    """The 8-byte words of ``data`` at multiples of ``step`` (which is odd), as one view for each alignment."""
    return (view for view, _ in _views_at(data, step))


def _views_at(data: Data, step: int) -> Iterator[tuple[memoryview, int]]:
    """The same, each with the offset of its first word; the following ones are ``8 * step`` bytes apart."""
    with memoryview(data) as whole:
        for alignment in range(_WORD):
            ends = alignment + max(0, len(data) - alignment) // _WORD * _WORD
            # alignment + 8 k is a multiple of step for the first time at this k, and then at every step-th.
            first = next(k for k in range(step) if (alignment + _WORD * k) % step == 0)
            with whole[alignment:ends] as trimmed, trimmed.cast("Q") as all_words, all_words[first::step] as chosen:
                yield chosen, alignment + _WORD * first


@contextmanager
def _mapped(path: Path) -> Iterator[Data]:
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file can't be mapped
            yield b""
            return
        try:
            yield data
        finally:
            data.close()
