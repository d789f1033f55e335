"""Which libmagic is used: the system's, else the one in the package ``pylibmagic``.

The system's comes first because its distributor mends it. ``pylibmagic`` itself is not imported: it would change ``ctypes`` and the
environment of the whole process. Whoever wants ``magic`` takes it from here, so that the library is there before it looks for it.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Final

SONAME: Final = "libmagic.so.1"
PACKAGE: Final = "pylibmagic"


def system_has_it() -> bool:
    try:
        ctypes.CDLL(SONAME)
    except OSError:
        return False
    return True


def load() -> str | None:
    """Returns the table of patterns that goes with the library; None for the system's own."""
    if system_has_it():
        return None
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None  # python-magic says what is missing
    folder = Path(next(iter(found.submodule_search_locations)))
    # python-magic opens it by its name; the loader finds a library of that name that is open already.
    ctypes.CDLL(str(folder / SONAME), mode=ctypes.RTLD_GLOBAL)
    return str(folder / "magic.mgc")


TABLE: Final = load()

import magic  # noqa: E402 - the library comes first

__all__ = ["TABLE", "magic"]
