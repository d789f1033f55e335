"""Landlock: no file may be opened, and no TCP port bound or connected to, whatever the process is allowed otherwise.

Numbers: Linux's ``linux/landlock.h``; the calls have one number on every machine (asm-generic).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
#: Rights over files that each version of the interface knows: execute to make_sym; refer; truncate; ioctl.
_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP: Final = 0b11
_TCP_SINCE: Final = 4
_SCOPES: Final = 0b11
_SCOPES_SINCE: Final = 6


class LandlockUnavailable(Exception):
    """The kernel has none, or it is switched off."""


def shut() -> None:
    """Restrict this process and its descendants for good: a ruleset without a rule. New privileges must have been given up.

    Raises LandlockUnavailable.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        result = libc.syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            raise LandlockUnavailable(errno.errorcode.get(ctypes.get_errno(), "landlock"))
        return int(result)

    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))
    files = max(rights for since, rights in _FILE_RIGHTS.items() if since <= version)
    network = _TCP if version >= _TCP_SINCE else 0
    scopes = _SCOPES if version >= _SCOPES_SINCE else 0
    # An older kernel takes the shorter structure: it refuses one that says more than it knows.
    fields = 1 if version < _TCP_SINCE else 2 if version < _SCOPES_SINCE else 3
    attributes = struct.pack(f"={fields}Q", *(files, network, scopes)[:fields])
    ruleset = call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    try:
        call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)
