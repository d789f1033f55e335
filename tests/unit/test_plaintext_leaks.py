"""The search for clear bytes finds every run of 64 bytes, wherever it stands, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from operations.demo.plaintext_leaks import LEAK_BYTES, find_leaks

RANDOM = random.Random(20260101)


def _clear(size: int) -> bytes:
    return bytes(byte & 0x7F for byte in RANDOM.randbytes(size))


def _noise(size: int) -> bytes:
    """Bytes that no clear file of these tests has, so that no neighbour of a planted run agrees by chance."""
    return bytes(byte | 0x80 for byte in RANDOM.randbytes(size))


def _files(folder: Path, clear: bytes, stored: bytes) -> tuple[dict[str, Path], list[Path]]:
    (folder / "clear").write_bytes(clear)
    (folder / "stored").write_bytes(stored)
    return {"sample": folder / "clear"}, [folder / "stored"]


@pytest.mark.parametrize("in_clear", [*range(57), 200 - LEAK_BYTES])
def test_a_planted_run_is_found_at_every_pair_of_remainders(tmp_path: Path, in_clear: int) -> None:
    clear = _clear(200)
    for in_stored in (0, 1, 2, 3, 5, 7, 8, 56, 300 - LEAK_BYTES):
        stored = bytearray(_noise(300))
        stored[in_stored : in_stored + LEAK_BYTES] = clear[in_clear : in_clear + LEAK_BYTES]
        found = find_leaks(*_files(tmp_path, clear, bytes(stored)))
        assert [(one.clear, one.offset) for one in found.findings] == [("sample", in_stored)]
        assert found.findings[0].length == LEAK_BYTES


def test_one_byte_less_is_no_run(tmp_path: Path) -> None:
    for in_clear in range(57):
        clear = _clear(200)
        stored = bytearray(_noise(300))
        stored[100 : 100 + LEAK_BYTES - 1] = clear[in_clear : in_clear + LEAK_BYTES - 1]
        assert find_leaks(*_files(tmp_path, clear, bytes(stored))).findings == ()


def test_a_stored_copy_is_found_as_a_whole(tmp_path: Path) -> None:
    clear = RANDOM.randbytes(100_000)
    found = find_leaks(*_files(tmp_path, clear, b"header" + clear))
    assert len(found.findings) == 1
    assert found.findings[0].length >= LEAK_BYTES
    assert (found.clear_bytes, found.stored_files, found.stored_bytes) == (100_000, 1, 100_006)


@pytest.mark.parametrize("length", [8, 64, 5_000])
def test_stretches_of_one_byte_tell_nothing(tmp_path: Path, length: int) -> None:
    clear = _clear(50) + bytes(10_000) + _clear(50)
    stored = _noise(50) + bytes(length) + _noise(50)
    assert find_leaks(*_files(tmp_path, clear, stored)).findings == ()


@pytest.mark.parametrize("at_the_start", [True, False])
@pytest.mark.parametrize("more", [0, 1, 7, 500])
def test_a_stretch_with_one_more_byte_that_agrees_counts(tmp_path: Path, at_the_start: bool, more: int) -> None:
    shared = b"a" + bytes(LEAK_BYTES - 1) if at_the_start else bytes(LEAK_BYTES - 1) + b"a"
    longer = shared + bytes(more) if at_the_start else bytes(more) + shared
    clear = _clear(50) + b"x" + longer + b"x" + _clear(50)
    stored = _noise(51) + shared + _noise(50)
    assert [one.length for one in find_leaks(*_files(tmp_path, clear, stored)).findings] == [LEAK_BYTES]


@pytest.mark.parametrize("before", [0, 20, 44])
def test_a_run_with_a_stretch_inside_is_found(tmp_path: Path, before: int) -> None:
    run = RANDOM.randbytes(before) + bytes(20) + RANDOM.randbytes(LEAK_BYTES - 20 - before)
    clear = bytes(500) + b"a" + run + b"b" + bytes(500)
    stored = RANDOM.randbytes(90) + run + RANDOM.randbytes(90)
    assert find_leaks(*_files(tmp_path, clear, stored)).findings


@pytest.mark.parametrize("size", [0, 1, 7, 8, 63])
def test_short_and_empty_files_have_no_run(tmp_path: Path, size: int) -> None:
    clear = RANDOM.randbytes(size)
    found = find_leaks(*_files(tmp_path, clear, clear))
    assert found.findings == ()
    assert found.clear_bytes == size


def test_every_stored_file_is_judged(tmp_path: Path) -> None:
    clear = RANDOM.randbytes(1_000)
    (tmp_path / "clear").write_bytes(clear)
    for number in range(3):
        (tmp_path / str(number)).write_bytes(RANDOM.randbytes(500) if number == 1 else clear[number * 10 :])
    found = find_leaks({"sample": tmp_path / "clear"}, [tmp_path / str(number) for number in range(3)])
    assert [finding.stored.name for finding in found.findings] == ["0", "2"]
    assert found.stored_files == 3
