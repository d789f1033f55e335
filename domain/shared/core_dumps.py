"""A process that dies leaves no image of its memory: that would hold documents, keys and tokens in the clear.

The limit alone does not do: where the kernel hands dumps to a program (``core_pattern`` begins with ``|``), it does not hold
(core(5)). A process that is not dumpable leaves none in any case, and nobody but root reads its memory, its environment or its
open files in /proc, or attaches to it (prctl(2), PR_SET_DUMPABLE). A program that it starts is dumpable again, and keeps the limit.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> None:
    """For this process and those that it forks, for good. Never fails: a system that knows no such thing dumps as it likes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
