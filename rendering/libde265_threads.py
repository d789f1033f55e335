"""Keeps the HEVC decoder of pi-heif from starting a thread, which a document's process may not have.

libheif asks libde265 for one worker thread for each picture, whatever it is told (``libde265_new_decoder2``), and libde265 1.1 ends the
process if there is none to be had; without the call it decodes in the thread that asks it to. So libheif's entry for that function, in
the table through which it calls other libraries, is pointed at another function of libde265 that takes the same decoder and changes
nothing. Tables: System V ABI, chapters 4 and 5; ``elf(5)``. 64-bit Linux only, as the filter is.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ASKED: Final = b"de265_start_worker_threads"
_HARMLESS: Final = "de265_get_number_of_input_bytes_pending"

_PT_DYNAMIC: Final = 2
_STRINGS, _SYMBOLS, _RELOCATIONS, _RELOCATIONS_SIZE, _PLT_SIZE, _PLT = 5, 6, 7, 8, 2, 23
_HEADER_BYTES, _DYNAMIC_BYTES, _RELOCATION_BYTES, _SYMBOL_BYTES = 56, 16, 24, 24


def without_threads() -> bool:
    """Whether libde265 will start no thread from now on. Call it after ``pi_heif`` is imported, and before confinement."""
    heif, decoder = _loaded("libheif"), _loaded("libde265")
    if heif is None or decoder is None:
        return False
    harmless = ctypes.cast(getattr(ctypes.CDLL(decoder[1]), _HARMLESS), ctypes.c_void_p).value
    slots = list(_slots(heif[0]))
    if harmless is None or not slots:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    for slot in slots:
        page = slot & ~(mmap.PAGESIZE - 1)
        # Read-only by now, or not: it shares its page with what has to stay writable.
        if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE) != 0:
            return False
        ctypes.c_uint64.from_address(slot).value = harmless
    return True


def _loaded(name: str) -> tuple[int, str] | None:
    """Where a library of this process begins, and its file."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split(maxsplit=5)
        if len(words) == 6 and Path(words[5]).name.startswith(name) and int(words[2], 16) == 0:
            return int(words[0].partition("-")[0], 16), words[5]
    return None


def _slots(base: int) -> Iterator[int]:
    """Addresses of the entries for the function in the library that begins at ``base``."""
    dynamic = dict(_dynamic(base))
    strings, symbols = (_address(base, dynamic[tag]) for tag in (_STRINGS, _SYMBOLS))
    for table, size in ((_PLT, _PLT_SIZE), (_RELOCATIONS, _RELOCATIONS_SIZE)):
        if table not in dynamic:
            continue
        start = _address(base, dynamic[table])
        for at in range(start, start + dynamic[size], _RELOCATION_BYTES):
            symbol = symbols + _SYMBOL_BYTES * (_word(at + 8) >> 32)
            if ctypes.string_at(strings + (_word(symbol) & 0xFFFF_FFFF)) == _ASKED:
                yield base + _word(at)


def _dynamic(base: int) -> Iterator[tuple[int, int]]:
    headers, count = base + _word(base + 32), _word(base + 56) & 0xFFFF
    for at in range(headers, headers + _HEADER_BYTES * count, _HEADER_BYTES):
        if _word(at) & 0xFFFF_FFFF == _PT_DYNAMIC:
            entry = base + _word(at + 16)
            while _word(entry):
                yield _word(entry), _word(entry + 8)
                entry += _DYNAMIC_BYTES


def _address(base: int, value: int) -> int:
    """glibc writes addresses into the table where other loaders leave offsets."""
    return value if value >= base else base + value


def _word(at: int) -> int:
    return int(ctypes.c_uint64.from_address(at).value)
